# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A worker with much to do, and workers that get in each other's way."""

import pathlib
import time

import pytest

from attachworker import exception
from attachworker.worker import service
from tests import harness
from tests.functional import caller
from tests.functional import rabbitmq
from tests.simulator.bed import SimulatedBed
from tests.simulator.faults import Fault


def test_waiting_calls_starve_nobody(
    broker: rabbitmq.RabbitMQNode, bed: SimulatedBed
) -> None:
    # Given a worker with one place and a short queue, and a dead storage
    fault = bed.arm(Fault.HANG_BEFORE, 'iscsi.login')
    volumes = [bed.create_volume() for _ in range(30)]
    with harness.Harness(
        bed, broker.url, max_running=1, max_queued=2
    ) as small:
        calls = [caller.Background(small.attach, volumes[0])]
        assert fault.wait()
        # When far more is asked for
        calls += [
            caller.Background(small.attach, volume) for volume in volumes[1:]
        ]
        # Then what it has no room for is told so at once
        caller.until(lambda: sum(not call.is_alive() for call in calls) == 27)
        # And questions are answered
        for _ in range(3):
            began = time.monotonic()
            assert small.api.ping({}, small.name)['ready']
            assert len(small.attachments()) == 1
            assert time.monotonic() - began < 1
        assert sum(call.is_alive() for call in calls) == 3
        # And what it has taken is done
        fault.release()
        results = [call.result() for call in calls]
        done = [one for one in results if one.status == 'attached']
        assert len(done) == 3
        for result in results:
            assert result in done or result.error.code == 'busy'
            assert result in done or result.error.retryable
        busy = next(one for one in results if one not in done)
        with pytest.raises(exception.RequestNotFound):
            small.api.get_result({}, small.name, busy.request_id)
        for result in done:
            small.detach(result.attachment_id)


def test_a_deadline_is_kept_in_the_queue(
    broker: rabbitmq.RabbitMQNode, bed: SimulatedBed
) -> None:
    # Given a worker with one place, which a dead storage has taken
    fault = bed.arm(Fault.HANG_BEFORE, 'iscsi.login')
    first, second = bed.create_volume(), bed.create_volume()
    before = bed.snapshot()
    with harness.Harness(bed, broker.url, max_running=1) as small:
        call = caller.Background(small.attach, first)
        assert fault.wait()
        # When the deadline of an attach passes that waits for it
        result = small.attach(second, deadline_seconds=1)
        # Then it is answered before the other one is
        assert result.error.code == 'deadline_exceeded', result.as_dict()
        assert result.error.retryable
        assert result.error.step is None
        assert call.is_alive()
        stored = small.api.get_result({}, small.name, result.request_id)
        assert stored.as_dict() == result.as_dict()
        # And nothing was done for it, then or later
        fault.release()
        assert call.result().status == 'attached'
        assert small.attachments() == [f'{first.name} attached']
        assert small.detach(first.name).status == 'detached'
        assert bed.snapshot() == before


def test_second_worker_of_a_name_does_not_start(
    worker: harness.Harness, bed: SimulatedBed, tmp_path: pathlib.Path
) -> None:
    conf = harness.configuration(
        worker.conf.transport_url,
        host=worker.name,
        state_path=str(tmp_path),
    )
    host = bed.host()
    second = service.Worker(conf, host)
    with pytest.raises(exception.ConfigurationError, match=worker.name):
        second.start()
    assert not second.ready.is_set()
    host.close()
    assert worker.api.ping({}, worker.name)['ready']


def test_second_worker_of_a_journal_does_not_start(
    worker: harness.Harness, bed: SimulatedBed
) -> None:
    conf = harness.configuration(
        worker.conf.transport_url,
        host='another',
        state_path=worker.conf.state_path,
    )
    host = bed.host()
    with pytest.raises(exception.JournalUnavailable, match='another worker'):
        service.Worker(conf, host)
    host.close()
    assert worker.attachments() == []
