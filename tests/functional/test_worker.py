# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The real worker on a simulated host, called over a real broker."""

import statistics
import time
from typing import Any
import uuid

import oslo_messaging as messaging
import pytest

from attachworker import exception
from attachworker import objects
from attachworker import rpcapi
from attachworker.bus import transport as bus
from tests import harness
from tests.functional import caller
from tests.functional import rabbitmq
from tests.simulator.bed import SimulatedBed
from tests.simulator.faults import Fault

DATA = 'versioned_object.data'


def primitive(bed: SimulatedBed, **values: Any) -> tuple[Any, Any]:
    """A request as it travels, and the connection_info in it."""
    volume = bed.create_volume(chap=('user', 'CANARY-secret'))
    made = harness.attach_request(volume, **values).obj_to_primitive()
    return made, made[DATA]['connection_info'][DATA]


def test_attach_and_detach(bed: SimulatedBed, worker: harness.Harness) -> None:
    volume = bed.create_volume(chap=('user', 'password-of-it'))

    attached = worker.attach(volume)

    assert attached.status == 'attached', attached.as_dict()
    assert bed.read(attached.device.path) == volume.pattern
    attachment = worker.api.get_attachment({}, worker.name, volume.name)
    assert attachment.state == 'attached'
    assert attachment.device.as_dict() == attached.device.as_dict()
    assert attachment.last_result.as_dict() == attached.as_dict()
    [listed] = worker.api.list_attachments({}, worker.name)
    assert listed.as_dict() == attachment.as_dict()
    detached = worker.detach(volume.name)
    assert detached.status == 'detached', detached.as_dict()
    for result in (attached, detached):
        stored = worker.api.get_result({}, worker.name, result.request_id)
        assert stored.as_dict() == result.as_dict()


def test_failed_attach_is_a_result(
    bed: SimulatedBed, worker: harness.Harness
) -> None:
    volume = bed.create_volume()
    bed.stop_portal(volume.portals[0])

    result = worker.attach(volume)

    assert result.status == 'failed'
    assert result.error.code == 'target_unreachable'
    assert result.error.step.startswith('ConnectTarget:')
    assert result.leftovers == []


def test_questions_about_the_unknown(worker: harness.Harness) -> None:
    with pytest.raises(exception.AttachmentNotFound, match='no-such-id'):
        worker.api.get_attachment({}, worker.name, 'no-such-id')
    with pytest.raises(exception.RequestNotFound, match='no-such-id'):
        worker.api.get_result({}, worker.name, 'no-such-id')
    assert worker.detach('no-such-id').status == 'detached'


def test_ping_and_connector(worker: harness.Harness) -> None:
    answer = worker.api.ping({}, worker.name)
    assert (answer['host'], answer['ready']) == (worker.name, True)
    connector = worker.api.get_connector_properties(
        {}, worker.name, multipath=True, enforce_multipath=True
    )
    assert connector['host'] == worker.name
    assert connector['initiator'].startswith('iqn.')
    assert connector['multipath'] is connector['enforce_multipath'] is True
    ours = connector['attachworker']
    assert ours['rpc_version'] == '1.1'
    assert '/sys/class/fc_host' in ours['protocols'].pop('fibre_channel')
    assert ours['protocols'] == {
        'iscsi': None,
        'local': None,
        'nfs': None,
        'nvmeof': None,
        'rbd': None,
    }
    assert ours['assemblers'].keys() == {'multipathd', 'nvme_native'}
    assert ours['secrets'] == 'accepted'


def test_whether_paths_can_be_put_together_is_told(
    worker: harness.Harness, bed: SimulatedBed
) -> None:
    def multipathd(**arguments: bool) -> str:
        found = worker.api.get_connector_properties(
            {}, worker.name, **arguments
        )
        return str(found['attachworker']['assemblers']['multipathd'])

    # Given a host whose multipathd does not run
    bed.stop_multipathd()
    # Then storage is told, with what to do
    assert 'start it' in multipathd()
    # And what nobody knows is not taken for an answer
    bed.arm(Fault.FAIL_BEFORE, 'multipath.running')
    assert 'nobody knows' in multipathd(multipath=True)
    # And once it runs there is nothing in the way
    bed.set_multipathd()
    assert multipathd() == 'None'
    bed.stop_multipathd()


