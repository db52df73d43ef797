# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Casts to the real worker, and the delivery of their results."""

import logging
import time
from typing import Any

import pytest

from attachworker import objects
from tests import harness
from tests.functional import caller
from tests.functional import rabbitmq
from tests.functional.test_worker import DATA
from tests.functional.test_worker import primitive
from tests.simulator.bed import SimulatedBed
from tests.simulator.faults import Fault

#: Seconds after which no second delivery would come any more.
_QUIET = 0.5


def one_result(receiver: caller.Receiver) -> objects.OperationResult:
    """The result that a receiver got; it must not get another one."""
    assert receiver.got.wait(15)
    time.sleep(_QUIET)
    [result] = receiver.results
    return result


def test_result_of_a_cast_is_delivered(
    bed: SimulatedBed, worker: harness.Harness, receiver: caller.Receiver
) -> None:
    volume = bed.create_volume()
    request = harness.attach_request(volume, reply_to=receiver.reply_to)

    worker.api.cast_attach_volume({}, worker.name, request)

    result = one_result(receiver)
    assert result.request_id == request.request_id
    assert result.status == 'attached'
    assert bed.read(result.device.path) == volume.pattern
    stored = worker.api.get_result({}, worker.name, request.request_id)
    assert stored.as_dict() == result.as_dict()
    detach = objects.DetachRequest(
        request_id='detach-' + request.request_id,
        attachment_id=volume.name,
        reply_to=receiver.reply_to,
    )
    worker.api.cast_detach_volume({}, worker.name, detach)
    caller.until(lambda: len(receiver.results) == 2)
    assert receiver.results[1].status == 'detached'


def test_result_of_an_extend_is_delivered(
    bed: SimulatedBed, worker: harness.Harness, receiver: caller.Receiver
) -> None:
    # Given an attached volume that has grown on the storage
    volume = bed.create_volume()
    path = worker.attach(volume).device.path
    size = 2 * volume.size
    bed.resize_volume(volume, size)
    # When the host is told, by a message that nobody waits for
    request = objects.ExtendRequest(
        request_id='extend-' + volume.name,
        attachment_id=volume.name,
        expected_size=size,
        reply_to=receiver.reply_to,
    )
    worker.api.cast_extend_volume({}, worker.name, request)
    # Then both sizes are told to who was named in it
    result = one_result(receiver)
    assert result.request_id == request.request_id
    assert result.status == 'extended', result.as_dict()
    assert (result.old_size, result.device.size) == (volume.size, size)
    assert result.device.path == path
    stored = worker.api.get_result({}, worker.name, request.request_id)
    assert stored.as_dict() == result.as_dict()
    worker.detach(volume.name)


def test_extend_of_what_has_not_grown_is_delivered(
    bed: SimulatedBed, worker: harness.Harness, receiver: caller.Receiver
) -> None:
    volume = bed.create_volume()
    worker.attach(volume)
    request = objects.ExtendRequest(
        request_id='extend-' + volume.name,
        attachment_id=volume.name,
        expected_size=2 * volume.size,
        reply_to=receiver.reply_to,
    )
    worker.api.cast_extend_volume({}, worker.name, request)
    result = one_result(receiver)
    assert result.error.code == 'extend_failed', result.as_dict()
    assert result.error.step == 'VerifySize'
    worker.detach(volume.name)


def test_result_of_a_rotation_is_delivered(
    bed: SimulatedBed, worker: harness.Harness, receiver: caller.Receiver
) -> None:
    # Given an open volume
    volume = bed.create_volume()
    bed.encrypt(volume, 'luks2', 'old')
    wanted = {'provider': 'luks2', 'key': 'old'}
    path = worker.attach(volume, encryption=wanted).device.path
    # When its key is to be another one, and nobody waits for that
    request = objects.RotateKeyRequest(
        request_id='rotate-' + volume.name,
        attachment_id=volume.name,
        old_key='old',
        new_key='new',
        reply_to=receiver.reply_to,
    )
    worker.api.cast_rotate_encryption_key({}, worker.name, request)
    # Then who was named in it is told
    result = one_result(receiver)
    assert (result.operation, result.status) == ('rotate', 'rotated')
    assert result.device.path == path
    stored = worker.api.get_result({}, worker.name, request.request_id)
    assert stored.as_dict() == result.as_dict()
    worker.detach(volume.name)


