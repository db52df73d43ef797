# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Messages of earlier releases, from the record, against this code."""

import json
import math
from typing import Any
import uuid

import oslo_messaging as messaging
import pytest

from attachworker import exception
from attachworker import objects
from attachworker import rpcapi
from attachworker.bus import serializer
from attachworker.bus import transport as bus
from attachworker.objects import base
from tests import harness
from tests.recorded import messages
from tests.simulator.bed import SimulatedBed

RECORDS = {
    version: json.loads(messages.record(version).read_text())
    for version in objects.HISTORY
}
EACH = [
    pytest.param(version, primitive, id=f'{version}-{name}')
    for version, record in RECORDS.items()
    for name, primitive in record.items()
]


@pytest.mark.parametrize(('version', 'primitive'), EACH)
def test_what_an_older_program_sends_and_expects(
    version: str, primitive: Any
) -> None:
    """Both ways: what comes in, goes out to that program in its own form."""
    received = base.AttachWorkerObject.obj_from_primitive(primitive)
    received.obj_clone().validate()
    sent = serializer.ObjectSerializer(level=version).serialize_entity(
        {}, received
    )
    assert sent == primitive


def test_nothing_that_travels_is_left_out_of_the_record() -> None:
    for version, record in RECORDS.items():
        recorded = {name for name, _, _ in _forms(list(record.values()))}
        # ConnectionInfo is abstract, and a notification travels as a dict
        missing = objects.HISTORY[version].keys() - recorded
        assert missing == {'ConnectionInfo', 'NotificationPayload'}


class _OldCaller:
    """A program of an earlier release: primitives, and nothing of ours."""

    def __init__(self, worker: harness.Harness, version: str) -> None:
        self._client = messaging.get_rpc_client(
            bus.get_transport(worker.conf),
            bus.get_target(),
            version_cap=version,
            timeout=60,
        )
        self._host = worker.name
        self._version = version

    def call(self, method: str, **arguments: Any) -> Any:
        prepared = self._client.prepare(
            server=self._host, version=self._version
        )
        return prepared.call({}, method, **arguments)


def _forms(value: Any) -> set[tuple[str, str, frozenset[str]]]:
    """Of all objects in it: name, version, and names of the fields."""
    if isinstance(value, list):
        return set().union(*map(_forms, value))
    if not isinstance(value, dict):
        return set()
    found = set().union(*map(_forms, value.values()))
    if 'versioned_object.name' in value:
        found.add(
            (
                value['versioned_object.name'],
                value['versioned_object.version'],
                frozenset(value['versioned_object.data']),
            )
        )
    return found


@pytest.mark.parametrize('version', RECORDS)
def test_an_older_caller_is_served(version: str) -> None:
    bed = SimulatedBed()
    try:
        with harness.Harness(
            bed, upgrade_levels__attachworker=version
        ) as worker:
            volume = bed.create_volume()
            caller = _OldCaller(worker, version)
            # Given its request, for a volume of ours
            request = json.loads(json.dumps(RECORDS[version]['attach-iscsi']))
            data = request['versioned_object.data']
            data |= {
                'encryption': None,
                'reply_to': None,
                'expected_wwn': None,
                'multipath': False,
            }
            info = data['connection_info']['versioned_object.data']
            del info['target_list'][1:]
            info['target_list'][0]['versioned_object.data'] |= {
                'portal': volume.portals[0],
                'name': volume.target,
                'lun': volume.lun,
            }
            info |= {'auth_method': None, 'auth_password': None}
            info['auth_username'] = None
            # When it is called
            result = caller.call('attach_volume', request=request)
            # Then the answer is one that it knows
            values = result['versioned_object.data']
            assert values['status'] == 'attached', values
            known = _forms(list(RECORDS[version].values()))
            assert _forms(result) <= known
            shown = caller.call('list_attachments')
            assert {name for name, _, _ in _forms(shown)} >= {'Attachment'}
            assert _forms(shown) <= known
            # And it can detach
            gone = json.loads(json.dumps(RECORDS[version]['detach']))
            gone['versioned_object.data']['request_id'] = 'request-2'
            result = caller.call('detach_volume', request=gone)
            values = result['versioned_object.data']
            assert values['status'] == 'detached', values
            assert _forms(result) <= known
    finally:
        bed.close()


