# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""What an operator can set for iSCSI."""

from typing import Any

from oslo_config import cfg
from oslo_config import types

_DIGESTS = ['None', 'CRC32C', 'CRC32C,None', 'None,CRC32C']
_DIGEST_HELP = (
    ' The first that the target can do is used. Unset: as iscsid.conf says.'
)


def options() -> list[Any]:
    return [
        cfg.IntOpt(
            'login_timeout',
            default=15,
            min=1,
            max=600,
            help='Seconds that a portal may take to answer, and again '
            'that a login may take.',
        ),
        cfg.IntOpt(
            'scan_attempts',
            default=3,
            min=1,
            max=100,
            help='How often a LUN is looked for before it counts as not '
            'mapped; some arrays need a moment after mapping. Attempts '
            'are one second apart.',
        ),
        cfg.IntOpt(
            'device_timeout',
            default=30,
            min=1,
            max=600,
            help='Seconds that the kernel may take to make, or to '
            'remove, the block device of a LUN.',
        ),
        cfg.ListOpt(
            'chap_algorithms',
            item_type=types.String(
                choices=['MD5', 'SHA1', 'SHA256', 'SHA3-256']
            ),
            default=[],
            help='Digest algorithms that are offered for CHAP, of a session '
            'and of a discovery, the preferred one first. Empty: as '
            'iscsid.conf says.',
        ),
        cfg.StrOpt(
            'header_digest',
            choices=_DIGESTS,
            help='Checksum over the headers of iSCSI.' + _DIGEST_HELP,
        ),
        cfg.StrOpt(
            'data_digest',
            choices=_DIGESTS,
            help='Checksum over the data of iSCSI.' + _DIGEST_HELP,
        ),
        cfg.IntOpt(
            'replacement_timeout',
            default=5,
            min=0,
            max=86400,
            help='Seconds after which a session that has lost its connection '
            'fails what waits for it, where the attach asked for multipath: '
            'another path can do it then. The default is what multipathd '
            'sets by itself (its fast_io_fail_tmo). A volume with a single '
            'path waits as long as iscsid.conf says.',
        ),
        cfg.ListOpt(
            'os_brick_lock_paths',
            default=[],
            help='Directories, each the lock_path of a service on this host '
            'that uses os-brick (option lock_path of its group os_brick or '
            "oslo_concurrency). The worker takes os-brick's lock file "
            'os-brick-connect_volume there from a login until the device is '
            'visible, and from the last look for users of a session until '
            'its logout, so that neither ends a session that the other is '
            'about to use. An attach that is stuck lets go of it after 10 s. '
            'The user of the worker has to be allowed to write '
            'to that file. Empty: no lock is taken.',
        ),
    ]
