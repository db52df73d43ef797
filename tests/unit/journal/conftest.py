# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A journal in a directory of its own."""

from collections.abc import Iterator
import pathlib

import pytest

from attachworker.journal import Database


@pytest.fixture
def directory(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / 'state'


@pytest.fixture
def database(directory: pathlib.Path) -> Iterator[Database]:
    made = Database(directory)
    yield made
    made.close()
