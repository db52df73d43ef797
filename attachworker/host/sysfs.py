# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.


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
