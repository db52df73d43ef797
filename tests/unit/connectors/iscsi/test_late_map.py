# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

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
