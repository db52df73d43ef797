# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Facts of the machine that storage wants to know."""

import pathlib
import platform
import sys
from typing import Any

from attachworker import privileged
from attachworker.host import sysfs
from attachworker.privileged import system


def properties(root: pathlib.Path) -> dict[str, Any]:
    """What is known of the machine, with os-brick's keys."""
    found: dict[str, Any] = {
        'platform': platform.machine(),
        'os_type': sys.platform,
        'do_local_attach': False,
    }
    uuid = read(root, 'system uuid')
    return found | ({'system uuid': uuid} if uuid else {})


def read(root: pathlib.Path, name: str) -> str | None:
    """The text of a file that names the machine, without blanks around it.

    None if it is not there, or empty.

    :param name: one of privileged.system.FILES
    :raises OSError: it cannot be read
    """
    path = root / system.FILES[name].relative_to('/')
    try:
        text = sysfs.read(path)
    except PermissionError:
        # Without a helper there is nobody to ask.
        text = system.read(name) if privileged.readonly.channel else None
    return (text or '').strip() or None
