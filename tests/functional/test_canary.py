# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""One secret through all that can happen to it, and all places looked at.

A worker that logs everything, with notifications, metrics and traces: an
attach that fails, one that is cut short by kill -9, its recovery, and a
detach, for each kind of volume that has a secret.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import dataclasses
import os
import pathlib
import re
import resource
import signal
import threading
from typing import Any
import urllib.request
import uuid

import pytest

from attachworker import client
from attachworker import objects
from attachworker.cmd import steps
from tests import harness
from tests.contract import bed as beds
from tests.functional import caller
from tests.functional import daemon
from tests.functional import rabbitmq
from tests.functional import test_secrets as secrets
from tests.functional import test_tracing as tracing
from tests.simulator.bed import SimulatedBed
from tests.simulator.faults import Fault

CANARY = 'CANARY5ecretOfAVolume'
#: The same in the form of a key of DH-HMAC-CHAP.
DHCHAP = f'DHHC-1:00:{CANARY}:'


def chap(bed: SimulatedBed) -> tuple[beds.Volume, dict[str, Any]]:
    volume = bed.create_volume(chap=('user', CANARY))
    info = volume.connection_info()
    info['data'] |= {
        'auth_username_in': 'them',
        'auth_password_in': f'{CANARY}-theirs',
    }
    return volume, {'connection_info': info}


def luks2(bed: SimulatedBed) -> tuple[beds.Volume, dict[str, Any]]:
    return _encrypted(bed, bed.create_volume())


def local(bed: SimulatedBed) -> tuple[beds.Volume, dict[str, Any]]:
    return _encrypted(bed, bed.create_local_volume())


def _encrypted(
    bed: SimulatedBed, volume: beds.Volume
) -> tuple[beds.Volume, dict[str, Any]]:
    bed.encrypt(volume, 'luks2', CANARY)
    return volume, {'encryption': {'provider': 'luks2', 'key': CANARY}}


def cephx(bed: SimulatedBed) -> tuple[beds.Volume, dict[str, Any]]:
    volume = bed.create_rbd_volume()
    info = volume.connection_info()
    assert 'CANARY' in info['data']['keyring']
    return volume, {'connection_info': info}


def dhchap(bed: SimulatedBed) -> tuple[beds.Volume, dict[str, Any]]:
    volume = bed.create_nvme_volume()
    info = volume.connection_info()
    info['data'] |= {'dhchap_secret': DHCHAP, 'dhchap_ctrl_secret': DHCHAP}
    return volume, {'connection_info': info}


@dataclasses.dataclass(frozen=True)
class Case:
    """A kind of volume with a secret, and the verb that is given it."""

    make: Callable[[SimulatedBed], tuple[beds.Volume, dict[str, Any]]]
    verb: str


CASES = [
    Case(chap, 'iscsi.login'),
    Case(luks2, 'encryption.open'),
    Case(local, 'encryption.open'),
    Case(cephx, 'rbd.add'),
    Case(dhchap, 'nvme.connect'),
]


class Processes:
    """Looks at the arguments and the environment of all, while in use."""

    def __init__(self) -> None:
        self.found: set[str] = set()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> 'Processes':
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._end.wait(0.02):
            self.found |= set(secrets.found_in_processes())


@dataclasses.dataclass(frozen=True)
class Watched:
    """A worker, and who listens to it."""

    daemon: daemon.Daemon
    collector: tracing.Collector
    node: client.AttachWorkerClient
    metrics: str


@pytest.fixture(scope='module')
def watched(
    broker: rabbitmq.RabbitMQNode,
    shared_bed: SimulatedBed,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Watched]:
    port, directory = rabbitmq.free_port(), tmp_path_factory.mktemp('canary')
    with contextlib.ExitStack() as stack:
        collector = tracing.Collector()
        stack.callback(collector.close)
        options = (
            *secrets._ALL_DEBUG,
            '[tracing]',
            f'otlp_endpoint = {collector.url}',
            '[metrics]',
            f'port = {port}',
            '[local]',
            f'local_roots = {beds.LOCAL_ROOT}',
            # What hangs does so until the worker is killed, however long the
            # looks for the secret take.
            *('[iscsi]', 'login_timeout = 120'),
            *('[nvmeof]', 'connect_timeout = 120'),
            *('[rbd]', 'device_timeout = 120'),
        )
        running = stack.enter_context(
            daemon.Daemon(
                directory, broker.url, shared_bed.root, options=options
            )
        )
        node = stack.enter_context(
            client.AttachWorkerClient(broker.url, running.name)
        )
        url = f'http://127.0.0.1:{port}/metrics'
        yield Watched(running, collector, node, url)


def readable_by_others(root: pathlib.Path) -> list[str]:
    """Files of the host that have the secret, and are not root's alone."""
    return [
        str(path)
        for path in root.rglob('*')
        if path.is_file()
        and not path.is_symlink()
        and path.stat().st_mode & 0o077
        and b'CANARY' in path.read_bytes()
    ]


