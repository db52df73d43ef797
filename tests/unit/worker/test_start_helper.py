# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What is said, and handed over, when the privileged helper is started."""

import os

import pytest

from attachworker.privileged import process
from attachworker.worker import service
from tests import harness


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = []
    monkeypatch.setattr(process, 'start', lambda *given: found.append(given))
    return found


@pytest.mark.parametrize(('user', 'told'), [(0, True), (998, False)])
def test_a_worker_that_stays_root_says_so(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    started: list[tuple[object, ...]],
    user: int,
    told: bool,
) -> None:
    monkeypatch.setattr(os, 'geteuid', lambda: user)
    service.start_helper(harness.configuration())
    assert ('stays root' in caplog.text) is told
    assert [one.levelname for one in caplog.records] == ['WARNING'] * told


@pytest.mark.parametrize('allowed', [False, True])
def test_what_the_operator_allows_the_helper_knows(
    started: list[tuple[object, ...]], allowed: bool
) -> None:
    conf = harness.configuration(
        user='nova', allow_forced_foreign_detach=allowed
    )
    service.start_helper(conf)
    assert started == [('nova', allowed)]
