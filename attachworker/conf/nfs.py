# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The option for shares of NFS that the privileged helper reads by itself.

A worker that was taken over could have any directory of the host covered by a
mount otherwise.
"""

from attachworker.conf import types

GROUP = 'nfs'

MOUNT_POINT_BASE = types.path_opt(
    'mount_point_base',
    help='Directory below which shares are mounted, each in a directory that '
    'is called as os-brick, Cinder and Nova call it. Without it no volume on '
    'NFS is attached: whoever may write to the bus could have this host mount '
    'shares otherwise. Name what Nova or Cinder of this host has as '
    'nfs_mount_point_base, for example /var/lib/nova/mnt, so that both see '
    'the same mounts. The directory has to be there, and no symbolic link '
    'be on the way to it. The privileged helper reads this from its own '
    'configuration.',
)