def test_unknown_host(worker: harness.Harness) -> None:
    with pytest.raises(exception.HostNotFound, match='nobody'):
        worker.api.list_attachments({}, 'nobody')


@pytest.mark.parametrize('version', ['1.2', '2.0'])
def test_other_version_is_unsupported(
    raw: caller.RawClient, version: str
) -> None:
    with pytest.raises(messaging.UnsupportedVersion, match=version):
        raw.call('ping', version=version)


@pytest.mark.parametrize(
    'method', ['stop', '_outcome', 'target', '__init__', 'no_such_method']
)
def test_nothing_else_can_be_called(
    raw: caller.RawClient, method: str
) -> None:
    with pytest.raises((messaging.RemoteError, messaging.NoSuchMethod)):
        raw.call(method)


@pytest.mark.parametrize(
    ('key', 'value', 'named', 'rule'),
    [
        ('auth_username', 'u\n', 'auth_username', 'control characters'),
        ('auth_password', 'CANARY-secret\0', 'auth_password', 'NUL'),
        ('auth_method', 'KRB5', 'auth_method', 'must be CHAP'),
        ('target_list', [], 'target', ''),
        ('target_list', None, 'ISCSIConnectionInfo', 'well-formed'),
        ('encrypted', 'yes', 'encrypted', 'true or false'),
    ],
)
def test_bad_object_is_an_error_of_the_call(
    bed: SimulatedBed,
    raw: caller.RawClient,
    key: str,
    value: Any,
    named: str,
    rule: str,
) -> None:
    request, info = primitive(bed)
    info[key] = value
    with pytest.raises(exception.InvalidConnectionInfo) as caught:
        raw.call('attach_volume', request=request)
    text = caught.value.args[0]
    assert named in text
    assert rule in text
    assert 'CANARY-secret' not in str(caught.value)


@pytest.mark.parametrize(
    'value',
    [
        None,
        7,
        'text',
        [],
        {},
        {'versioned_object.name': 'ReplyTo'},
        {DATA: {}},
        {
            'versioned_object.name': 'ISCSIConnectionInfo',
            'versioned_object.namespace': 'attachworker',
            'versioned_object.version': '1.0',
            DATA: {},
        },
        {
            'versioned_object.name': 'ISCSIConnectionInfo',
            'versioned_object.namespace': 'attachworker',
            'versioned_object.version': [],
            DATA: None,
        },
    ],
)
def test_nonsense_is_an_error_of_the_call(
    bed: SimulatedBed, raw: caller.RawClient, value: Any
) -> None:
    request, _ = primitive(bed)
    request[DATA]['connection_info'] = value
    with pytest.raises(exception.InvalidConnectionInfo):
        raw.call('attach_volume', request=request)
    # And in place of the whole request
    with pytest.raises(exception.InvalidConnectionInfo):
        raw.call('attach_volume', request=value)
    with pytest.raises(exception.InvalidConnectionInfo):
        raw.call('detach_volume', request=request)


@pytest.mark.parametrize('key', ['version', 'data', 'namespace', 'changes'])
@pytest.mark.parametrize('value', [None, 7, [], {}, 'text'], ids=repr)
def test_nonsense_envelope_does_not_break_anything(
    bed: SimulatedBed, raw: caller.RawClient, key: str, value: Any
) -> None:
    request, _ = primitive(bed, request_id=str(uuid.uuid4()))
    request[f'versioned_object.{key}'] = value
    request[DATA].pop('attachment_id', None) if key == 'changes' else None
    with pytest.raises(exception.InvalidConnectionInfo):
        raw.call('attach_volume', request=request)


def test_two_callers_at_once(
    broker: rabbitmq.RabbitMQNode, bed: SimulatedBed, worker: harness.Harness
) -> None:
    def attach_some() -> None:
        transport = bus.get_transport(worker.conf, broker.url)
        api = rpcapi.AttachWorkerAPI(transport)
        for _ in range(5):
            volume = bed.create_volume()
            request = harness.attach_request(volume)
            result = api.attach_volume({}, worker.name, request)
            assert result.request_id == request.request_id
            assert bed.read(result.device.path) == volume.pattern
            assert worker.detach(volume.name).status == 'detached'
        transport.cleanup()

    callers = [caller.Background(attach_some) for _ in range(2)]
    for each in callers:
        each.result()


