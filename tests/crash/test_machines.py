# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What a killed worker had begun ends before the next one is started."""

import contextlib
import socket

from tests.crash import machines
from tests.functional.caller import Background
from tests.simulator import wire
from tests.simulator.bed import SimulatedBed
from tests.simulator.faults import Fault


def test_a_fault_of_a_killed_worker_strikes_no_later_one() -> None:
    # Given a call that the simulator has taken and not read yet
    with (
        contextlib.closing(SimulatedBed()) as bed,
        socket.socket(socket.AF_UNIX) as stream,
    ):
        stream.connect(str(bed.root / wire.SOCKET))
        # When the next worker is about to be started
        fault = bed.arm(Fault.HANG_BEFORE, 'multipath.running')
        hanging = Background(bed.verbs.multipath.running)
        assert fault.wait()
        settling = Background(machines.Simulated(bed.root).settle)
        hanging.result()
        arguments = {
            'kind': Fault.HANG_BEFORE.value,
            'verb': 'multipath.forget',
        }
        call = {'call': 'control.arm', 'arguments': arguments}
        stream.sendall(wire.dump(call))
        assert stream.makefile('rb').readline()
        settling.result()
        # Then its verbs are not held up
        Background(bed.verbs.multipath.forget, 'wwid').result()
        assert bed.unfired() == []
