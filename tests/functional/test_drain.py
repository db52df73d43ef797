# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""SIGTERM while requests run, wait and come; and what systemd is told."""

import pathlib
import signal
import socket

from attachworker import exception
from tests import harness
from tests.functional import caller
from tests.functional import daemon
from tests.functional import rabbitmq
from tests.simulator.bed import SimulatedBed
from tests.simulator.faults import Fault

_SOON = 20.0


def test_what_runs_is_finished_and_the_rest_is_left(
    broker: rabbitmq.RabbitMQNode, bed: SimulatedBed, tmp_path: pathlib.Path
) -> None:
    # Given an attach that runs, and one that waits for its place
    volumes = [bed.create_volume() for _ in range(3)]
    runs, waits, late = (harness.attach_request(one) for one in volumes)
    fault = bed.arm(Fault.HANG_BEFORE, 'iscsi.login')
    with daemon.Daemon(
        tmp_path, broker.url, bed.root, options=('max_running = 1',)
    ) as one:
        attach = one.api.attach_volume
        running = caller.Background(attach, {}, one.name, runs)
        assert fault.wait()
        waiting = caller.Background(attach, {}, one.name, waits)
        caller.until(lambda: _is_accepted(one, waits.request_id))
        # When the worker is to stop
        one.signal(signal.SIGTERM)
        # Then it says so to who asks
        caller.until(lambda: not one.api.ping({}, one.name)['ready'])
        # And what comes now stays with the broker
        coming = caller.Background(attach, {}, one.name, late)
        one.api.ping({}, one.name)
        assert not _is_accepted(one, late.request_id)
        # And what runs is finished and answered, and nothing else begun
        fault.release()
        assert running.result().status == 'attached'
        assert one.wait(_SOON) == 0
        assert waiting.is_alive()
        assert coming.is_alive()
        # And the next worker does the rest, and answers
        one.start()
        one.wait_until_ready()
        for call in (waiting, coming):
            assert call.result().status == 'attached'
        for volume in volumes:
            gone = harness.detach_request(volume.name)
            assert one.api.detach_volume({}, one.name, gone).error is None


def test_what_does_not_end_is_left_to_the_next_start(
    broker: rabbitmq.RabbitMQNode, bed: SimulatedBed, tmp_path: pathlib.Path
) -> None:
    # Given an attach that hangs
    volume = bed.create_volume()
    fault = bed.arm(Fault.HANG_BEFORE, 'iscsi.login')
    with daemon.Daemon(
        tmp_path, broker.url, bed.root, options=('stop_timeout = 1',)
    ) as one:
        request = harness.attach_request(volume)
        call = caller.Background(one.api.attach_volume, {}, one.name, request)
        assert fault.wait()
        # When the worker is to stop, then it waits for no more than that
        one.signal(signal.SIGTERM)
        assert one.wait(_SOON) == 0
        assert call.is_alive()
        # And the next one does it
        fault.release()
        one.start()
        one.wait_until_ready()
        assert call.result().status == 'attached'
        gone = harness.detach_request(volume.name)
        assert one.api.detach_volume({}, one.name, gone).error is None


def test_the_watchdog_is_fed_while_the_dispatcher_works(
    broker: rabbitmq.RabbitMQNode, bed: SimulatedBed, tmp_path: pathlib.Path
) -> None:
    # Given a worker under systemd, the dispatcher of which is going to hang
    path = str(tmp_path / 'notify')
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(path)
        systemd.settimeout(_SOON)
        one = daemon.Daemon(tmp_path, broker.url, bed.root)
        one.start(
            NOTIFY_SOCKET=path, WATCHDOG_USEC='200000', DISPATCHER_HANGS='yes'
        )
        try:
            one.wait_until_ready()
            # Then it is fed
            told = [systemd.recv(99) for _ in range(5)]
            assert b'WATCHDOG=1' in told
            # When it hangs
            one.api.cast_attach_volume(
                {}, one.name, harness.attach_request(bed.create_volume())
            )
            caller.until(lambda: 'No operation is begun' in one.log, 30.0)
            systemd.setblocking(False)
            _drain(systemd)
            # Then it is fed no more
            seen = one.log.count('No operation is begun')
            caller.until(
                lambda: one.log.count('No operation is begun') > seen, 30.0
            )
            assert _drain(systemd) == []
        finally:
            one.kill()
            one.transport.cleanup()


def _drain(channel: socket.socket) -> list[bytes]:
    found = []
    while True:
        try:
            found.append(channel.recv(99))
        except BlockingIOError:
            return found


def _is_accepted(one: daemon.Daemon, request_id: str) -> bool:
    try:
        one.api.get_result({}, one.name, request_id)
    except exception.RequestNotFound:
        return False
    return True
