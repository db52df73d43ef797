# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What parsers are given in earnest: the text of tools, pages of devices."""

import json
from typing import Any

_NAA = bytes.fromhex('01030010 6001405a1b2c3d4e5f60718293a4b5c6')
_T10 = b'\x02\x01\x00\x18LIO-ORG block   :serial\0'
_PORT = bytes.fromhex('01140004 00000001')
_IDENTIFIERS = _NAA + _T10 + _PORT
#: Vital product data.
PAGES = (
    b'\0\x83' + len(_IDENTIFIERS).to_bytes(2, 'big') + _IDENTIFIERS,
    b'\0\x80\0\x0c  0123456789',
)

#: Identify data of NVMe.
DESCRIPTORS = bytes.fromhex(
    '01080000 0011223344556677'
    '02100000 00112233445566778899aabbccddeeff'
    '03100000 ffeeddccbbaa99887766554433221100'
    '04010000 00'
).ljust(256, b'\0')
NAMESPACE = (2048).to_bytes(8, 'little').ljust(128, b'\0') + (
    9 << 16
).to_bytes(4, 'little')

#: cryptsetup luksDump
HEADERS = (
    """\
LUKS header information
Version:       \t2
Epoch:         \t3
Metadata area: \t16384 [bytes]
Keyslots area: \t16744448 [bytes]
UUID:          \tc12f3848-f951-49d1-984c-1d99049282d7
Label:         \t(no label)

Data segments:
  0: crypt
\toffset: 16777216 [bytes]
\tcipher: aes-xts-plain64

Keyslots:
  0: luks2
\tKey:        512 bits
\tCipher:     aes-xts-plain64
\tPBKDF:      argon2id
\tTime cost:  4
\tMemory:     1048576
  1: luks2
\tPBKDF:      pbkdf2
\tIterations: 1000000
Tokens:
Digests:
  0: pbkdf2
\tIterations: 1000
""",
    """\
LUKS header information for /dev/sda

Version:       \t1
Cipher name:   \taes
Cipher mode:   \txts-plain64
Payload offset:\t4096
MK bits:       \t512
MK iterations: \t1000

Key Slot 0: ENABLED
\tIterations:         \t1000
Key Slot 1: DISABLED
""",
)
#: cryptsetup status
STATUS = """\
/dev/mapper/attachworker-0a is active and is in use.
  type:    LUKS2
  cipher:  aes-xts-plain64
  keysize: 512 bits
  device:  /dev/sda
  sector size:  512
  offset:  32768 sectors
  size:    2064384 sectors
"""

#: multipathd
MAP = json.dumps(
    {
        'major_version': 0,
        'map': {
            'name': 'mpatha',
            'uuid': '36001405a1b2c3d4e5f60718293a4b5c6',
            'sysfs': 'dm-0',
            'path_groups': [
                {
                    'selector': 'service-time 0',
                    'paths': [
                        {'dev': 'sda', 'dev_t': '8:0', 'dm_st': 'active'},
                        {'dev': 'sdb', 'dev_t': '8:16', 'dm_st': 'failed'},
                    ],
                }
            ],
        },
    },
    indent=3,
)
PATHS = 'sda 36001405a1b2c3d4e5f60718293a4b5c6\nsdb \nok\n\n'
WWIDS = (
    '# Multipath wwids, Version : 1.0\n#\n/36001405a1b2c3d4/\n/0QEMU a b/\n'
)

#: iscsiadm
TARGETS = """\
iscsiadm: a warning
192.0.2.1:3260,1 iqn.2026-01.example:kK
[2001:db8::1]:3260,2 iqn.2026-01.example:kk
192.0.2.1:99999,-1 iqn.2026-01.example:kK
storage.example:3260,1 iqn.2026-01.example:other
"""
IFACE = """\
# BEGIN RECORD 2.1.8
iface.iscsi_ifacename = storage
iface.net_ifacename = eth1
iface.hwaddress = <empty>
iface.initiatorname = iqn.2026-01.example:host
# END RECORD
"""

#: /proc
MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:21 / /proc rw,nosuid - proc proc rw
24 22 253:3 / /mnt/a\\040b rw shared:2 master:1 - xfs /dev/mapper/a rw
25 22 0:40 / /run/user/fuse rw -  fuse  rw,user_id=0
26 22 0:31 /sub /data rw - btrfs /dev/sdb rw,subvol=/sub
"""
SWAPS = """\
Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority
/dev/sda2                               partition\t999420\t\t0\t\t-2
/data/swap\\040file                     file\t\t1024\t\t0\t\t-3
"""

#: Files of the host
EXCLUSIONS = """\
[exclusions]
exclusion = transport=tcp;traddr=192.0.2.10
exclusion = nqn=nqn.b
[others]
exclusion = nqn=nqn.a
"""
IDENTITY = """\
nqn.2014-08.org.nvmexpress:uuid:c12f3848-f951-49d1-984c-1d99049282d7
c12f3848-f951-49d1-984c-1d99049282d7
"""
#: As somebody has told them to the kernel
MONITORS = ('192.0.2.1:6789', '[2001:db8::1]:3300', '[v2:192.0.2.1:3300/0]')


def as_json(value: Any) -> str:
    return json.dumps(value)
