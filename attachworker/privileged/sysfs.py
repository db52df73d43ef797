# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Writes to the attributes of sysfs."""

import os

#: What one write to sysfs may have.
_LONGEST = 4095


def write(path: str | os.PathLike[str], text: str) -> None:
    """Give an attribute a value, in one write.

    :raises OSError: there is no such attribute, or the kernel refuses
    """
    data = text.encode()
    if len(data) > _LONGEST:
        raise ValueError('too long for sysfs')
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)
