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

"""The states of the flow that comes before some attaches."""

from attachworker import exception
from attachworker.flows import discover
from tests.unit.flows import capture
from tests.unit.tasks import runs


def test_success() -> None:
    assert capture.states(discover.build(runs.make())) == [
        'discover.f RUNNING',
        'GetConnector.t RUNNING',
        'GetConnector.t SUCCESS',
        'DiscoverTargets.t RUNNING',
        'DiscoverTargets.t SUCCESS',
        'discover.f SUCCESS',
    ]


def test_failure() -> None:
    connector = runs.FakeConnector()
    connector.discovery = exception.OperationCancelled(step='discovery')
    run = runs.make(connector=connector)
    run.fails_after('DiscoverTargets', connector.discovery)
    assert capture.states(discover.build(run)) == [
        'discover.f RUNNING',
        'GetConnector.t RUNNING',
        'GetConnector.t SUCCESS',
        'DiscoverTargets.t RUNNING',
        'DiscoverTargets.t FAILURE',
        'DiscoverTargets.t REVERTING',
        'DiscoverTargets.t REVERTED',
        'GetConnector.t REVERTING',
        'GetConnector.t REVERTED',
        'discover.f REVERTED',
        'raised OperationCancelled',
    ]
