# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

from collections.abc import Iterator

import pytest

from attachworker.worker import dispatcher as dispatchers
from tests.unit.worker.dispatcher.jobs import PATIENCE
from tests.unit.worker.dispatcher.jobs import Make


@pytest.fixture
def make() -> Iterator[Make]:
    """A dispatcher that has been started; stopped after the test."""
    made: list[dispatchers.Dispatcher] = []

    def start(
        running: int = 4, per_backend: int = 4, queued: int = 100
    ) -> dispatchers.Dispatcher:
        new = dispatchers.Dispatcher(running, per_backend, queued)
        new.start()
        made.append(new)
        return new

    yield start
    for each in made:
        assert each.stop(PATIENCE)