def test_failed_attach_is_delivered(
    bed: SimulatedBed, worker: harness.Harness, receiver: caller.Receiver
) -> None:
    volume = bed.create_volume()
    bed.stop_portal(volume.portals[0])
    request = harness.attach_request(volume, reply_to=receiver.reply_to)
    worker.api.cast_attach_volume({}, worker.name, request)
    result = one_result(receiver)
    assert result.error.code == 'target_unreachable'
    assert result.leftovers == []


def test_receiver_that_fails_gets_it_again(
    bed: SimulatedBed, worker: harness.Harness, receiver: caller.Receiver
) -> None:
    receiver.refuse = 2
    volume = bed.create_volume()
    worker.api.cast_attach_volume(
        {},
        worker.name,
        harness.attach_request(volume, reply_to=receiver.reply_to),
    )
    assert one_result(receiver).status == 'attached'
    assert receiver.asked == 3
    worker.detach(volume.name)


def test_receiver_may_come_later(
    broker: rabbitmq.RabbitMQNode, bed: SimulatedBed, worker: harness.Harness
) -> None:
    receiver = caller.Receiver(broker.url)
    volume = bed.create_volume()
    request = harness.attach_request(volume, reply_to=receiver.reply_to)
    worker.api.cast_attach_volume({}, worker.name, request)
    caller.until(lambda: worker.attachments() == [f'{volume.name} attached'])
    time.sleep(0.3)
    receiver.server.start()
    assert one_result(receiver).status == 'attached'
    receiver.stop()
    worker.detach(volume.name)


def test_cast_without_reply_to_has_its_result_kept(
    bed: SimulatedBed, worker: harness.Harness
) -> None:
    volume = bed.create_volume()
    request = harness.attach_request(volume)
    worker.api.cast_attach_volume({}, worker.name, request)
    caller.until(lambda: worker.attachments() == [f'{volume.name} attached'])
    result = worker.api.get_result({}, worker.name, request.request_id)
    assert result.status == 'attached'
    worker.detach(volume.name)


def test_cast_that_is_sent_again_is_answered_again(
    bed: SimulatedBed, worker: harness.Harness, receiver: caller.Receiver
) -> None:
    volume = bed.create_volume()
    request = harness.attach_request(volume, reply_to=receiver.reply_to)
    worker.api.cast_attach_volume({}, worker.name, request)
    first = one_result(receiver)
    # The caller has crashed and does not know that it had its answer.
    worker.api.cast_attach_volume({}, worker.name, request)
    caller.until(lambda: len(receiver.results) == 2)
    assert receiver.results[1].as_dict() == first.as_dict()
    worker.detach(volume.name)


def test_cast_that_is_refused_is_told(
    bed: SimulatedBed, worker: harness.Harness, receiver: caller.Receiver
) -> None:
    volume = bed.create_volume()
    first = worker.attach(volume)
    other = harness.attach_request(
        bed.create_volume(),
        request_id=first.request_id,
        reply_to=receiver.reply_to,
    )
    worker.api.cast_attach_volume({}, worker.name, other)
    assert one_result(receiver).error.code == 'attachment_conflict'
    # What was stored is untouched.
    stored = worker.api.get_result({}, worker.name, first.request_id)
    assert stored.as_dict() == first.as_dict()
    worker.detach(volume.name)


