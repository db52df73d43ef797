# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Requests that come twice, and attachments that share something."""

import uuid

from attachworker import objects
from tests import harness
from tests.contract import bed as beds


def test_same_request_same_result(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    volume = bed.create_volume()
    request = harness.attach_request(volume)
    first = worker.api.attach_volume({}, worker.name, request)
    again = worker.api.attach_volume({}, worker.name, request)
    assert again.as_dict() == first.as_dict()
    stored = worker.api.get_result({}, worker.name, request.request_id)
    assert stored.as_dict() == first.as_dict()
    worker.detach(volume.name)


def test_same_request_with_other_content(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    volume, other = bed.create_volume(), bed.create_volume()
    result = worker.attach(volume, request_id='one')
    assert result.status == 'attached'
    result = worker.attach(other, request_id='one')
    assert result.error.code == 'attachment_conflict'
    worker.detach(volume.name)


def test_same_attachment_same_device(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    volume = bed.create_volume(portals=2)
    first = worker.attach(volume)
    again = worker.attach(volume)
    assert again.request_id != first.request_id
    assert again.device.path == first.device.path
    assert bed.read(again.device.path) == volume.pattern
    worker.detach(volume.name)


def test_same_attachment_with_other_connection(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    volume, other = bed.create_volume(), bed.create_volume()
    first = worker.attach(volume, 'attachment')
    before = bed.snapshot()
    result = worker.attach(other, 'attachment')
    assert result.error.code == 'attachment_conflict'
    assert bed.snapshot() == before
    assert worker.attachments() == ['attachment attached']
    assert bed.read(first.device.path) == volume.pattern
    worker.detach('attachment')


def test_failed_repeat_leaves_the_attachment(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    volume = bed.create_volume()
    first = worker.attach(volume)
    before = bed.snapshot()
    result = worker.attach(volume, expected_wwn='naa.6' + '0' * 31)
    assert result.error.code == 'identity_mismatch'
    assert bed.snapshot() == before
    assert worker.attachments() == [f'{volume.name} attached']
    assert bed.read(first.device.path) == volume.pattern
    worker.detach(volume.name)


def test_two_attachments_share_a_device(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given a volume that two callers have attached
    volume = bed.create_volume()
    before = bed.snapshot()
    first = worker.attach(volume, 'first')
    second = worker.attach(volume, 'second')
    assert second.device.path == first.device.path
    # When one detaches it, then the other one keeps it
    result = worker.detach('first')
    assert result.status == 'detached'
    assert 'another attachment' in result.warnings[0]
    assert bed.read(second.device.path) == volume.pattern
    # And it goes with the last
    result = worker.detach('second')
    assert (result.status, result.warnings) == ('detached', [])
    assert bed.snapshot() == before


def test_detach_of_what_is_not_there(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    result = worker.detach('never-heard-of')
    assert result.status == 'detached'
    assert 'not known' in result.warnings[0]


def test_detach_by_connection(bed: beds.Bed, worker: harness.Harness) -> None:
    """What somebody else attached; the session is not ours to end."""
    volume = bed.create_volume()
    request = objects.DetachRequest(
        request_id=str(uuid.uuid4()),
        connection_info=volume.connection_info(),
    )
    result = worker.api.detach_volume({}, worker.name, request)
    assert result.status == 'detached', result.as_dict()


def test_device_in_use(bed: beds.Bed, worker: harness.Harness) -> None:
    # Given an attached device that a process has open
    volume = bed.create_volume()
    path = worker.attach(volume).device.path
    before = bed.snapshot()
    with bed.opened(path):
        # When it is detached, then that is refused and says who it is
        result = worker.detach(volume.name)
        assert result.error.code == 'in_use'
        assert result.error.step == 'CheckUnused'
        assert 'process' in result.error.message
        assert bed.snapshot() == before
        assert worker.attachments() == [f'{volume.name} attached']
    # And when nobody uses it any more, then it can go
    assert worker.detach(volume.name).status == 'detached'


def test_repeat_on_a_reused_lun_touches_nothing(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given an attachment whose LUN leads to another volume by now
    volume = bed.create_volume()
    before = bed.snapshot()
    worker.attach(volume)
    bed.remap(volume, bed.create_volume(on=volume, mapped=False))
    attached = bed.snapshot()
    # When it is attached once more, then that is refused
    result = worker.attach(volume)
    assert result.error.code == 'identity_mismatch'
    # and the disk is neither removed nor replaced by the stranger's
    assert bed.snapshot() == attached
    assert worker.attachments() == [f'{volume.name} attached']
    # so that it can be detached
    assert worker.detach(volume.name).status == 'detached'
    assert bed.snapshot() == before


def test_repeat_after_the_disk_is_gone_and_the_lun_reused(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given an attachment whose session somebody has ended
    volume = bed.create_volume()
    before = bed.snapshot()
    worker.attach(volume)
    bed.drop_session(volume, volume.portals[0])
    # and whose LUN leads to another volume by now
    bed.remap(volume, bed.create_volume(on=volume, mapped=False))
    # When it is attached once more, then that is refused
    result = worker.attach(volume)
    assert result.error.code == 'identity_mismatch'
    # and the stranger's disk, which it has made, is gone again
    assert bed.snapshot() == before
    assert worker.detach(volume.name).status == 'detached'
