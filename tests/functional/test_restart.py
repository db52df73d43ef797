# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""kill -9 of the whole daemon in the middle of an operation."""

from collections.abc import Iterator
import signal
import time

import pytest

from attachworker import client
from attachworker import objects
from attachworker import rpcapi
from tests import harness
from tests.functional import caller
from tests.functional import daemon
from tests.functional import rabbitmq
from tests.simulator.bed import SimulatedBed
from tests.simulator.faults import Fault

#: Seconds after which no second delivery would come any more.
_QUIET = 1.0


@pytest.fixture(scope='module')
def one(
    broker: rabbitmq.RabbitMQNode,
    shared_bed: SimulatedBed,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[daemon.Daemon]:
    directory = tmp_path_factory.mktemp('one')
    with daemon.Daemon(directory, broker.url, shared_bed.root) as running:
        yield running


def one_result(receiver: caller.Receiver) -> objects.OperationResult:
    assert receiver.got.wait(30)
    time.sleep(_QUIET)
    [result] = receiver.results
    return result


@pytest.mark.parametrize(
    ('kind', 'verb'),
    [
        (Fault.HANG_BEFORE, 'iscsi.login'),
        (Fault.HANG_AFTER, 'iscsi.login'),
        (Fault.HANG_AFTER, 'scsi.scan'),
        (Fault.HANG_BEFORE, 'scsi.inquiry'),
    ],
)
def test_killed_in_an_attach(
    bed: SimulatedBed,
    one: daemon.Daemon,
    receiver: caller.Receiver,
    kind: Fault,
    verb: str,
) -> None:
    # Given an attach in the middle
    volume = bed.create_volume(chap=('user', 'password-of-it'))
    before = bed.snapshot()
    fault = bed.arm(kind, verb)
    request = harness.attach_request(volume, reply_to=receiver.reply_to)
    one.api.cast_attach_volume({}, one.name, request)
    assert fault.wait(15)
    # When the worker is killed, and started again
    one.kill()
    fault.release()
    one.restart()
    # Then there is one result, as if nothing had been: the worker has kept
    # the password, sealed
    result = one_result(receiver)
    assert result.request_id == request.request_id
    assert result.status == 'attached', result.as_dict()
    assert bed.read(result.device.path) == volume.pattern
    # And the log tells of it
    line = f'Unfinished attach of {volume.name} (request {request.request_id})'
    assert one.log.count(line) == 1
    assert 'Recovery: 1 requests unfinished' in one.log
    [attachment] = one.api.list_attachments({}, one.name)
    assert attachment.attachment_id == request.attachment_id
    # And whoever asks again gets the same one
    stored = one.api.get_result({}, one.name, request.request_id)
    assert stored.as_dict() == result.as_dict()
    again = one.api.attach_volume({}, one.name, request)
    assert again.as_dict() == result.as_dict()
    # And it can be detached without a trace
    gone = harness.detach_request(volume.name)
    assert one.api.detach_volume({}, one.name, gone).status == 'detached'
    assert bed.snapshot() == before


def test_killed_in_a_call(
    broker: rabbitmq.RabbitMQNode, bed: SimulatedBed, one: daemon.Daemon
) -> None:
    # Given a caller that waits for its attach
    volume = bed.create_volume()
    before = bed.snapshot()
    fault = bed.arm(Fault.HANG_AFTER, 'scsi.scan')
    with client.AttachWorkerClient(broker.url, one.name) as node:
        node.api._call_monitor_timeout = 2
        call = caller.Background(node.attach_volume, volume.connection_info())
        assert fault.wait(15)
        # When the worker is killed, and started again
        one.kill()
        fault.release()
        one.restart()
        # Then the caller has its answer
        result = call.result()
        assert result.status == 'attached', result.as_dict()
        assert bed.read(result.device.path) == volume.pattern
        node.detach_volume(result.attachment_id, raise_on_failure=True)
        assert bed.snapshot() == before


def test_a_call_that_is_never_sent_again(
    bed: SimulatedBed, one: daemon.Daemon
) -> None:
    # Given a caller that waits, and would wait for long
    volume = bed.create_volume()
    fault = bed.arm(Fault.HANG_AFTER, 'scsi.scan')
    request = harness.attach_request(volume)
    api = rpcapi.AttachWorkerAPI(
        one.transport, timeout=60, call_monitor_timeout=60
    )
    call = caller.Background(api.attach_volume, {}, one.name, request)
    assert fault.wait(15)
    # When the worker is killed, and started again
    one.kill()
    fault.release()
    one.restart()
    # Then the next worker answers the same call
    result = call.result()
    assert result.status == 'attached', result.as_dict()
    gone = harness.detach_request(volume.name)
    assert one.api.detach_volume({}, one.name, gone).status == 'detached'


def test_killed_between_journal_and_acknowledgement(
    bed: SimulatedBed,
    one: daemon.Daemon,
    receiver: caller.Receiver,
) -> None:
    # Given a worker that is killed when a request is in its journal, but the
    # broker does not know that yet
    volume = bed.create_volume()
    one.kill()
    one.start(DIES_BEFORE_ACKNOWLEDGING='yes')
    one.wait_until_ready()
    request = harness.attach_request(volume, reply_to=receiver.reply_to)
    one.api.cast_attach_volume({}, one.name, request)
    assert one.wait(20) == -signal.SIGKILL
    # When it is started again, and the message is delivered again
    one.restart()
    # Then there is one result
    result = one_result(receiver)
    assert result.status == 'attached', result.as_dict()
    gone = harness.detach_request(volume.name)
    assert one.api.detach_volume({}, one.name, gone).status == 'detached'


def test_who_asks_again_from_elsewhere_is_answered_there(
    broker: rabbitmq.RabbitMQNode,
    bed: SimulatedBed,
    one: daemon.Daemon,
    receiver: caller.Receiver,
) -> None:
    # Given a result that its caller has confirmed
    volume = bed.create_volume()
    request = harness.attach_request(volume, reply_to=receiver.reply_to)
    one.api.cast_attach_volume({}, one.name, request)
    result = one_result(receiver)
    # When the caller is elsewhere by now and asks again, and the worker is
    # killed before it has told the broker that it has that
    elsewhere = caller.Receiver(broker.url)
    elsewhere.server.start()
    one.kill()
    one.start(DIES_BEFORE_ACKNOWLEDGING='yes')
    one.wait_until_ready()
    request.reply_to = objects.ReplyTo(**elsewhere.reply_to)
    one.api.cast_attach_volume({}, one.name, request)
    assert one.wait(20) == -signal.SIGKILL
    # Then the next one tells it there, and does nothing twice
    one.restart()
    assert elsewhere.got.wait(30)
    assert elsewhere.results[0].as_dict() == result.as_dict()
    elsewhere.stop()
    gone = harness.detach_request(volume.name)
    assert one.api.detach_volume({}, one.name, gone).status == 'detached'


@pytest.mark.parametrize(
    ('kind', 'verb'),
    [
        (Fault.HANG_BEFORE, 'block.flush'),
        (Fault.HANG_AFTER, 'scsi.delete'),
        (Fault.HANG_AFTER, 'iscsi.logout'),
    ],
)
def test_killed_in_a_detach(
    bed: SimulatedBed,
    one: daemon.Daemon,
    receiver: caller.Receiver,
    kind: Fault,
    verb: str,
) -> None:
    # Given a detach in the middle, and a neighbour that stays
    neighbour = bed.create_volume()
    stays = harness.attach_request(neighbour)
    one.api.attach_volume({}, one.name, stays)
    before = bed.snapshot()
    volume = bed.create_volume()
    attach = harness.attach_request(volume)
    attached = one.api.attach_volume({}, one.name, attach)
    assert attached.status == 'attached', attached.as_dict()
    fault = bed.arm(kind, verb)
    request = harness.detach_request(volume.name, reply_to=receiver.reply_to)
    one.api.cast_detach_volume({}, one.name, request)
    assert fault.wait(15)
    # When the worker is killed, and started again
    one.kill()
    fault.release()
    one.restart()
    # Then the detach is finished
    result = one_result(receiver)
    assert result.status == 'detached', result.as_dict()
    assert result.request_id == request.request_id
    assert bed.snapshot() == before
    [left] = one.api.list_attachments({}, one.name)
    assert (left.attachment_id, left.state) == (neighbour.name, 'attached')
    gone = one.api.detach_volume(
        {}, one.name, harness.detach_request(neighbour.name)
    )
    assert gone.status == 'detached'


def test_killed_before_its_result_is_delivered(
    broker: rabbitmq.RabbitMQNode, bed: SimulatedBed, one: daemon.Daemon
) -> None:
    # Given a result that nobody takes yet
    receiver = caller.Receiver(broker.url)
    volume = bed.create_volume()
    request = harness.attach_request(volume, reply_to=receiver.reply_to)
    one.api.cast_attach_volume({}, one.name, request)
    caller.until(
        lambda: (
            [each.state for each in one.api.list_attachments({}, one.name)]
            == ['attached']
        )
    )
    # When the worker is killed, and started again
    one.restart()
    # Then it is delivered, once
    receiver.server.start()
    assert one_result(receiver).status == 'attached'
    one.restart()
    time.sleep(_QUIET)
    assert len(receiver.results) == 1
    receiver.stop()
    # And the attachment has outlived both
    assert bed.snapshot()['sessions'] != []
    gone = one.api.detach_volume(
        {}, one.name, harness.detach_request(volume.name)
    )
    assert gone.status == 'detached'
