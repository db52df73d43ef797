# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""When spans begin and end."""

import time

import pytest

from attachworker.telemetry import tracing

SECOND = 1_000_000_000


def test_a_clock_that_is_set_meanwhile_moves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a moment of 1970
    monkeypatch.setattr(time, 'time_ns', lambda: 60 * SECOND)
    anchor = tracing._Anchor()
    # When the clock is set to 2026
    monkeypatch.undo()
    # Then it still is 1970, and a span has the length that it has
    end = anchor.now()
    assert 60 * SECOND <= end < 90 * SECOND
    assert 4 * SECOND < anchor.now() - anchor.now(before=5.0) < 6 * SECOND
