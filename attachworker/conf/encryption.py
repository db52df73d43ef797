# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The options on LUKS headers that the privileged helper reads by itself.

It is the helper that has cryptsetup obey a header, or make one.
"""

from oslo_config import cfg

ITERATIONS = cfg.IntOpt(
    'encryption_iterations',
    default=1_000_000_000,
    min=1_000_000,
    max=1 << 50,
    help='How much work the header of a LUKS volume may ask for, over all its '
    'keyslots: iterations of PBKDF2, or KiB that Argon2 fills (its memory '
    'times its time cost). A host of today does some millions of either a '
    'second, and the default is beyond 32 keyslots of two seconds each, as '
    'cryptsetup makes them on the fastest of hosts. A volume that takes more '
    'is refused; the deadline of a request bounds the time in any case. The '
    'privileged helper reads this from its own configuration.',
)

KEY_TIME = cfg.IntOpt(
    'encryption_key_time',
    default=2000,
    min=1,
    max=60_000,
    help='Milliseconds that it is to take this host to try a key of a LUKS '
    'volume, where it makes the keyslot: when it formats a volume or rotates '
    'a key. Each attach takes that long then, and so does each guess of '
    'whoever has the header: it protects passphrases that people have chosen. '
    'Keys of a key manager, which nobody guesses, need little of it. The '
    'privileged helper reads this from its own configuration.',
)
