# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What was there before a reboot, which takes all devices away."""

from collections.abc import Iterator
import pathlib

import pytest

from tests.simulator import bed as beds
from tests.unit.earlier import Earlier
from tests.unit.earlier import ended
from tests.unit.earlier import request
from tests.unit.earlier import worker


@pytest.fixture(scope='module')
def shared_bed() -> Iterator[beds.SimulatedBed]:
    bed = beds.SimulatedBed()
    yield bed
    bed.close()


@pytest.fixture
def bed(shared_bed: beds.SimulatedBed) -> Iterator[beds.SimulatedBed]:
    yield shared_bed
    shared_bed.restart_host()


@pytest.fixture
def state(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / 'state'


def test_what_was_attached_before_a_reboot_can_be_attached_again(
    bed: beds.SimulatedBed, state: pathlib.Path
) -> None:
    # Given an attachment, and a reboot
    volume = bed.create_volume()
    before = bed.snapshot()
    with worker(bed, state) as running:
        assert running.attach(volume).status == 'attached'
    bed.restart_host()
    with worker(bed, state) as running:
        assert running.attachments() == [f'{volume.name} missing']
        assert bed.snapshot() == before
        # When it is attached again, then it is there and shown so
        again = running.attach(volume)
        assert again.status == 'attached'
        assert bed.read(again.device.path) == volume.pattern
        assert running.attachments() == [f'{volume.name} attached']
        # And it goes without a trace
        assert running.detach(volume.name).status == 'detached'
        assert bed.snapshot() == before


def test_an_attach_that_fails_after_a_reboot_leaves_nothing(
    bed: beds.SimulatedBed, state: pathlib.Path
) -> None:
    # Given an attachment of before a reboot
    volume = bed.create_volume()
    with worker(bed, state) as running:
        assert running.attach(volume).status == 'attached'
    bed.restart_host()
    before = bed.snapshot()
    with worker(bed, state) as running:
        # When an attach of it fails late
        failed = running.attach(volume, expected_wwn='naa.6' + '0' * 31)
        assert failed.error.code == 'identity_mismatch'
        # Then what it brought here is put back: nobody had it before
        assert bed.snapshot() == before
        # And the attachment is what it was, and can be had yet
        assert running.attachments() == [f'{volume.name} missing']
        assert running.attach(volume).status == 'attached'
        assert running.detach(volume.name).status == 'detached'


def test_another_volume_after_a_reboot_is_not_the_attachments(
    bed: beds.SimulatedBed, state: pathlib.Path
) -> None:
    """The identity that was learned is required from then on."""
    volume = bed.create_volume()
    keeper = bed.create_volume(on=volume)
    with worker(bed, state) as running:
        assert running.attach(volume).status == 'attached'
    bed.restart_host()
    bed.remove_volume(volume)
    bed.create_volume(on=keeper, lun=volume.lun)
    with worker(bed, state) as running:
        found = running.attach(volume)
        # However often it is tried
        again = running.attach(volume)
        assert found.error.code == again.error.code == 'identity_mismatch'


def test_a_detach_after_a_reboot_has_nothing_to_do(
    bed: beds.SimulatedBed, state: pathlib.Path
) -> None:
    volume = bed.create_volume()
    before = bed.snapshot()
    with worker(bed, state) as running:
        assert running.attach(volume).status == 'attached'
    bed.restart_host()
    with worker(bed, state) as running:
        assert running.detach(volume.name).status == 'detached'
        assert running.attachments() == []
        assert bed.snapshot() == before


def test_a_power_cut_during_an_attach_leaves_no_line_of_multipath(
    bed: beds.SimulatedBed, state: pathlib.Path
) -> None:
    # Given an attach that was cut short when it had told multipathd of the
    # volume, in a file that outlives the boot
    volume = bed.create_volume()
    before = bed.snapshot()
    earlier = Earlier(bed, state)
    given = request(volume)
    earlier.accepts('attach', given, seconds=0)
    earlier.begins(volume, given)
    earlier.identifies(volume, given)
    earlier.dies()
    bed.restart_host()
    bed.verbs.multipath.remember(f'3{volume.wwn}')
    # When the next worker finds that it is too late to go on
    with worker(bed, state) as running:
        assert ended(running, 'request').status == 'failed'
        # Then nothing is left
        assert running.attachments() == []
        assert bed.snapshot() == before


def test_claims_end_with_the_boot(
    bed: beds.SimulatedBed, state: pathlib.Path
) -> None:
    # Given a volume that was attached before a reboot
    volume = bed.create_volume()
    before = bed.snapshot()
    with worker(bed, state) as running:
        assert running.attach(volume, 'old').status == 'attached'
    bed.restart_host()
    # When somebody else attaches and detaches it now
    with worker(bed, state) as running:
        assert running.attachments() == ['old missing']
        assert running.attach(volume, 'new').status == 'attached'
        found = running.detach('new')
        # Then nobody shares it, and nothing of it is left
        assert (found.status, found.warnings) == ('detached', [])
        assert bed.snapshot() == before
