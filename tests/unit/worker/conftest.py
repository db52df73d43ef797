# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Operations with a real journal and a real dispatcher."""

from collections.abc import Iterator
import pathlib

import pytest

from attachworker.journal import Database
from attachworker.journal import Records
from attachworker.journal import Sealer
from attachworker.worker.dispatcher import Dispatcher
from attachworker.worker.intake import Operations
from tests.unit.worker import fakes


@pytest.fixture
def database(tmp_path: pathlib.Path) -> Iterator[Database]:
    made = Database(tmp_path / 'state')
    yield made
    made.close()


@pytest.fixture
def records(database: Database) -> Records:
    return Records(database)


@pytest.fixture
def kind(records: Records) -> fakes.FakeKind:
    return fakes.FakeKind(records)


@pytest.fixture
def dispatcher() -> Iterator[Dispatcher]:
    """Room for one that runs and one that waits."""
    made = Dispatcher(1, 1, 1)
    made.start()
    yield made
    assert made.stop(fakes.PATIENCE)


@pytest.fixture
def finished() -> list[str]:
    """Requests that were told to have ended."""
    return []


@pytest.fixture
def operations(
    tmp_path: pathlib.Path,
    records: Records,
    dispatcher: Dispatcher,
    kind: fakes.FakeKind,
    finished: list[str],
) -> Operations:
    return Operations(
        records,
        Sealer(tmp_path / 'run', str(tmp_path)),
        dispatcher,
        {'attach': kind, 'detach': kind},
        'boot',
        300.0,
        lambda operation: finished.append(operation.request.request_id),
    )
