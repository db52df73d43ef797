# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The worker connects only to where its administrator has storage."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import pathlib
import socket
from typing import Any

import pytest

from attachworker import objects
from attachworker.host import network
from tests import harness
from tests.contract import bed as beds
from tests.contract.test_every_connector import MAKERS

#: As the option is where nobody has set it.
UNSET = network.Networks.DEFAULT
SETTINGS = {'login_timeout': 5, 'scan_attempts': 2}

#: Those whose storage has addresses.
KINDS = sorted(MAKERS.keys() - beds.ELSEWHERE - {'local', 'fibre_channel'})


@pytest.fixture
def strict(bed: beds.Bed) -> Iterator[harness.Harness]:
    """A worker whose administrator has said nothing of loopback."""
    with harness.Harness(
        bed, iscsi=SETTINGS, portal_networks=list(UNSET)
    ) as running:
        yield running


class Listener:
    """Somebody who is no storage, and notes who connects."""

    def __init__(self) -> None:
        self._socket = socket.create_server(('127.0.0.1', 0))
        self._socket.setblocking(False)
        self.port = self._socket.getsockname()[1]

    def callers(self) -> int:
        found = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                self._socket.accept()[0].close()
                found += 1
        return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.close()


def _iscsi(data: dict[str, Any], host: str, port: int) -> dict[str, Any]:
    return data | {'target_portal': f'{host}:{port}'}


def _nvmeof(data: dict[str, Any], host: str, port: int) -> dict[str, Any]:
    return data | {'portals': [[host, port, 'tcp']]}


def _rbd(data: dict[str, Any], host: str, port: int) -> dict[str, Any]:
    return data | {'hosts': [host], 'ports': [str(port)]}


def _nfs(data: dict[str, Any], host: str, port: int) -> dict[str, Any]:
    server = f'[{host}]' if ':' in host else host
    return data | {'export': f'{server}:/share', 'options': f'port={port}'}


AT: dict[str, Callable[[dict[str, Any], str, int], dict[str, Any]]] = {
    'iscsi': _iscsi,
    'nfs': _nfs,
    'nvmeof': _nvmeof,
    'rbd': _rbd,
}


def refused(result: objects.OperationResult) -> str:
    """The text of an attach that has failed for its portal."""
    assert result.status == 'failed', result.as_dict()
    assert result.leftovers == []
    assert result.error.code == 'invalid_connection_info', result.as_dict()
    assert not result.error.retryable
    assert 'portal_networks' in result.error.message
    return str(result.error.message)


@pytest.mark.parametrize('multipath', [False, True])
@pytest.mark.parametrize('host', ['127.0.0.1', 'localhost'])
@pytest.mark.parametrize('kind', KINDS)
def test_nobody_is_asked_where_no_portal_may_be(
    bed: beds.Bed,
    strict: harness.Harness,
    listener: Listener,
    kind: str,
    host: str,
    multipath: bool,
) -> None:
    # Given a volume whose portal is said to be another service of this host
    volume = MAKERS[kind](bed)
    info = volume.connection_info()
    info['data'] = AT[kind](info['data'], host, listener.port)
    before = bed.snapshot()
    # When it is attached
    result = strict.attach(
        volume,
        connection_info=info,
        multipath=multipath and kind != 'rbd',
    )
    # Then the error says what to do, and nobody has connected
    assert f'{host}:{listener.port}' in refused(result)
    assert listener.callers() == 0
    assert bed.snapshot() == before
    assert strict.attachments() == []


@pytest.mark.parametrize('kind', KINDS)
def test_the_storage_of_this_host_has_to_be_listed(
    bed: beds.Bed,
    worker: harness.Harness,
    strict: harness.Harness,
    kind: str,
) -> None:
    # Given a volume at a portal that answers
    volume = MAKERS[kind](bed)
    before = bed.snapshot()
    refused(strict.attach(volume))
    assert bed.snapshot() == before
    # Then it is attached where the option allows it
    assert worker.attach(volume).status == 'attached'
    assert worker.detach(volume.name).status == 'detached'


def test_other_portals_of_the_volume_are_used(
    bed: beds.Bed, listener: Listener
) -> None:
    # Given a volume at a portal that may be used and at one that may not
    volume = bed.create_volume()
    before = bed.snapshot()
    address = volume.portals[0].rpartition(':')[0]
    info = volume.connection_info()
    data = info['data']
    info['data'] = data | {
        'target_portals': ['127.7.7.7:3260', volume.portals[0]],
        'target_iqns': [volume.target] * 2,
        'target_luns': [volume.lun] * 2,
    }
    with harness.Harness(
        bed, iscsi=SETTINGS, portal_networks=[address]
    ) as worker:
        result = worker.attach(volume, connection_info=info)
        assert result.status == 'attached', result.as_dict()
        assert bed.read(result.device.path) == volume.pattern
        assert worker.detach(volume.name).status == 'detached'
    assert bed.snapshot() == before


def test_what_is_attached_is_detached_wherever_it_is(
    bed: beds.Bed, tmp_path: pathlib.Path
) -> None:
    # Given a volume that was attached before the option was changed
    volume = bed.create_volume()
    before = bed.snapshot()
    with harness.Harness(bed, state_path=tmp_path) as earlier:
        assert earlier.attach(volume).status == 'attached'
    with harness.Harness(
        bed, state_path=tmp_path, portal_networks=list(UNSET)
    ) as worker:
        # Then it is not attached again, and it can be detached
        refused(worker.attach(volume, 'another'))
        result = worker.detach(volume.name)
        assert result.status == 'detached', result.as_dict()
    assert bed.snapshot() == before
