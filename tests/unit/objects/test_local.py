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
    assert str(target) == target.title == '/dev/vg1/Volume'
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
