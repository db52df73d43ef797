# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What the documentation has from the code is fresh."""

import sys

import pytest

from tools import dependencies
from tools import diagrams
from tools import factory
from tools import samples
from tools import verbs


def test_diagrams_of_the_flows() -> None:
    assert diagrams.FILE.read_text(encoding='utf-8') == diagrams.text(), (
        'run python -m tools.diagrams'
    )


def test_samples_of_the_notifications() -> None:
    there = {
        path.name: path.read_text() for path in samples.DIRECTORY.iterdir()
    }
    assert there == samples.texts(), 'run python -m tools.samples'


def test_the_table_of_verbs() -> None:
    assert verbs.TABLE.read_text(encoding='utf-8') == verbs.table(), (
        'run python -m tools.verbs'
    )


def test_the_table_of_protocols_of_os_brick() -> None:
    assert factory.TABLE.read_text(encoding='utf-8') == factory.table(), (
        'run python -m tools.factory'
    )


@pytest.mark.skipif(
    sys.version_info[:2] != (3, 11),
    reason='another Python needs other packages; the table is that of 3.11',
)
def test_licences_of_what_the_worker_runs_with() -> None:
    assert dependencies.TABLE.read_text() == dependencies.table(), (
        'run python -m tools.dependencies'
    )
    assert 'unknown' not in dependencies.table()
