# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What verbs are given: each name and number is checked again.

A value has the length and the characters that whoever reads it can take: a
file, a tool or the kernel. No error quotes it: it may be a secret.
"""

from collections.abc import Callable
import re


def rule(pattern: str, what: str) -> Callable[[str], str]:
    """A check that returns a name as it is.

    :param what: a name that has this pattern, for people
    """
    # ASCII: to Python other digits are digits, too.
    compiled = re.compile(pattern, re.ASCII)

    def checked(name: str) -> str:
        if not compiled.fullmatch(name):
            raise ValueError(f'not {what}')
        return name

    return checked


def number(value: int, most: int, what: str, least: int = 0) -> int:
    """A number within its bounds; text, fractions and flags are none.

    :param what: what has such a number, for people
    """
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f'not {what}')
    return value


SCSI_DISK = r'sd[a-z]{1,7}'
scsi_disk = rule(SCSI_DISK, 'a SCSI disk')
