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

"""Nova's released volume drivers, through attachworker.brick and RabbitMQ."""

from collections.abc import Iterator
import json
import os
import pathlib
import subprocess
from typing import Any

import pytest

from tests import harness
from tests.contract import bed as beds
from tests.functional import rabbitmq
from tests.simulator.bed import SimulatedBed

_PROJECT = pathlib.Path(__file__).resolve().parents[2]
_PYTHON = _PROJECT / '.venv-nova/bin/python'


class Nova:
    """A process of Nova's environment that has Nova's drivers."""

    def __init__(self, url: str, host: str, log: pathlib.Path) -> None:
        assert _PYTHON.exists(), 'tools/setup.sh makes it'
        self._log = log
        with open(log, 'wb') as errors:
            self._process = subprocess.Popen(
                [str(_PYTHON), 'tests/callers/nova_driver.py'],
                cwd=_PROJECT,
                env=os.environ
                | {
                    'OS_DEFAULT__TRANSPORT_URL': url,
                    'OS_DEFAULT__HOST': host,
                },
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)

    def ask(self, do: str, driver: str, info: Any, **values: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {'do': do, 'driver': driver, 'connection_info': info}
        print(json.dumps(asked | values), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        assert line, self._log.read_text()
        return json.loads(line)

    def __call__(self, *arguments: Any, **values: Any) -> Any:
        found = self.ask(*arguments, **values)
        assert 'raised' not in found, self._log.read_text()
        return found


@pytest.fixture
def nova(
    broker: rabbitmq.RabbitMQNode,
    worker: harness.Harness,
    tmp_path: pathlib.Path,
) -> Iterator[Nova]:
    made = Nova(broker.url, worker.name, tmp_path / 'nova.log')
    yield made
    made.close()


def life(
    bed: SimulatedBed,
    nova: Nova,
    driver: str,
    volume: beds.Volume,
    **values: Any,
) -> None:
    before = bed.snapshot()
    info = volume.connection_info()
    # When Nova connects it
    found = nova('connect', driver, info, **values)
    # Then the device is where Nova looks for it, and it is the volume
    path = found['connection_info']['data'].pop('device_path')
    assert bed.read(path) == volume.pattern
    # And nothing else was changed
    assert found['connection_info'] == info
    # When it has grown
    size = 2 * volume.size
    bed.resize_volume(volume, size)
    info['data']['device_path'] = path
    found = nova('extend', driver, info, size=size, **values)
    # Then Nova is told how large it is
    assert found['returned'] == size
    # When Nova disconnects it, which it does without the device_info
    nova('disconnect', driver, info, **values)
    # Then nothing is left
    assert bed.snapshot() == before


def test_iscsi(bed: SimulatedBed, nova: Nova) -> None:
    life(
        bed,
        nova,
        'iscsi',
        bed.create_volume(chap=('user', 'secret-of-it'), resizable=True),
    )


def test_iscsi_with_multipath(bed: SimulatedBed, nova: Nova) -> None:
    bed.set_multipathd()
    volume = bed.create_volume(portals=2, resizable=True)
    life(bed, nova, 'iscsi', volume, multipath=True)


def test_nvme(bed: SimulatedBed, nova: Nova) -> None:
    life(bed, nova, 'nvmeof', bed.create_nvme_volume())


def test_what_nova_sees_of_a_failure(bed: SimulatedBed, nova: Nova) -> None:
    volume = bed.create_volume()
    before = bed.snapshot()
    info = volume.connection_info()
    info['data']['target_portal'] = '127.0.0.9:1'
    found = nova.ask('connect', 'iscsi', info)
    assert 'TargetPortalNotFound' in found['raised']
    assert bed.snapshot() == before
