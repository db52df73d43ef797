# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Volumes that this host has already: what is taken for one."""

import pytest

from attachworker import exception
from attachworker import objects


def info(path: object, **data: object) -> objects.ConnectionInfo:
    return objects.ConnectionInfo.from_dict(
        {
            'driver_volume_type': 'local',
            'data': {'device_path': path, **data},
        }
    )


def test_one_target_without_a_portal() -> None:
    found = info('/dev/vg1/Volume')
    (target,) = found.targets
    assert target == ('', '/dev/vg1/Volume', 0)
    assert str(target) == target.label == '/dev/vg1/Volume'
    # paths have a case
    assert target.canonical == target
    assert found.connection_key(False) == 'local single /dev/vg1/Volume'
    assert found.is_complete(True)


def test_the_flat_shape() -> None:
    found = objects.ConnectionInfo.from_dict(
        {'driver_volume_type': 'LOCAL', 'device_path': '/srv/a', 'x': 1}
    )
    assert found.as_dict()['device_path'] == '/srv/a'
    assert found.as_dict()['protocol'] == 'local'


@pytest.mark.parametrize(
    ('path', 'rule'),
    [
        (None, 'required'),
        (5, 'must be a string'),
        ('', 'must begin with one "/"'),
        ('srv/a', 'must begin with one "/"'),
        ('-a', 'must begin with one "/"'),
        ('//srv/a', 'must begin with one "/"'),
        ('/', 'must not contain'),
        ('/srv/', 'must not contain'),
        ('/srv//a', 'must not contain'),
        ('/srv/./a', 'must not contain'),
        ('/srv/../etc/shadow', 'must not contain'),
        ('/srv/a\0', 'NUL'),
        ('/srv/a\nb', 'control characters'),
        ('/srv/\ud800', 'Unicode'),
        ('/' + 'a' * 4096, 'at most 4095 bytes'),
    ],
)
def test_bad_paths(path: object, rule: str) -> None:
    with pytest.raises(exception.InvalidConnectionInfo) as caught:
        info(path)
    assert caught.value.kwargs['key'] == 'device_path'
    assert rule in str(caught.value)
    assert 'shadow' not in str(caught.value)