def test_bad_object_is_told_to_who_is_legible(
    bed: SimulatedBed,
    worker: harness.Harness,
    raw: caller.RawClient,
    receiver: caller.Receiver,
) -> None:
    request, info = primitive(bed, reply_to=receiver.reply_to)
    info['auth_password'] = 'CANARY-secret\0'
    raw.cast('attach_volume', request=request)
    result = one_result(receiver)
    assert result.request_id == request[DATA]['request_id']
    assert result.status == 'failed'
    assert result.error.code == 'invalid_connection_info'
    assert 'auth_password' in result.error.message
    assert 'NUL' in result.error.message
    assert 'CANARY' not in str(result.as_dict())


@pytest.mark.parametrize(
    'reply_to', [None, 'text', {}, {DATA: None}, {DATA: {'topic': 7}}]
)
def test_bad_object_that_nobody_waits_for_is_logged(
    bed: SimulatedBed,
    worker: harness.Harness,
    raw: caller.RawClient,
    caplog: pytest.LogCaptureFixture,
    reply_to: Any,
) -> None:
    caplog.set_level(logging.DEBUG)
    request, info = primitive(bed)
    info['target_list'] = ['CANARY-in-the-body']
    request[DATA]['reply_to'] = reply_to
    raw.cast('attach_volume', request=request)
    caller.until(lambda: 'cannot be used' in caplog.text)
    worker.api.ping({}, worker.name)
    assert 'CANARY' not in caplog.text


def test_cast_to_a_method_that_is_none_is_dropped(
    worker: harness.Harness, raw: caller.RawClient
) -> None:
    raw.cast('no_such_method', secret='CANARY')
    raw.cast('ping', version='9.0')
    assert worker.api.ping({}, worker.name)['ready']


def test_busy_is_told_to_a_cast(
    broker: rabbitmq.RabbitMQNode,
    bed: SimulatedBed,
    receiver: caller.Receiver,
) -> None:
    fault = bed.arm(Fault.HANG_BEFORE, 'iscsi.login')
    with harness.Harness(
        bed, broker.url, max_running=1, max_queued=1
    ) as small:
        volumes = [bed.create_volume() for _ in range(3)]
        requests = [
            harness.attach_request(volume, reply_to=receiver.reply_to)
            for volume in volumes
        ]
        small.api.cast_attach_volume({}, small.name, requests[0])
        assert fault.wait()
        for request in requests[1:]:
            small.api.cast_attach_volume({}, small.name, request)
        assert one_result(receiver).error.code == 'busy'
        # It is not stored: the same request may be tried again
        fault.release()
        caller.until(lambda: len(receiver.results) == 3)
        small.api.cast_attach_volume({}, small.name, requests[2])
        caller.until(lambda: len(receiver.results) == 4)
        assert receiver.results[3].status == 'attached'
        for volume in volumes:
            small.detach(volume.name)


def test_cast_that_is_sent_again_from_elsewhere(
    broker: rabbitmq.RabbitMQNode,
    bed: SimulatedBed,
    worker: harness.Harness,
    receiver: caller.Receiver,
) -> None:
    # Given a caller that was started again, and has another name now
    gone = caller.Receiver(broker.url)
    volume = bed.create_volume()
    fault = bed.arm(Fault.HANG_BEFORE, 'iscsi.login')
    request = harness.attach_request(volume, reply_to=gone.reply_to)
    worker.api.cast_attach_volume({}, worker.name, request)
    assert fault.wait()
    # When it sends its request again, which runs
    request.reply_to = objects.ReplyTo(**receiver.reply_to)
    worker.api.cast_attach_volume({}, worker.name, request)
    worker.api.ping({}, worker.name)
    fault.release()
    # Then it has the result where it is now
    assert one_result(receiver).status == 'attached'
    # And again when it asks again, though nobody takes it elsewhere
    worker.api.cast_attach_volume({}, worker.name, request)
    caller.until(lambda: len(receiver.results) == 2)
    gone.transport.cleanup()
    worker.detach(volume.name)
