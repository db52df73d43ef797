# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The kernel shows a LUN some time after it was told to look for it."""

import threading
import types
from typing import Any

from tests import harness
from tests.simulator.bed import SimulatedBed


class _Scsi:
    """A scan returns before the device is there."""

    def __init__(self, bed: SimulatedBed) -> None:
        self._bed = bed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bed.verbs.scsi, name)

    def scan(self, *arguments: int) -> None:
        threading.Timer(0.2, self._bed.verbs.scsi.scan, arguments).start()


def test_what_appears_after_the_last_scan_is_used() -> None:
    bed = SimulatedBed()
    try:
        volume = bed.create_volume()
        before = bed.snapshot()
        verbs = types.SimpleNamespace(**vars(bed.verbs) | {'scsi': _Scsi(bed)})
        with harness.Harness(
            bed, host=bed.host(verbs), iscsi={'scan_attempts': 1}
        ) as worker:
            result = worker.attach(volume)
            assert result.status == 'attached', result.as_dict()
            assert worker.detach(volume.name).status == 'detached'
        assert bed.snapshot() == before
    finally:
        bed.close()