def test_what_is_newer_than_the_level_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a release with a newer interface
    newer = {**objects.HISTORY['1.0'], 'ReplyTo': '1.1'}
    monkeypatch.setitem(objects.HISTORY, '1.1', newer)
    monkeypatch.setattr(objects.ReplyTo, 'VERSION', '1.1')
    asked = []

    def make_compatible(self: Any, primitive: Any, version: str) -> None:
        asked.append(version)

    monkeypatch.setattr(
        objects.ReplyTo, 'obj_make_compatible', make_compatible
    )
    reply_to = objects.ReplyTo(exchange='e', topic='t', server='s')
    # Then the older form is sent where somebody is older
    for level, version in ((None, '1.1'), ('1.1', '1.1'), ('1.0', '1.0')):
        wire = serializer.ObjectSerializer(level=level).serialize_entity(
            {}, reply_to
        )
        assert wire['versioned_object.version'] == version
    assert asked == ['1.1', '1.0']


def test_what_was_stored_newer_than_the_level_is_left_out_as_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a primitive that this release has stored, with a newer interface
    newer = {**objects.HISTORY['1.0'], 'ReplyTo': '1.1'}
    monkeypatch.setitem(objects.HISTORY, '1.1', newer)
    monkeypatch.setattr(objects.ReplyTo, 'VERSION', '1.1')
    monkeypatch.setattr(
        objects.ReplyTo,
        'obj_make_compatible',
        lambda self, primitive, version: primitive.pop('server'),
    )
    stored = objects.ReplyTo(
        exchange='e', topic='t', server='s'
    ).obj_to_primitive()
    # Then it goes out as it is, and in the older form where somebody is older
    ours = serializer.WorkerSerializer().serialize_entity({}, [stored])
    assert ours == [stored]
    (theirs,) = serializer.WorkerSerializer(level='1.0').serialize_entity(
        {}, [stored]
    )
    assert theirs['versioned_object.version'] == '1.0'
    assert theirs['versioned_object.data'] == {'exchange': 'e', 'topic': 't'}


def test_a_level_that_there_is_not() -> None:
    with pytest.raises(exception.ConfigurationError, match='upgrade_levels'):
        serializer.ObjectSerializer(level='7.0')


def test_a_call_that_the_level_does_not_have() -> None:
    """Refused here, with the version: no message that nobody understands."""
    transport = bus.get_transport(harness.configuration())
    api = rpcapi.AttachWorkerAPI(transport, level='1.0')
    request = objects.RotateKeyRequest(
        request_id='r', attachment_id='a', old_key='k', new_key='l'
    )
    for method in (
        api.rotate_encryption_key,
        api.cast_rotate_encryption_key,
    ):
        # (that it takes plain secrets is known)
        api._plain_until['one'] = math.inf
        with pytest.raises(messaging.RPCVersionCapError, match='1.1'):
            method({}, 'one', request)


class _OldWorker:
    """What a worker of the first release serves, and that only."""

    target = messaging.Target(version='1.0')

    def ping(self, ctxt: Any) -> dict[str, Any]:
        return {'ready': True}

    def rotate_encryption_key(self, ctxt: Any, request: Any) -> None:
        raise AssertionError('it is newer')


def test_an_older_worker_serves_what_it_has() -> None:
    """Also who is not told of its version."""
    transport = bus.get_transport(harness.configuration())
    name = f'host-{uuid.uuid4()}'
    server = messaging.get_rpc_server(
        transport,
        bus.get_target(name),
        [_OldWorker()],
        serializer=serializer.WorkerSerializer(),
        access_policy=messaging.DefaultRPCAccessPolicy,
    )
    server.start()
    try:
        api = rpcapi.AttachWorkerAPI(transport)
        assert api.ping({}, name) == {'ready': True}
        request = objects.RotateKeyRequest(
            request_id='r', attachment_id='a', old_key='k', new_key='l'
        )
        with pytest.raises(messaging.UnsupportedVersion, match='1.1'):
            api.rotate_encryption_key({}, name, request)
    finally:
        server.stop()
        server.wait()
