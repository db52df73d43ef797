# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The examples of the documentation, with a worker and RabbitMQ."""

from collections.abc import Iterator
import importlib.util
import io
import pathlib
import types
from typing import Any
import uuid

import pytest

from attachworker import client
from tests import harness
from tests.contract import bed as beds
from tests.functional import caller
from tests.functional import rabbitmq
from tests.simulator.bed import SimulatedBed

_EXAMPLES = (
    pathlib.Path(__file__).resolve().parents[2] / 'doc/source/user/examples'
)
_INSTANCE = 'instance-1'


def example(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(
        name, _EXAMPLES / f'{name}.py'
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Cinder:
    """What the examples call of python-cinderclient, for one volume.

    Its state changes as Cinder's does, and refuses what Cinder refuses.
    """

    def __init__(self, connection_info: dict[str, Any]) -> None:
        self._info = connection_info
        self.status = 'available'
        self.connections = 0
        self.rows: dict[str, str] = {}
        self.volumes = self.attachments = self

    def _go(self, before: str, after: str) -> None:
        assert self.status == before, (self.status, before)
        self.status = after

    # -- volume actions

    def reserve(self, volume_id: str) -> None:
        self._go('available', 'attaching')

    def unreserve(self, volume_id: str) -> None:
        self._go('attaching', 'available')

    def initialize_connection(
        self, volume_id: str, connector: dict[str, Any]
    ) -> dict[str, Any]:
        assert connector['initiator'].startswith('iqn.')
        self.connections += 1
        return self._info

    def terminate_connection(
        self, volume_id: str, connector: dict[str, Any]
    ) -> None:
        assert self.connections == 1
        self.connections -= 1

    def attach(self, volume_id: str, instance: str, mountpoint: str) -> None:
        self._go('attaching', 'in-use')

    def begin_detaching(self, volume_id: str) -> None:
        self._go('in-use', 'detaching')

    def roll_detaching(self, volume_id: str) -> None:
        self._go('detaching', 'in-use')

    def detach(self, volume_id: str) -> None:
        self._go('detaching', 'available')

    # -- attachments

    def create(
        self, volume_id: str, connector: Any, instance: str
    ) -> dict[str, Any]:
        assert connector is None
        attachment_id = str(uuid.uuid4())
        self.rows[attachment_id] = 'reserved'
        return {'id': attachment_id}

    def update(self, attachment_id: str, connector: dict[str, Any]) -> Any:
        assert self.rows[attachment_id] == 'reserved'
        self.rows[attachment_id] = 'attaching'
        # Flat, as Cinder has it there
        flat = self._info['data'] | {
            'driver_volume_type': self._info['driver_volume_type'],
            'attachment_id': attachment_id,
        }
        return types.SimpleNamespace(connection_info=flat)

    def complete(self, attachment_id: str) -> None:
        assert self.rows[attachment_id] == 'attaching'
        self.rows[attachment_id] = 'attached'

    def delete(self, attachment_id: str) -> None:
        del self.rows[attachment_id]


@pytest.fixture
def ours(
    broker: rabbitmq.RabbitMQNode, worker: harness.Harness
) -> Iterator[client.AttachWorkerClient]:
    with client.AttachWorkerClient(broker.url, worker.name) as made:
        yield made


def dead(volume: beds.Volume) -> dict[str, Any]:
    """Its connection_info, with a portal that nobody answers at."""
    info = volume.connection_info()
    info['data']['target_portal'] = '127.0.0.9:1'
    return info


def test_volume_actions(
    bed: SimulatedBed, ours: client.AttachWorkerClient
) -> None:
    volume = bed.create_volume()
    before = bed.snapshot()
    program = example('volume_actions')
    cinder = Cinder(volume.connection_info())
    where = (ours, cinder, volume.name, _INSTANCE)
    path = program.attach(*where, '/dev/vdb')
    assert bed.read(path) == volume.pattern
    assert (cinder.status, cinder.connections) == ('in-use', 1)
    # A device that is open stays, here and there
    with bed.opened(path):
        with pytest.raises(client.OperationFailed, match='in_use'):
            program.detach(*where)
    assert (cinder.status, cinder.connections) == ('in-use', 1)
    assert bed.read(path) == volume.pattern
    program.detach(*where)
    assert (cinder.status, cinder.connections) == ('available', 0)
    assert bed.snapshot() == before


def test_volume_actions_are_rolled_back(
    bed: SimulatedBed, ours: client.AttachWorkerClient
) -> None:
    volume = bed.create_volume()
    before = bed.snapshot()
    cinder = Cinder(dead(volume))
    with pytest.raises(client.OperationFailed, match='target_unreachable'):
        example('volume_actions').attach(
            ours, cinder, volume.name, _INSTANCE, '/dev/vdb'
        )
    assert (cinder.status, cinder.connections) == ('available', 0)
    assert bed.snapshot() == before


def test_attachments(
    bed: SimulatedBed, ours: client.AttachWorkerClient
) -> None:
    volume = bed.create_volume()
    before = bed.snapshot()
    program = example('attachments')
    cinder = Cinder(volume.connection_info())
    attachment_id, path = program.attach(ours, cinder, volume.name, _INSTANCE)
    assert bed.read(path) == volume.pattern
    assert cinder.rows == {attachment_id: 'attached'}
    program.detach(ours, cinder, attachment_id)
    assert cinder.rows == {}
    assert bed.snapshot() == before


def test_attachments_are_rolled_back(
    bed: SimulatedBed, ours: client.AttachWorkerClient
) -> None:
    volume = bed.create_volume()
    before = bed.snapshot()
    cinder = Cinder(dead(volume))
    with pytest.raises(client.OperationFailed, match='target_unreachable'):
        example('attachments').attach(ours, cinder, volume.name, _INSTANCE)
    assert cinder.rows == {}
    assert bed.snapshot() == before


@pytest.mark.parametrize(
    ('name', 'more'),
    [('attachments', ()), ('volume_actions', ('/dev/vdb',))],
)
def test_nobody_answers_the_attach(
    bed: SimulatedBed,
    ours: client.AttachWorkerClient,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    more: tuple[str, ...],
) -> None:
    """What the worker attaches nevertheless is taken away again."""
    volume = bed.create_volume()
    before = bed.snapshot()
    cinder = Cinder(volume.connection_info())
    attach = ours.attach_volume

    def lose_the_answer(*arguments: Any, **values: Any) -> None:
        assert attach(*arguments, **values).status == 'attached'
        raise TimeoutError

    monkeypatch.setattr(ours, 'attach_volume', lose_the_answer)
    # More than once, for the same instance
    for _ in range(2):
        with pytest.raises(TimeoutError):
            example(name).attach(ours, cinder, volume.name, _INSTANCE, *more)
        assert cinder.rows == {}
        assert (cinder.status, cinder.connections) == ('available', 0)
        caller.until(lambda: bed.snapshot() == before)


def test_image_copy(
    bed: SimulatedBed,
    ours: client.AttachWorkerClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    volume = bed.create_volume()
    before = bed.snapshot()
    program = example('image_copy')
    # The simulated host has its devices elsewhere
    monkeypatch.setitem(
        vars(program),
        'open',
        lambda path, mode: open(bed.node(path), mode),
    )
    driver = Cinder(volume.connection_info())
    image = b'an image' * 512
    program.copy_image_to_volume(
        ours, driver, {'id': volume.name}, io.BytesIO(image)
    )
    assert driver.connections == 0
    assert bed.snapshot() == before
    # And the image is on the volume
    again = ours.attach_volume(volume.connection_info(), attachment_id='look')
    assert bed.read(again.device.path) == image
    ours.detach_volume('look')
    # And with a copy that fails, the volume is not left attached
    closed = io.BytesIO()
    closed.close()
    with pytest.raises(ValueError, match='closed'):
        program.copy_image_to_volume(ours, driver, {'id': 'v'}, closed)
    assert driver.connections == 0
    assert bed.snapshot() == before
