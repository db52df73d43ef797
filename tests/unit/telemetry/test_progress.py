# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Who listens is no reason for an operation to fail."""

import types
from typing import Any

import pytest

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker.telemetry import progress


class _Broken:
    def __getattr__(self, name: str) -> Any:
        raise ValueError(name)


class _Notes:
    def __init__(self) -> None:
        self.told: list[Any] = []

    def began(self, operation: Any, waited: float) -> None:
        self.told.append('began')

    def step_ended(
        self, operation: Any, step: str, elapsed: float, code: str | None
    ) -> None:
        self.told.append((step, code))

    def ended(self, operation: Any, elapsed: float) -> None:
        self.told.append('ended')


def test_one_that_breaks_down(caplog: pytest.LogCaptureFixture) -> None:
    notes = _Notes()
    listeners: Any = [_Broken(), notes]
    operation: Any = types.SimpleNamespace(
        attachment_id='a', started=deadlines.now()
    )
    observer = progress.Progress(listeners, operation)
    observer.step_started('One')
    observer.step_ended('One', 0.1, None)
    observer.step_ended('Two', 0.1, exception.WorkerBusy())
    observer.step_ended('Three', 0.1, KeyError())
    progress.tell_end(listeners, operation)
    assert notes.told == [
        'began',
        ('One', None),
        ('Two', 'busy'),
        ('Three', 'internal'),
        'ended',
    ]
    assert 'Telling of an operation' in caplog.text
