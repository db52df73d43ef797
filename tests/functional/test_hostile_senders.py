# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Messages that no caller of ours sends, to the daemon on a real broker."""

import bz2
from collections.abc import Iterator
import contextlib
import json
import os
import pathlib
import re
import time
from typing import Any
import urllib.request
import uuid
import zlib

import kombu
import pytest

from tests import harness
from tests.functional import caller
from tests.functional import rabbitmq
from tests.functional.daemon import Daemon
from tests.simulator.bed import SimulatedBed

#: What a bomb has once it is inflated, in bytes.
INFLATED = 400_000_000
CHUNK = b' ' * 10_000_000
#: Requests of a flood.
FLOOD = int(os.environ.get('ATTACHWORKER_FLOOD', '2000'))


class Attacker:
    """Writes to the queue of a worker, with no library of ours."""

    def __init__(self, url: str, host: str) -> None:
        self._connection = kombu.Connection(url.replace('rabbit:', 'amqp:'))
        self._channel = self._connection.channel()
        self.queue = f'attachworker.{host}'

    def close(self) -> None:
        self._connection.release()

    def send(
        self,
        body: bytes,
        content_type: str = 'application/json',
        content_encoding: str = 'utf-8',
        **headers: str,
    ) -> None:
        self._channel.basic_publish(
            self._channel.prepare_message(
                body,
                content_type=content_type,
                content_encoding=content_encoding,
                headers=headers,
                properties={'delivery_mode': 2},
            ),
            exchange='',
            routing_key=self.queue,
        )

    def bind(self, name: str) -> None:
        """Make a queue that nobody reads."""
        exchange = kombu.Exchange('attachworker', 'topic', passive=True)
        kombu.Queue(
            name, exchange, routing_key=name, channel=self._channel
        ).declare()

    def consumers(self) -> int:
        """How many the queue has."""
        found = self._channel.queue_declare(self.queue, passive=True)
        return int(found.consumer_count)

    def cast(self, method: Any, **more: Any) -> None:
        self.send(self.message(method, **more))

    def ask(self, method: Any, wait: float = 10.0, **more: Any) -> Any:
        """Call; what comes back, or None if nothing does."""
        name = f'reply_{uuid.uuid4().hex}'
        queue = kombu.Queue(name, channel=self._channel, auto_delete=True)
        queue.declare()
        number = uuid.uuid4().hex
        self.send(self.message(method, _msg_id=number, _reply_q=name, **more))
        end = time.monotonic() + wait
        while time.monotonic() < end:
            found = queue.get(no_ack=True)
            if found is not None:
                answer = json.loads(found.payload['oslo.message'])
                if answer['failure']:
                    answer['failure'] = json.loads(answer['failure'])
                return answer
            time.sleep(0.02)
        return None

    def message(self, method: Any, **more: Any) -> bytes:
        message = {
            'method': method,
            'args': {},
            'version': '1.0',
            '_unique_id': uuid.uuid4().hex,
        }
        return envelope(message | more)


def envelope(message: Any) -> bytes:
    return json.dumps(
        {'oslo.version': '2.0', 'oslo.message': json.dumps(message)}
    ).encode()


def object_(name_: str, /, **data: Any) -> dict[str, Any]:
    return {
        'versioned_object.name': name_,
        'versioned_object.namespace': 'attachworker',
        'versioned_object.version': '1.0',
        'versioned_object.data': data,
    }


def resident(daemon: Daemon, which: str = 'VmHWM') -> int:
    """MB of memory that it has, or has had at most."""
    assert daemon.process is not None
    status = pathlib.Path(f'/proc/{daemon.process.pid}/status').read_text()
    found = re.search(rf'{which}:\s+(\d+) kB', status)
    assert found is not None
    return int(found[1]) >> 10


def refused(port: int) -> dict[str, int]:
    """By reason, how many messages the daemon has put aside."""
    with urllib.request.urlopen(f'http://127.0.0.1:{port}/metrics') as page:
        text = page.read().decode()
    found = re.findall(
        r'attachworker_messages_refused_total\{reason="(\w+)"\} (\d+)', text
    )
    return {reason: int(count) for reason, count in found if int(count)}


@pytest.fixture
def port() -> int:
    return rabbitmq.free_port()


