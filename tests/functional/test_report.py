# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The Guru Meditation Report of a daemon that works."""

import pathlib
import signal

from tests import harness
from tests.functional import caller
from tests.functional import daemon
from tests.functional import rabbitmq
from tests.simulator.bed import SimulatedBed
from tests.simulator.faults import Fault


def test_what_it_does_is_in_the_report(
    broker: rabbitmq.RabbitMQNode, bed: SimulatedBed, tmp_path: pathlib.Path
) -> None:
    there = bed.create_volume()
    volume = bed.create_volume(chap=('user', 'CANARY-secret'))
    with daemon.Daemon(tmp_path, broker.url, bed.root) as one:
        result = one.api.attach_volume(
            {}, one.name, harness.attach_request(there)
        )
        assert result.status == 'attached', result.as_dict()
        # Given an attach that hangs
        fault = bed.arm(Fault.HANG_BEFORE, 'iscsi.login')
        request = harness.attach_request(volume)
        attaching = caller.Background(
            one.api.attach_volume, {}, one.name, request
        )
        caller.until(lambda: 'iscsi.login' in bed.control('running'))
        # When the report is asked for
        one.signal(signal.SIGUSR2)
        caller.until(lambda: 'Connections' in one.log)
        caller.until(lambda: there.target in one.log)
        fault.release()
        # Then the daemon goes on
        assert attaching.result().status == 'attached'
        for name in (there.name, volume.name):
            gone = harness.detach_request(name)
            result = one.api.detach_volume({}, one.name, gone)
            assert result.status == 'detached', result.as_dict()
        # And the report has what goes on, threads and options, but no secret
        report = one.log.partition('Guru Meditation')[2]
        assert f'attach of {volume.name}, iscsi, for ' in report
        assert there.target in report
        # (the thread of the attach is where it hangs)
        assert 'attachworker/host/verbs.py' in report
        assert 'max_running_per_backend = 8' in report
        assert 'CANARY' not in one.log
        assert ':guest@' not in report
