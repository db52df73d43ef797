# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A worker that is not there."""

import pytest

from attachworker.brick import bus
from tests.unit.brick import fake_client


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> fake_client.FakeClient:
    fake = fake_client.FakeClient()
    monkeypatch.setattr(bus, 'client_for', lambda url, host: fake)
    return fake
