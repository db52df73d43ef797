# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Read attributes that may vanish while they are read."""

import os
import pathlib


def read(path: pathlib.Path) -> str | None:
    """The attribute's text without the newline; None if it is gone."""
    try:
        return path.read_text(encoding='utf-8', errors='replace').strip()
    except OSError:
        return None


def read_bytes(path: pathlib.Path) -> bytes | None:
    """The attribute as it is; None if it is gone."""
    try:
        return path.read_bytes()
    except OSError:
        return None


def read_int(path: pathlib.Path) -> int | None:
    """The attribute's number; None if it is gone or not a number."""
    text = read(path)
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def names(directory: pathlib.Path) -> list[str]:
    """What a directory holds, sorted; nothing if it is gone."""
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []
