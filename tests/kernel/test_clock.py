# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A host that starts in 1970 and is told the time later."""

from collections.abc import Iterator
import contextlib
import pathlib
import time

from tests import harness
from tests.kernel import bed as kernel_bed


@contextlib.contextmanager
def clock_kept() -> Iterator[None]:
    """The clock goes on afterwards as if nobody had set it."""
    wall, boot = time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)
    try:
        yield
    finally:
        passed = time.clock_gettime(time.CLOCK_BOOTTIME) - boot
        time.clock_settime(time.CLOCK_REALTIME, wall + passed)


def start_anew() -> None:
    """Set the clock to what it would be without a battery."""
    # The kernel takes nothing below the seconds that it is up.
    uptime = time.clock_gettime(time.CLOCK_BOOTTIME)
    time.clock_settime(time.CLOCK_REALTIME, uptime + 1.0)


def test_a_clock_that_is_set_after_56_years(
    bed: kernel_bed.KernelBed, tmp_path: pathlib.Path
) -> None:
    volume, other = bed.create_volume(), bed.create_volume()
    before = bed.snapshot()
    now = time.time()
    with clock_kept():
        # Given an attach of 1970
        start_anew()
        with harness.Harness(bed, state_path=tmp_path) as worker:
            result = worker.attach(volume)
            assert result.status == 'attached', result.as_dict()
            first = result.request_id
            # When the clock is set while the worker runs
            time.clock_settime(time.CLOCK_REALTIME, now)
            # Then all goes on, and nobody has run out of time
            result = worker.attach(other, deadline_seconds=30)
            assert result.status == 'attached', result.as_dict()
            assert worker.detach(other.name).status == 'detached'
        # And the next worker knows what was done before
        with harness.Harness(bed, state_path=tmp_path) as worker:
            assert worker.attach(other).status == 'attached'
            found = worker.api.get_result({}, worker.name, first)
            assert found is not None
            assert found.status == 'attached'
            report = worker.api.audit({}, worker.name)
            assert {one.state for one in report.attachments} == {'ok'}
            assert report.findings == []
            # When it goes back to 1970, then it is as before
            start_anew()
            for one in (volume, other):
                result = worker.detach(one.name, deadline_seconds=30)
                assert result.status == 'detached', result.as_dict()
            found = worker.api.get_result({}, worker.name, first)
            assert found is not None
            assert found.status == 'attached'
    assert bed.snapshot() == before
