# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The option that the connector for local volumes shares with the helper.

The worker refuses what is elsewhere with an error that its caller
understands; the privileged helper, which does not trust the worker, reads the
option by itself.
"""

from oslo_config import cfg

from attachworker.conf import types

GROUP = 'local'

ROOTS = cfg.ListOpt(
    'local_roots',
    item_type=types.AbsolutePath(),
    default=[],
    help='Directories whose block devices and files may be attached as '
    'volumes, for example /dev/vg1 or /var/lib/volumes; or a pattern for the '
    'names of block devices, /dev/drbd* where Cinder has LINSTOR. None by '
    'default: whoever may write to the bus could have any disk of this host '
    'otherwise. For files, name the directory itself and not a symbolic link, '
    'and let nobody but its owner write to it (chmod go-w): whoever may do '
    'that chooses what is attached.',
)
