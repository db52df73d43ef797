# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""multipathd hears of a disk when that is about to go."""

import types
from typing import Any

from tests import harness
from tests.simulator.bed import SimulatedBed


class _Scsi:
    """A disk is removed just after multipathd has made a map of it."""

    def __init__(self, bed: SimulatedBed, wwid: str) -> None:
        self._bed = bed
        self._wwid = wwid

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bed.verbs.scsi, name)

    def delete(self, hctl: str) -> None:
        self._bed.verbs.multipath.remember(self._wwid)
        self._bed.verbs.scsi.delete(hctl)


def test_no_line_of_a_map_that_came_too_late_is_left() -> None:
    bed = SimulatedBed()
    try:
        bed.set_multipathd()
        volume = bed.create_volume()
        before = bed.snapshot()
        verbs = types.SimpleNamespace(
            **vars(bed.verbs) | {'scsi': _Scsi(bed, f'3{volume.wwn}')}
        )
        with harness.Harness(bed, host=bed.host(verbs)) as worker:
            assert worker.attach(volume).status == 'attached'
            assert worker.detach(volume.name).status == 'detached'
        assert bed.snapshot() == before
    finally:
        bed.close()