def answers(one: Watched) -> list[str]:
    """What the worker tells whoever asks."""
    with urllib.request.urlopen(one.metrics) as page:
        metrics = page.read().decode()
    return [
        metrics,
        str(one.collector.spans),
        str(one.node.audit().as_dict()),
        str([each.as_dict() for each in one.node.list_attachments()]),
    ]


@pytest.mark.parametrize('case', CASES, ids=lambda case: case.make.__name__)
def test_a_secret_is_nowhere_whatever_happens(
    bed: SimulatedBed, watched: Watched, case: Case
) -> None:
    running, node = watched.daemon, watched.node
    volume, wanted = case.make(bed)
    seen: list[Mapping[str, Any]] = []

    def nowhere(*more: object) -> None:
        assert secrets.found_in_files(running) == []
        assert readable_by_others(bed.root) == []
        for text in (*map(str, more), *answers(watched)):
            assert 'CANARY' not in text

    with (
        Processes() as processes,
        steps.StepWatcher(
            node.transport, lambda event, payload: seen.append(payload)
        ),
    ):
        # An attach that fails, after the secret was used
        fault = bed.arm(Fault.FAIL_AFTER, case.verb)
        failed = node.attach_volume(
            wanted.get('connection_info', volume.connection_info()),
            attachment_id='a-1',
            encryption=wanted.get('encryption'),
        )
        assert failed.status == 'failed', failed.as_dict()
        assert fault.wait(0), failed.as_dict()
        nowhere(failed.as_dict())
        # One that is cut short while the secret is used
        fault = bed.arm(Fault.HANG_AFTER, case.verb)
        request = harness.attach_request(volume, **wanted)
        node.api.cast_attach_volume({}, running.name, request)
        assert fault.wait(15)
        # (of which the operator wants a report)
        reports = running.log.count('Connections')
        running.signal(signal.SIGUSR2)
        caller.until(lambda: running.log.count('Connections') > reports)
        nowhere()
        running.kill()
        assert secrets.found_in_files(running) == []
        fault.release()
        # Its recovery
        running.restart()
        caller.until(lambda: node.get_result(request.request_id) is not None)
        result = node.get_result(request.request_id)
        assert result.status == 'attached', result.as_dict()
        nowhere(result.as_dict())
        if wanted.get('encryption'):
            _rotate(bed, watched, request.attachment_id, nowhere)
        # And its detach
        gone = node.detach_volume(request.attachment_id)
        assert gone.status == 'detached', gone.as_dict()
        nowhere(gone.as_dict(), seen)
    assert seen
    assert processes.found == set()


def _rotate(
    bed: SimulatedBed,
    watched: Watched,
    attachment_id: str,
    nowhere: Callable[..., None],
) -> None:
    """Another key, by a rotation that fails, and one that is cut short."""
    running, node = watched.daemon, watched.node
    keys = {'old_key': CANARY, 'new_key': f'{CANARY}-later'}
    bed.arm(Fault.FAIL_AFTER, 'encryption.add_key')
    failed = node.rotate_encryption_key(attachment_id, **keys)
    assert failed.error.step == 'AddKey', failed.as_dict()
    assert failed.leftovers == []
    nowhere(failed.as_dict())
    fault = bed.arm(Fault.HANG_AFTER, 'encryption.add_key')
    request = objects.RotateKeyRequest(
        request_id=str(uuid.uuid4()), attachment_id=attachment_id, **keys
    )
    node.api.cast_rotate_encryption_key({}, running.name, request)
    assert fault.wait(15)
    nowhere()
    running.kill()
    assert secrets.found_in_files(running) == []
    fault.release()
    running.restart()
    caller.until(lambda: node.get_result(request.request_id) is not None)
    result = node.get_result(request.request_id)
    assert result.status == 'rotated', result.as_dict()
    nowhere(result.as_dict())


@pytest.fixture
def unlimited() -> Iterator[None]:
    """Processes that are started may leave core dumps, if that can be."""
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, before)


@pytest.mark.usefixtures('unlimited')
def test_a_worker_leaves_no_core_dump(watched: Watched) -> None:
    # Given a worker that may have left one
    running = watched.daemon
    running.kill()
    running.restart()
    process = running.process
    assert process is not None
    # Then it has taken that right away from itself, and from its children
    limits = pathlib.Path(f'/proc/{process.pid}/limits').read_text()
    (limit,) = re.findall(r'^Max core file size +(\S+ +\S+)', limits, re.M)
    assert limit.split() == ['0', '0']
    # And the kernel makes none
    running.signal(signal.SIGSEGV)
    ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert ended is not None
    assert ended.si_status == signal.SIGSEGV
    assert ended.si_code == os.CLD_KILLED
    running.wait(10)
    running.restart()
