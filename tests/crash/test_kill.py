# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""kill -9 of the worker at every point that a request passes.

Before and after each task, and before, during and after each privileged verb
and each write to the journal. Whatever the point: one result, and a host with
the volume attached and recorded, or as it was before. The points are those
that a run passes, so a new task or verb is tried without being listed here.
"""

import contextlib
import functools
import pathlib
import types
from typing import Any

import pytest

from tests import harness
from tests.crash import machines
from tests.crash import victim
from tests.crash.scene import Ask
from tests.crash.scene import Await
from tests.crash.scene import Scenario
from tests.crash.scene import Scene
from tests.simulator.bed import SimulatedBed
from tests.simulator.faults import Fault

SCENARIOS = [
    Scenario('attach'),
    Scenario('attach', shared=True),
    Scenario('attach', portals=2),
    Scenario('attach', portals=2, multipath=True),
    Scenario('attach', portals=2, multipath=True, fails='VerifyDevice'),
    Scenario('attach', 0, protocol='local'),
    Scenario('detach', 0, protocol='local'),
    Scenario('extend', 0, protocol='local'),
    Scenario('attach', protocol='nvmeof'),
    Scenario('attach', 2, True, protocol='nvmeof'),
    Scenario('attach', 2, True, shared=True, protocol='nvmeof'),
    Scenario('detach', 2, True, protocol='nvmeof'),
    Scenario('extend', 2, True, protocol='nvmeof'),
    Scenario('attach', 0, protocol='rbd'),
    Scenario('detach', 0, protocol='rbd'),
    Scenario('extend', 0, protocol='rbd'),
    Scenario('attach', protocol='fibre_channel'),
    Scenario('attach', 2, True, shared=True, protocol='fibre_channel'),
    Scenario('detach', 2, True, shared=True, protocol='fibre_channel'),
    Scenario('extend', 2, True, protocol='fibre_channel'),
    Scenario('attach', 0, protocol='nfs'),
    Scenario('attach', 0, shared=True, protocol='nfs'),
    Scenario('detach', 0, protocol='nfs'),
    Scenario('detach', 0, shared=True, protocol='nfs'),
    Scenario('extend', 0, protocol='nfs'),
    Scenario('attach', encryption='luks2'),
    Scenario('detach', encryption='luks2'),
    Scenario('extend', encryption='luks2'),
    Scenario('rotate', encryption='luks2'),
    Scenario('rotate', encryption='luks2', fails='AddKey'),
    Scenario('detach'),
    Scenario('detach', shared=True),
    Scenario('detach', portals=2),
    Scenario('detach', portals=2, multipath=True),
    Scenario('extend'),
    Scenario('extend', portals=2),
    Scenario('extend', portals=2, multipath=True),
]

#: And where a worker is killed first, when the next one is, too.
TWICE = [
    (Scenario('attach'), 'VerifyDevice execute before #1'),
    (
        Scenario('detach', portals=2, multipath=True),
        'multipath.remove_map after #1',
    ),
]

#: Of the points that a first run passes, those that another must, too. Which
#: of two threads is quicker changes some.
_NEARLY_ALL = 0.9


@pytest.mark.timeout(900)
@pytest.mark.parametrize('scenario', SCENARIOS, ids=str)
def test_killed_anywhere(
    bed: SimulatedBed, tmp_path: pathlib.Path, scenario: Scenario
) -> None:
    # Given the points that a request passes
    with contextlib.closing(
        Scene(bed, machines.Simulated(bed.root), tmp_path, scenario)
    ) as scene:
        if scenario.fails == 'VerifyDevice':
            bed.arm(Fault.FAIL_BEFORE, 'block.check_readable', times=None)
        if scenario.fails == 'AddKey':
            bed.arm(Fault.FAIL_AFTER, 'encryption.add_key', times=None)
        points = scene.points()
        # When the worker is killed at each, then the next one ends it
        struck = [scene.strike(point) for point in points]
    print(f'{scenario}: killed at {sum(struck)} of {len(points)} points')
    assert sum(struck) >= _NEARLY_ALL * len(points)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(('scenario', 'first'), TWICE, ids=str)
def test_killed_anywhere_in_the_recovery(
    bed: SimulatedBed, tmp_path: pathlib.Path, scenario: Scenario, first: str
) -> None:
    # Given a worker that was killed, and the points that the next one passes
    with contextlib.closing(
        Scene(bed, machines.Simulated(bed.root), tmp_path, scenario)
    ) as scene:
        points = scene.points(first)
        # When that is killed at each, then the third one ends it
        struck = [scene.strike(point, first) for point in points]
    print(f'{scenario}, twice: {sum(struck)} of {len(points)} points')
    assert sum(struck) >= _NEARLY_ALL * len(points)


class _LateLogin:
    """Logs in when what a killed worker had begun has just ended."""

    def __init__(self, bed: SimulatedBed) -> None:
        self._machine = machines.Simulated(bed.root)
        self._verbs = bed.verbs.iscsi
        self.logout = self._verbs.logout

    def login(self, *arguments: Any) -> tuple[int, str]:
        self._machine.settle()
        found: tuple[int, str] = self._verbs.login(*arguments)
        return found


def test_a_login_that_outlives_its_worker_is_ours(
    bed: SimulatedBed, tmp_path: pathlib.Path
) -> None:
    # Given a worker that is killed, and iscsid that goes on with its login
    volume = bed.create_volume()
    before = bed.snapshot()
    make = functools.partial(harness.attach_request, volume, request_id='one')
    machine = machines.Simulated(bed.root)
    order = victim.Order(machine, tmp_path, Ask('attach', make))
    killed, _ = victim.run(order, 'iscsi.login during #1')
    assert killed
    # When the login ends just before the next worker's own
    verbs = types.SimpleNamespace(
        **vars(bed.verbs) | {'iscsi': _LateLogin(bed)}
    )
    with victim.make_worker(bed.host(verbs), tmp_path) as worker:
        Await(tmp_path)()
        result = worker.api.get_result({}, worker.name, 'one')
        assert result.status == 'attached', result.as_dict()
        # Then the session goes with the volume
        assert worker.detach(volume.name).status == 'detached'
        assert bed.snapshot() == before