def test_two_hosts_on_one_broker(
    broker: rabbitmq.RabbitMQNode, bed: SimulatedBed, worker: harness.Harness
) -> None:
    # Given another host that reaches the same storage by other portals
    other_bed = SimulatedBed()
    with harness.Harness(other_bed, broker.url) as other:
        here, there = bed.create_volume(), other_bed.create_volume()
        # When each gets a volume
        assert worker.attach(here).status == 'attached'
        assert other.attach(there).status == 'attached'
        # Then each has its own, and a call reaches the right one
        assert worker.attachments() == [f'{here.name} attached']
        assert other.attachments() == [f'{there.name} attached']
        assert other.detach(there.name).status == 'detached'
        assert worker.detach(here.name).status == 'detached'
    other_bed.close()


def test_slow_attach_outlives_the_monitor(
    broker: rabbitmq.RabbitMQNode, bed: SimulatedBed, worker: harness.Harness
) -> None:
    # Given a login that takes longer than the monitor waits for a sign
    volume = bed.create_volume()
    fault = bed.arm(Fault.HANG_BEFORE, 'iscsi.login')
    transport = bus.get_transport(worker.conf, broker.url)
    api = rpcapi.AttachWorkerAPI(transport, call_monitor_timeout=2)
    request = harness.attach_request(volume)
    # When somebody waits for it
    call = caller.Background(api.attach_volume, {}, worker.name, request, 60.0)
    assert fault.wait()
    # Then the worker says that it runs
    look = worker.api.get_result
    assert look({}, worker.name, request.request_id) is None
    assert worker.attachments() == [f'{volume.name} attaching']
    call.join(4.5)
    # And the caller gets its answer
    assert call.is_alive()
    fault.release()
    assert call.result().status == 'attached'
    transport.cleanup()
    worker.detach(volume.name)


def test_same_request_from_two_callers_is_one_operation(
    broker: rabbitmq.RabbitMQNode, bed: SimulatedBed, worker: harness.Harness
) -> None:
    volume = bed.create_volume()
    fault = bed.arm(Fault.HANG_BEFORE, 'iscsi.login')
    request = harness.attach_request(volume)
    other = bus.get_transport(worker.conf, broker.url)
    apis = [worker.api, rpcapi.AttachWorkerAPI(other)]
    calls = [
        caller.Background(api.attach_volume, {}, worker.name, request)
        for api in apis
    ]
    assert fault.wait()
    time.sleep(0.3)
    fault.release()

    one, two = (call.result() for call in calls)

    # The times of the steps are those of one run.
    assert one.as_dict() == two.as_dict()
    assert one.status == 'attached'
    assert len(bed.snapshot()['sessions']) == 1
    other.cleanup()
    worker.detach(volume.name)


def test_same_request_id_with_other_content_is_a_conflict(
    bed: SimulatedBed, worker: harness.Harness
) -> None:
    volume = bed.create_volume()
    first = worker.attach(volume)
    result = worker.attach(bed.create_volume(), request_id=first.request_id)
    assert result.error.code == 'attachment_conflict'
    assert worker.attachments() == [f'{volume.name} attached']
    worker.detach(volume.name)


def test_latency_of_an_attach(
    bed: SimulatedBed, worker: harness.Harness
) -> None:
    seconds: dict[str, list[float]] = {'attach': [], 'detach': []}
    for _ in range(15):
        volume = bed.create_volume()
        for name, call in (
            ('attach', lambda volume=volume: worker.attach(volume)),
            ('detach', lambda volume=volume: worker.detach(volume.name)),
        ):
            began = time.perf_counter()
            result: objects.OperationResult = call()
            seconds[name].append(time.perf_counter() - began)
            assert result.error is None
    for name, values in seconds.items():
        print(
            f'{name}: p50 {statistics.median(values) * 1000:.0f} ms,'
            f' max {max(values) * 1000:.0f} ms'
        )
    assert statistics.median(seconds['attach']) < 1
