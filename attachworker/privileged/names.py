# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Names that verbs are given: each is checked again before it is used."""

from collections.abc import Callable
import re


def rule(pattern: str, what: str) -> Callable[[str], str]:
    """A check that returns a name as it is.

    :param what: a name that has this pattern, for people
    """
    compiled = re.compile(pattern)

    def checked(name: str) -> str:
        if not compiled.fullmatch(name):
            raise ValueError(f'not {what}')
        return name

    return checked


SCSI_DISK = r'sd[a-z]{1,7}'
scsi_disk = rule(SCSI_DISK, 'a SCSI disk')
