# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Logins that end when nobody waits for them any more."""

import errno
import pathlib

import pytest

from attachworker import deadline as deadlines
from tests import harness
from tests.contract import bed as beds
from tests.functional import caller
from tests.functional import daemon
from tests.functional import rabbitmq
from tests.simulator.bed import SimulatedBed
from tests.simulator.faults import Fault

_OPTIONS = ('[iscsi]', 'login_timeout = 2')


def log_in(bed: SimulatedBed, volume: beds.Volume) -> None:
    """What iscsid does in the end, though nobody waits for it."""
    address, _, port = volume.portals[0].rpartition(':')
    record = {'node.session.scan': 'manual'}
    code, _ = bed.verbs.iscsi.login(
        volume.target, address, int(port), record, 10.0
    )
    assert code == 0


@pytest.mark.parametrize('why', ['deadline', 'cancel'])
def test_a_login_that_outlives_its_worker_and_its_attach(
    broker: rabbitmq.RabbitMQNode,
    bed: SimulatedBed,
    receiver: caller.Receiver,
    tmp_path: pathlib.Path,
    why: str,
) -> None:
    # Given an attach in its login, and its worker is killed
    volume = bed.create_volume()
    before = bed.snapshot()
    fault = bed.arm(Fault.HANG_BEFORE, 'iscsi.login')
    request = harness.attach_request(
        volume,
        deadline_seconds=2 if why == 'deadline' else 300,
        reply_to=receiver.reply_to,
    )
    with daemon.Daemon(
        tmp_path, broker.url, bed.root, options=_OPTIONS
    ) as one:
        one.api.cast_attach_volume({}, one.name, request)
        assert fault.wait(15)
        end = deadlines.now() + request.deadline_seconds
        if why == 'cancel':
            assert one.api.cancel({}, one.name, request.request_id)
        one.kill()
        # When the next one has to undo it
        if why == 'deadline':
            caller.until(lambda: deadlines.now() > end)
        one.start()
        one.wait_until_ready()
        # Then it says that there may be a session yet
        assert receiver.got.wait(30)
        [result] = receiver.results
        code = 'cancelled' if why == 'cancel' else 'deadline_exceeded'
        assert result.error.code == code, result.as_dict()
        [left] = result.leftovers
        assert left.startswith('the login to ')
        # And when there is one, it goes
        fault.release()
        caller.until(lambda: not one.api.list_attachments({}, one.name))
        caller.until(lambda: bed.snapshot() == before)


def test_a_login_that_never_ends_is_given_up(bed: SimulatedBed) -> None:
    volume = bed.create_volume()
    before = bed.snapshot()
    with harness.Harness(bed, iscsi={'login_timeout': 1}) as worker:
        # Given a login whose iscsiadm is killed, and iscsid does not log in
        bed.arm(Fault.FAIL_BEFORE, 'iscsi.login', number=errno.ETIMEDOUT)
        assert worker.attach(volume).leftovers
        # Then it is given up once iscsid must have given up
        caller.until(lambda: not worker.attachments(), timeout=60)
        # And what comes later is somebody else's, and stays
        log_in(bed, volume)
        assert worker.attach(volume).status == 'attached'
        assert worker.detach(volume.name).status == 'detached'
        assert len(bed.snapshot()['sessions']) == 1
    bed.drop_session(volume, volume.portals[0])
    assert bed.snapshot() == before


def test_an_iscsiadm_that_is_killed(bed: SimulatedBed) -> None:
    volume, other = bed.create_volume(), bed.create_volume()
    before = bed.snapshot()
    with harness.Harness(bed, iscsi={'login_timeout': 5}) as worker:
        # Given a login whose iscsiadm is killed, while iscsid is at it
        bed.arm(Fault.FAIL_BEFORE, 'iscsi.login', number=errno.ETIMEDOUT)
        result = worker.attach(volume)
        assert result.status == 'failed', result.as_dict()
        assert [one[:13] for one in result.leftovers] == ['the login to ']
        assert worker.attachments() == [f'{volume.name} failed']
        # When iscsid comes to an end with it
        log_in(bed, volume)
        # Then the session goes
        caller.until(lambda: not worker.attachments())
        caller.until(lambda: bed.snapshot() == before)
        # And a session of somebody else stays
        log_in(bed, other)
        assert worker.attach(other).status == 'attached'
        assert worker.detach(other.name).status == 'detached'
        assert len(bed.snapshot()['sessions']) == 1
    bed.drop_session(other, other.portals[0])
