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

"""A worker that is not there."""

import pytest

from attachworker.brick import bus
from tests.unit.brick import fake_client


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> fake_client.FakeClient:
    fake = fake_client.FakeClient()
    monkeypatch.setattr(bus, 'client_for', lambda url, host: fake)
    return fake
