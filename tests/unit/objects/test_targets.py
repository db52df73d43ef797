# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Whether a request names all targets, and what stands for the others."""

from typing import Any

import pytest

from attachworker import exception
from attachworker import objects
from tests.unit.objects import shapes

PORTAL = '192.0.2.5:3260'


@pytest.mark.parametrize(
    ('data', 'multipath', 'complete'),
    [
        ({}, False, True),
        ({}, True, False),
        ({'target_portal': '[2001:db8::5]'}, False, True),
        ({'target_portal': 'storage.example'}, False, False),
        ({'target_portals': ['192.0.2.5', '192.0.2.6']}, True, True),
        ({'target_portals': ['192.0.2.5', 'storage.example']}, True, False),
    ],
)
def test_what_has_to_be_found_out_first(
    data: dict[str, Any], multipath: bool, complete: bool
) -> None:
    info = objects.ConnectionInfo.from_dict(shapes.lio(**data))
    assert info.is_complete(multipath) is complete


def test_what_was_found_is_the_same_volume() -> None:
    info = objects.ConnectionInfo.from_dict(shapes.lio(wwn='6001405abcd'))
    target = objects.Target('192.0.2.7:3260', shapes.IQN, 5)
    found = info.with_targets([target])
    found.validate()
    assert found.targets == [target]
    assert found.is_complete(multipath=True)
    assert (found.wwn, found.auth_password) == (info.wwn, info.auth_password)
    # and what came in is as it was
    assert [one.portal for one in info.targets] == [PORTAL]
    assert not info.is_complete(multipath=True)


@pytest.mark.parametrize(
    ('protocol', 'name', 'most'),
    [
        ('ISCSI', 'target_list', 64),
        ('NVMeOF', 'portal_list', 64),
        ('RBD', 'monitors', 31),
        ('FibreChannel', 'target_list', 64),
        ('FibreChannel', 'zones', 4096),
    ],
)
def test_targets_are_counted_before_they_are_made(
    protocol: str, name: str, most: int
) -> None:
    # Given entries of which no object can be made
    primitive = {
        'versioned_object.name': f'{protocol}ConnectionInfo',
        'versioned_object.namespace': 'attachworker',
        'versioned_object.version': '1.0',
        'versioned_object.data': {name: [7] * (most + 1)},
    }
    with pytest.raises(
        exception.InvalidConnectionInfo,
        match=f'{name}: must have at most {most} entries',
    ):
        objects.ConnectionInfo.obj_from_primitive(primitive)