@pytest.fixture
def daemon(
    broker: rabbitmq.RabbitMQNode,
    shared_bed: SimulatedBed,
    tmp_path: pathlib.Path,
    port: int,
) -> Iterator[Daemon]:
    made = Daemon(tmp_path, broker.url, shared_bed.root)
    with open(made.config_file, 'a', encoding='ascii') as file:
        file.write(f'[metrics]\nport = {port}\n')
    with made:
        yield made


@pytest.fixture
def attacker(
    broker: rabbitmq.RabbitMQNode, daemon: Daemon
) -> Iterator[Attacker]:
    made = Attacker(broker.url, daemon.name)
    yield made
    made.close()


def deflated() -> bytes:
    compress = zlib.compressobj(9)
    parts = [compress.compress(CHUNK) for _ in range(INFLATED // len(CHUNK))]
    return b''.join([*parts, compress.flush()])


@pytest.mark.parametrize(
    ('make', 'options'),
    [
        (deflated, {'compression': 'application/x-gzip'}),
        (
            lambda: bz2.compress(CHUNK) * (INFLATED // len(CHUNK)),
            {'content_type': 'text/x', 'content_encoding': 'bz2_codec'},
        ),
        (
            lambda: b'x-' + b'a' * 200_000,
            {'content_encoding': 'punycode'},
        ),
        (
            lambda: b'[' + CHUNK + b']',
            {},
        ),
        (
            lambda: json.dumps({'oslo.version': '2.0', 'x': 'y'}).encode(
                'utf-16'
            ),
            {'content_encoding': 'utf-16'},
        ),
    ],
    ids=['compressed', 'codec', 'slow codec', 'large', 'utf-16'],
)
def test_what_callers_do_not_send_is_not_decoded(
    daemon: Daemon,
    attacker: Attacker,
    port: int,
    make: Any,
    options: dict[str, str],
) -> None:
    body, before = make(), resident(daemon)
    # When a message comes that would get large, or says that it is strange
    attacker.send(body, **options)
    # Then somebody is told
    caller.until(lambda: sum(refused(port).values()) == 1)
    assert f'A message in queue {attacker.queue} is put aside' in daemon.log
    # And it costs nothing
    assert daemon.api.ping({}, daemon.name)['ready']
    assert resident(daemon) - before < 60


def test_a_broken_message_is_put_aside_once(
    broker: rabbitmq.RabbitMQNode,
    daemon: Daemon,
    attacker: Attacker,
    port: int,
) -> None:
    broken = [
        b'{',
        b'\xff\xfe',
        b'7',
        b'[' * 100_000,
        b'{"oslo.version": "9\\nforged", "oslo.message": "{}"}',
        b'{"oslo.version": "abc", "oslo.message": "{}"}',
        b'{"oslo.version": "2.0", "oslo.message": "["}',
        b'{"oslo.version": "2.0", "oslo.message": "7"}',
    ]
    for body in broken:
        attacker.send(body)
    caller.until(lambda: sum(refused(port).values()) == len(broken))
    assert refused(port) == {'content': len(broken)}
    assert 'Traceback' not in daemon.log
    assert '\nforged' not in daemon.log


def test_what_ends_the_worker_again_and_again_is_put_aside(
    broker: rabbitmq.RabbitMQNode,
    shared_bed: SimulatedBed,
    tmp_path: pathlib.Path,
) -> None:
    # Given a message over which the worker ends each time
    poisoned = Daemon(tmp_path, broker.url, shared_bed.root)
    with contextlib.ExitStack() as clean_up:
        clean_up.enter_context(poisoned)
        attacker = Attacker(broker.url, poisoned.name)
        clean_up.callback(attacker.close)
        poisoned.kill()
        caller.until(lambda: not attacker.consumers())
        attacker.cast(
            'attach_volume', args={'request': object_('AttachRequest')}
        )
        # When it is started until it stays
        deaths = 0
        while True:
            poisoned.start(DIES_BEFORE_ACKNOWLEDGING='1')
            assert poisoned.process is not None
            caller.until(
                lambda: (
                    poisoned.process.poll() is not None
                    or 'is put aside' in poisoned.log
                ),
                timeout=30,
            )
            if 'is put aside' in poisoned.log:
                break
            deaths += 1
        # Then that is soon, and it says why
        assert deaths == 3
        assert 'has ended 3 times while it took it' in poisoned.log
        poisoned.wait_until_ready()
        # And another restart does not bring it back
        poisoned.kill()
        poisoned.start()
        poisoned.wait_until_ready()
        assert poisoned.log.count('is put aside') == 1


def iscsi(targets: list[Any], **more: Any) -> dict[str, Any]:
    return object_('ISCSIConnectionInfo', target_list=targets, **more)


def attach(info: dict[str, Any], **more: Any) -> dict[str, Any]:
    number = str(uuid.uuid4())
    return object_(
        'AttachRequest',
        **{
            'request_id': number,
            'attachment_id': number,
            'connection_info': info,
        }
        | more,
    )


def target(**more: Any) -> dict[str, Any]:
    return object_(
        'ISCSITarget',
        **{
            'portal': '192.0.2.1:3260',
            'name': 'iqn.2010-10.org.example:volume',
            'lun': 1,
        }
        | more,
    )


#: Each takes long to look at, for whoever does not look at its size first.
LARGE = {
    'text': lambda: attach(
        object_('NVMeOFConnectionInfo', vol_uuid=' naa.' * 40_000)
    ),
    'targets': lambda: attach(iscsi([target()] * 600)),
    'numbers': lambda: attach(iscsi([0] * 100_000)),
    'keys': lambda: attach(
        iscsi([target()], **{f'key-{number}': 0 for number in range(15_000)})
    ),
    'version': lambda: (
        attach(iscsi([target()])) | {'versioned_object.version': '.' * 200_000}
    ),
}


@pytest.mark.parametrize('what', LARGE)
def test_questions_do_not_wait_for_large_requests(
    daemon: Daemon, attacker: Attacker, what: str
) -> None:
    assert daemon.api.ping({}, daemon.name)['ready']
    # Given 300 requests, as large as they may be, before a question
    body = attacker.message('attach_volume', args={'request': LARGE[what]()})
    for _ in range(300):
        attacker.send(body)
    # When it is asked
    answer = attacker.ask('ping', wait=40)
    # Then it is answered soon
    assert answer is not None
    assert answer['result']['ready']


def test_questions_do_not_wait_for_many_requests(
    daemon: Daemon, attacker: Attacker
) -> None:
    # Given 300 requests that make sense, with all targets that there may be
    portals = [f'192.0.2.{number}:3260' for number in range(1, 65)]
    targets = [target(portal=portal) for portal in portals]
    for body in [
        attacker.message(
            'attach_volume', args={'request': attach(iscsi(targets))}
        )
        for _ in range(300)
    ]:
        attacker.send(body)
    # When somebody asks
    answer = attacker.ask('ping', wait=40)
    # Then it is answered soon
    assert answer is not None


FORGED = 'x\n2026-01-01 00:00:00 CRITICAL forged'
LONG = 'x' * 100_000

#: What is asked, and the error that comes back.
ASKED: list[tuple[Any, dict[str, Any], str]] = [
    ('get_attachment', {'args': {'attachment_id': 2**70}}, 'Invalid'),
    ('get_attachment', {'args': {'attachment_id': [1]}}, 'Invalid'),
    ('get_attachment', {'args': {'attachment_id': '\ud800'}}, 'Invalid'),
    ('get_attachment', {'args': {'attachment_id': LONG}}, 'Invalid'),
    ('get_attachment', {'args': {'attachment_id': FORGED}}, 'Invalid'),
    ('get_attachment', {'args': {'attachment_id': 'x'}}, 'AttachmentNot'),
    ('get_attachment', {}, 'Invalid'),
    ('get_result', {'args': {'request_id': {'a': 1}}}, 'Invalid'),
    ('cancel', {'args': {'request_id': ['a']}}, 'Invalid'),
    ('cancel', {'args': {'request_id': None}}, 'Invalid'),
    ('ping', {'args': {FORGED: 1}}, 'Invalid'),
    ('ping', {'args': {'self': 1}}, 'Invalid'),
    ('ping', {'args': {'ctxt': 1}}, 'Invalid'),
    ('ping', {'args': [1]}, 'Invalid'),
    ('ping', {'args': None}, 'Invalid'),
    ('ping', {'version': 'abc'}, 'Invalid'),
    ('ping', {'version': [1]}, 'Invalid'),
    ('ping', {'version': '1'}, 'Invalid'),
    ('ping', {'version': None}, 'Invalid'),
    ('ping', {'version': FORGED}, 'Invalid'),
    ('ping', {'version': '1.7'}, 'UnsupportedVersion'),
    ('ping', {'namespace': FORGED}, 'Invalid'),
    ('attach_volume', {'version': 'abc'}, 'Invalid'),
    ('attach_volume', {'args': {'request': None}}, 'Invalid'),
    ('attach_volume', {'args': {'request': object_(FORGED)}}, 'Invalid'),
    ('evil', {}, 'NoSuchMethod'),
    (FORGED, {}, 'Invalid'),
    (LONG, {}, 'Invalid'),
    (['ping'], {}, 'Invalid'),
    (
        'get_connector_properties',
        {'args': {'multipath': {'a': [1]}, 'enforce_multipath': 'yes'}},
        'Invalid',
    ),
    ('get_volume_paths', {'args': {'connection_info': None}}, 'Invalid'),
]


def test_only_errors_of_ours_with_their_text_are_sent(
    daemon: Daemon, attacker: Attacker
) -> None:
    wrong = []
    for method, more, error in ASKED:
        answer = attacker.ask(method, **more)
        failure = answer and answer['failure']
        text = json.dumps(failure)
        if (
            not failure
            or not failure['class'].startswith(error)
            or failure['module']
            not in ('attachworker.exception', 'oslo_messaging.rpc.dispatcher')
            or len(text) > 1000
            or 'File ' in text
            or 'forged' in text
        ):
            wrong.append((str(method)[:80], str(more)[:80], text[:400]))
    assert wrong == []
    # And the log has neither tracebacks of what others do, nor their lines
    assert 'Traceback' not in daemon.log
    assert '\n2026-01-01' not in daemon.log
    assert max(map(len, daemon.log.splitlines())) < 1000


def test_what_says_nothing_of_whom_to_answer_is_put_aside(
    daemon: Daemon, attacker: Attacker, port: int
) -> None:
    strange: list[dict[str, Any]] = [
        {'_msg_id': 'x'},
        {'_reply_q': 'x'},
        {'_msg_id': FORGED, '_reply_q': 'x'},
        {'_msg_id': 'x', '_reply_q': 'x' * 300},
        {'_msg_id': {'a': 1}, '_reply_q': ['x']},
        {'_unique_id': [1]},
        {'_unique_id': FORGED},
    ]
    for more in strange:
        attacker.cast('ping', **more)
    caller.until(lambda: refused(port) == {'content': len(strange)})
    # What is as harmless as strange is served
    for more in (
        {'_context_self': 1, '_context_conf': [FORGED]},
        {'_timeout': FORGED},
        {'_timeout': 2**70},
        {'_timeout': [1]},
    ):
        assert attacker.ask('ping', **more)['result']['ready']
    assert 'Traceback' not in daemon.log
    assert '\n2026-01-01' not in daemon.log


def test_a_flood_leaves_room_for_the_others(
    broker: rabbitmq.RabbitMQNode,
    shared_bed: SimulatedBed,
    daemon: Daemon,
    attacker: Attacker,
) -> None:
    hole = {'exchange': 'attachworker', 'topic': 'hole', 'server': 'x'}
    attacker.bind('hole.x')
    # Given a worker that has done something for somebody
    volume = shared_bed.create_volume()
    request = harness.attach_request(volume)
    first = daemon.api.attach_volume({}, daemon.name, request)
    assert first.status == 'attached', first.as_dict()
    before = resident(daemon)
    # When detaches of nothing come, whose results nobody confirms or fetches,
    # and questions of somebody who is not there
    for number in range(FLOOD):
        to = {'reply_to': object_('ReplyTo', **hole)} if number % 2 else {}
        detach = object_(
            'DetachRequest',
            request_id=f'flood-{number}',
            attachment_id=f'nothing-{number}',
            **to,
        )
        attacker.cast('detach_volume', args={'request': detach})
        attacker.cast('ping', _msg_id=f'{number}', _reply_q=f'gone-{number}')
    # Then somebody else gets an answer, and has his volume taken off
    began = time.monotonic()
    assert attacker.ask('ping', wait=60)['result']['ready']
    found = daemon.api.get_result({}, daemon.name, request.request_id)
    assert found is not None
    assert found.as_dict() == first.as_dict()
    detach = harness.detach_request(volume.name)
    caller.until(
        lambda: (
            daemon.api.detach_volume({}, daemon.name, detach).status
            == 'detached'
        )
    )
    took = time.monotonic() - began
    assert took < 40
    # And it has not cost much
    assert resident(daemon) - before < 60
    daemon.restart()
    assert resident(daemon) < before + 60
