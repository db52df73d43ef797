# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""attachctl watch, and the notifications that it shows."""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import json
import signal
import subprocess
import sys
import threading
from typing import Any
from typing import Self

import oslo_messaging as messaging
import pytest

from attachworker.bus import transport as bus
from attachworker.cmd import attachctl
from attachworker.cmd import steps
from tests import harness
from tests.functional import caller
from tests.functional import rabbitmq
from tests.simulator.bed import SimulatedBed
from tools import samples

KEY = 'a-key-of-some-length'


class Watching:
    """attachctl watch, as a process that ends with the test."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [
                *(sys.executable, '-m', 'attachworker.cmd.attachctl'),
                *arguments,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Who listens still is heard of by the tests after this one.
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip())

    def end(self) -> tuple[int, str]:
        """Interrupt it; its exit code and what it had to say."""
        self._process.send_signal(signal.SIGINT)
        assert self._process.stderr is not None
        error = self._process.stderr.read()
        self._reader.join()
        return self._process.wait(20), error


Watch = Callable[..., Watching]


@pytest.fixture
def watch(broker: rabbitmq.RabbitMQNode) -> Iterator[Watch]:
    with contextlib.ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(
            Watching('--transport-url', broker.url, *arguments)
        )


def test_watch(
    bed: SimulatedBed, worker: harness.Harness, watch: Watch
) -> None:
    # Given somebody who watches this host, all hosts, and another one
    ours = watch('--host', worker.name, 'watch')
    everybody = watch('watch', '--all', '--format', 'json')
    nobody = watch('--host', 'another', 'watch')
    # When there is an attach that works, after they listen, and one that
    # does not
    volume = bed.create_volume()

    def attach_until_seen() -> bool:
        attached = worker.attach(volume)
        assert attached.status == 'attached', attached.as_dict()
        assert worker.detach(volume.name).status == 'detached'
        return bool(ours.lines and everybody.lines)

    caller.until(attach_until_seen)
    ours.lines.clear()
    everybody.lines.clear()
    result = worker.attach(volume, 'a-1', expected_wwn='another')
    assert result.error.code == 'identity_mismatch'
    caller.until(lambda: any('attach.error' in one for one in ours.lines))
    caller.until(lambda: any('attach.error' in one for one in everybody.lines))
    # Then each sees it step by step
    told = [one.split()[1:3] for one in ours.lines]
    # What was cleared above may have a last line on its way
    assert [one for one in told if one[0] == 'a-1'] == [
        ['a-1', 'attach.start'],
        ['a-1', 'attach.step'],
        ['a-1', 'attach.step'],
        ['a-1', 'attach.step'],
        ['a-1', 'attach.step'],
        ['a-1', 'attach.error'],
    ]
    assert ours.lines[-1].endswith('FindWwn failed identity_mismatch')
    everything = [json.loads(one) for one in everybody.lines]
    assert {
        'event_type': 'attach.error',
        'attachment_id': 'a-1',
        'host': worker.name,
        'step': 'FindWwn',
        'status': 'failed',
        'error': 'identity_mismatch',
        'request_id': result.request_id,
    }.items() <= everything[-1].items()
    # And it ends when it is interrupted, without a word
    for one in (ours, everybody, nobody):
        assert one.end() == (0, '')
    assert nobody.lines == []


def test_whether_anybody_listens_is_known(
    broker: rabbitmq.RabbitMQNode,
) -> None:
    transport = bus.get_notification_transport(
        harness.configuration(broker.url)
    )
    notifier = messaging.Notifier(
        transport,
        publisher_id='attachworker.test',
        driver='messagingv2',
        topics=[bus.NOTIFICATION_TOPIC],
        retry=bus.PUBLISH_RETRIES,
    )
    seen: list[str] = []

    def show(event: str, payload: Mapping[str, Any]) -> None:
        seen.append(event)

    notifier.info({}, 'attach.start', {})
    assert not bus.is_heard(transport)
    with steps.StepWatcher(transport, show) as watcher:
        assert watcher.listens(10)
        notifier.info({}, 'attach.end', {})
        assert bus.is_heard(transport)
    assert seen == ['attach.end']
    transport.cleanup()


def test_watch_for_a_time(
    broker: rabbitmq.RabbitMQNode, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ['--transport-url', broker.url]
    assert attachctl.main([*where, 'watch', '--timeout', '0.2']) == 0
    assert capsys.readouterr() == ('', '')


def test_notifications_are_as_the_samples(
    bed: SimulatedBed, worker: harness.Harness, watch: Watch
) -> None:
    watching = watch('watch', '--all', '--format', 'json')
    volume = bed.create_volume(resizable=True)
    encrypted = bed.create_volume()
    bed.encrypt(encrypted, 'luks2', KEY)

    def told() -> dict[str, dict[str, Any]]:
        return {
            one['event_type']: one for one in map(json.loads, watching.lines)
        }

    def work() -> bool:
        worker.attach(volume, expected_wwn='another')
        worker.attach(volume)
        worker.extend(volume.name, volume.size)
        worker.extend(volume.name, 2 * volume.size)
        worker.detach(volume.name)
        encryption = {'provider': 'luks2', 'key': KEY}
        worker.attach(encrypted, encryption=encryption)
        worker.rotate(encrypted.name, 'not-the-key', 'whatever')
        worker.rotate(encrypted.name, KEY, 'another-key')
        # For the next time
        worker.rotate(encrypted.name, 'another-key', KEY)
        worker.detach(encrypted.name)
        return len(told()) >= len(wanted)

    wanted = samples.samples()
    # A detach fails where the device is open: not here
    del wanted['detach.error']
    caller.until(work)
    watching.end()
    assert told().keys() == wanted.keys()
    for event, sample in wanted.items():
        found = told()[event]
        assert found.keys() - {'event_type'} == sample['payload'].keys()
        for name, value in sample['payload'].items():
            if found[name] is not None and value is not None:
                assert type(found[name]) is type(value), (event, name)
