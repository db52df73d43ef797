# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A machine that is a tree of files, with the verbs of a test."""

import pathlib
import types
from typing import Any

from attachworker.host import machine
from attachworker.host import verbs


def on_files(
    root: pathlib.Path | str = '/nowhere', monitor: Any = None, **groups: Any
) -> machine.Machine:
    """:param groups: the privileged verbs, by the name of their group"""
    return machine.Machine(
        pathlib.Path(root),
        types.SimpleNamespace(**groups),
        verbs.Verbs(),
        monitor,
    )
