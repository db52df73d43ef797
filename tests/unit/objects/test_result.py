# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Results look as documented."""

import datetime
import json

import pytest

from attachworker import exception
from attachworker import objects

EXAMPLE = json.loads("""
{"request_id": "r", "attachment_id": "a", "operation": "attach",
 "status": "attached",
 "device": {"type": "block", "path": "/dev/dm-0", "scsi_wwn": "3600",
            "multipath_id": "3600", "size": 33554432, "degraded": false,
            "paths": [{"device": "sda", "portal": "192.0.2.1:3260",
                       "target": "iqn.2010-10.org.openstack:v", "lun": 1,
                       "state": "connected", "error": null},
                      {"device": null, "portal": "192.0.2.2:3260",
                       "target": "iqn.2010-10.org.openstack:v", "lun": 1,
                       "state": "failed", "error": "target_unreachable"}]},
 "old_size": null, "error": null, "warnings": [], "leftovers": [],
 "timings": {"GetConnector": 0.001, "FindWwn": 0.002}}
""")


def device(**changes):
    given = {'path': '/dev/sda', 'scsi_wwn': '3600', 'size': 512}
    return objects.DeviceInfo(**given | changes)


def test_a_result_has_the_documented_form():
    paths = [objects.PathInfo(**path) for path in EXAMPLE['device']['paths']]
    result = objects.OperationResult(
        **EXAMPLE
        | {
            'device': objects.DeviceInfo(
                **EXAMPLE['device'] | {'paths': paths}
            )
        }
    )
    result.validate()

    assert result.as_dict() == EXAMPLE
    assert json.dumps(result.as_dict()) == json.dumps(EXAMPLE), 'the order'


def test_a_failure_has_the_documented_form():
    result = objects.OperationResult(
        request_id='r',
        operation='detach',
        status='failed',
        error=objects.OperationError(code='in_use', message='Stop it.'),
    )
    result.validate()

    assert result.as_dict().keys() == EXAMPLE.keys()
    assert result.as_dict()['error'] == {
        'code': 'in_use',
        'step': None,
        'message': 'Stop it.',
        'retryable': False,
    }


def test_results_share_no_lists():
    one, other = (
        objects.OperationResult(
            request_id=name, operation='attach', status='failed'
        )
        for name in 'ab'
    )
    one.warnings.append('w')
    one.timings['FindWwn'] = 1

    assert (other.warnings, other.timings) == ([], {})


@pytest.mark.parametrize(
    ('info', 'brick'),
    [
        (
            device(),
            {'type': 'block', 'path': '/dev/sda', 'scsi_wwn': '3600'},
        ),
        (
            device(path='/dev/dm-0', multipath_id='3600'),
            {
                'type': 'block',
                'path': '/dev/dm-0',
                'scsi_wwn': '3600',
                'multipath_id': '3600',
            },
        ),
        (
            device(type='local', path='/dev/loop0', scsi_wwn=None),
            {'type': 'local', 'path': '/dev/loop0'},
        ),
    ],
)
def test_device_info_for_os_brick(info, brick):
    assert info.to_brick() == brick


@pytest.mark.parametrize(
    ('key', 'value'),
    [('size', -1), ('size', True), ('type', 'tape'), ('degraded', 0)],
)
def test_a_bad_device_is_refused(key, value):
    with pytest.raises(exception.InvalidConnectionInfo, match=key):
        device(**{key: value})


def test_times_are_in_utc():
    east = datetime.timezone(datetime.timedelta(hours=2))
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=east)
    attachment = objects.Attachment(
        attachment_id='a',
        protocol='iscsi',
        state='attaching',
        created_at=moment,
        updated_at=moment,
    )
    received = objects.Attachment.obj_from_primitive(
        attachment.obj_to_primitive()
    )

    assert received.as_dict() == {
        'attachment_id': 'a',
        'volume_id': None,
        'protocol': 'iscsi',
        'state': 'attaching',
        'device': None,
        'last_result': None,
        'created_at': '2026-01-02T01:04:05Z',
        'updated_at': '2026-01-02T01:04:05Z',
    }


def test_an_error_of_ours_is_told():
    error = exception.FlushFailed(device='sda', reason='I/O error')

    told = objects.OperationError.from_exception(error, 'FlushDevice')

    assert told.as_dict() == {
        'code': 'flush_failed',
        'step': 'FlushDevice',
        'message': str(error),
        'retryable': True,
    }


def test_an_error_knows_its_step_better():
    error = exception.FlushFailed(device='sda', reason='I/O error')
    error.step = 'FlushMap'

    told = objects.OperationError.from_exception(error, 'FlushDevice')

    assert told.step == 'FlushMap'


def test_the_text_of_a_foreign_error_stays_here():
    told = objects.OperationError.from_exception(OSError('password=x'))

    assert (told.code, told.step) == ('internal', None)
    assert 'password' not in told.message


def test_each_object_has_collections_of_its_own() -> None:
    one, other = (
        objects.OperationResult(
            request_id='r-1', operation='attach', status='attached'
        )
        for _ in range(2)
    )

    one.warnings.append('one')
    one.timings['FindWwn'] = 0.1

    assert (other.warnings, other.timings) == ([], {})


def test_none_in_place_of_a_collection_is_an_empty_one() -> None:
    result = objects.OperationResult(
        request_id='r-1',
        operation='attach',
        status='attached',
        warnings=None,
        timings=None,
    )

    assert (result.warnings, result.timings) == ([], {})
