# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The option for images of Ceph that the privileged helper reads by itself.

It is the helper that reads keyrings of the host.
"""

from oslo_config import cfg

GROUP = 'rbd'

KEYRING_USERS = cfg.ListOpt(
    'keyring_users',
    default=['cinder', 'cinder-ceph', 'openstack'],
    help='Users of Ceph, without "client.", whose keyring in /etc/ceph of '
    'this host is used for a request that brings no key (keyring). Whoever '
    'may write to the bus can have any image attached that one of these may '
    'read, so name those that Cinder has its volumes with (rbd_user) and '
    'nobody else; never admin, who may do anything in the cluster. Empty: no '
    'keyring of this host is used. The privileged helper reads this from its '
    'own configuration.',
)
