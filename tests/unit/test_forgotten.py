# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""When an attachment is forgotten that others may leave their paths to."""

from collections.abc import Iterator
import sqlite3
from typing import Any

import pytest

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker.journal import attachments
from attachworker.tasks.run import Run
from attachworker.worker import cleanup
from tests import harness
from tests.contract.actors import Somebody
from tests.contract.test_multipath import until
from tests.simulator import bed as beds
from tests.simulator import faults


@pytest.fixture
def bed() -> Iterator[beds.SimulatedBed]:
    bed = beds.SimulatedBed()
    bed.set_multipathd()
    yield bed
    bed.close()


@pytest.mark.parametrize('by', ['clean-up', 'detach'])
def test_what_was_left_is_forgotten_under_the_lock_of_its_volume(
    bed: beds.SimulatedBed, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    locks = []

    class Known(Run):
        def __init__(self, *values: Any, **named: Any) -> None:
            super().__init__(*values, **named)
            locks.append(self.volumes)

    forgotten = []
    delete = attachments.delete

    def check(connection: sqlite3.Connection, attachment_id: str) -> None:
        # Another operation on the volume would have to wait.
        with (
            pytest.raises(exception.DeadlineExceeded),
            locks[0].hold(volume.wwn, deadlines.Deadline.after(0)),
        ):
            pass
        delete(connection, attachment_id)
        forgotten.append(attachment_id)

    monkeypatch.setattr(attachments, 'delete', check)
    if by == 'detach':
        monkeypatch.setattr(cleanup, '_FIRST', 1000)
    volume = bed.create_volume()
    before = bed.snapshot()
    with harness.Harness(bed, run_class=Known) as running:
        # Given an attach that fails when it is known which volume it is, and
        # whose device cannot be removed at first
        bed.arm(faults.Fault.FAIL_BEFORE, 'block.check_readable')
        bed.arm(faults.Fault.FAIL_BEFORE, 'scsi.delete')
        found = running.attach(volume)
        assert found.status == 'failed'
        assert found.leftovers
        # When it is gone at last, then until then nobody else could leave
        # paths of the volume to it
        if by == 'detach':
            assert running.detach(volume.name).status == 'detached'
        until(lambda: forgotten == [volume.name])
        assert running.attachments() == []
    assert bed.snapshot() == before


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clean-up does not come before what a test does."""
    monkeypatch.setattr(cleanup, '_FIRST', 1000)


@pytest.mark.usefixtures('patient')
def test_a_detach_of_what_was_left_leaves_what_was_there(
    bed: beds.SimulatedBed,
) -> None:
    # Given a disk of somebody else's, and an attach that had it for one of
    # two paths, failed, and could not remove the other one
    volume = bed.create_volume(portals=2)
    somebody = Somebody(bed, volume)
    before = bed.snapshot()
    with harness.Harness(bed) as running:
        bed.arm(faults.Fault.FAIL_BEFORE, 'block.check_readable')
        bed.arm(faults.Fault.FAIL_BEFORE, 'scsi.delete')
        found = running.attach(volume, multipath=True, min_paths=2)
        assert found.leftovers, found.as_dict()
        # When it is detached, then the other one goes and that disk stays
        assert running.detach(volume.name).status == 'detached'
        assert running.attachments() == []
    somebody.check()
    assert bed.snapshot() == before
    somebody.close()


@pytest.mark.usefixtures('patient')
def test_what_was_left_does_not_keep_the_device_of_another_attachment(
    bed: beds.SimulatedBed,
) -> None:
    # Given an attach that has failed and left the device
    volume = bed.create_volume()
    before = bed.snapshot()
    with harness.Harness(bed) as running:
        bed.arm(faults.Fault.FAIL_BEFORE, 'block.check_readable')
        bed.arm(faults.Fault.FAIL_BEFORE, 'scsi.delete')
        assert running.attach(volume, 'left').leftovers
        # When another one of the volume is attached and detached
        assert running.attach(volume, 'good').status == 'attached'
        found = running.detach('good')
        # Then the device is gone when that is said
        assert (found.status, found.warnings) == ('detached', [])
        assert bed.snapshot()['scsi_devices'] == before['scsi_devices']
        assert running.detach('left').status == 'detached'
    assert bed.snapshot() == before
