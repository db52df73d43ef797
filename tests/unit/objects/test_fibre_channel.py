# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Fibre Channel: the shapes that drivers send, and what is refused."""

from typing import Any

import pytest

from attachworker import exception
from attachworker import objects

ONE, TWO, THREE = (f'500000100000000{digit}' for digit in 'abc')
HOST, OTHER_HOST = '2100000e1e000001', '2100000e1e00000f'


def info(**data: Any) -> Any:
    return objects.ConnectionInfo.from_dict(
        {'driver_volume_type': 'fibre_channel', 'data': data}
    )


@pytest.mark.parametrize(
    ('data', 'targets'),
    [
        ({'target_wwn': ONE, 'target_lun': 5}, [(ONE, 5)]),
        ({'target_wwn': [ONE, TWO], 'target_lun': 5}, [(ONE, 5), (TWO, 5)]),
        (
            # as Pure has it: the single keys are for older callers
            {
                'target_wwn': [ONE, TWO],
                'target_wwns': [ONE, TWO],
                'target_lun': 1,
                'target_luns': [1, 7],
            },
            [(ONE, 1), (TWO, 7)],
        ),
        (
            {'target_wwns': [ONE, TWO], 'target_luns': ['3']},
            [(ONE, 3), (TWO, 3)],
        ),
        (
            {'target_wwn': [ONE, TWO], 'target_lun': [3, 4]},
            [(ONE, 3), (TWO, 4)],
        ),
        ({'target_wwn': ONE}, [(ONE, 0)]),
        ({'target_wwn': [ONE, ONE.upper(), f'0x{ONE}']}, [(ONE, 0)]),
        (
            {'target_wwns': [], 'target_wwn': ONE, 'target_luns': []},
            [(ONE, 0)],
        ),
        (
            {
                'target_wwn': '50:00:00:10:00:00:00:0A',
                'target_lun': 300,
                'addressing_mode': 'SAM2',
            },
            [(ONE, 300 + 16384)],
        ),
        (
            {
                'target_wwn': ONE,
                'target_lun': 3,
                'addressing_mode': 'SAM3-flat',
            },
            [(ONE, 3 + 16384)],
        ),
        ({'target_wwn': ONE, 'target_lun': 2**64 - 2}, [(ONE, 2**64 - 2)]),
    ],
    ids=str,
)
def test_ways_to_a_volume(
    data: dict[str, Any], targets: list[tuple[str, int]]
) -> None:
    found = info(**data)
    assert found.targets == [('any', port, lun) for port, lun in targets]
    # Through which ports of this host is known on this host only.
    assert not found.is_complete(multipath=False)
    assert found.may_use(HOST, ONE)


def test_a_map_of_zones() -> None:
    found = info(
        target_wwn=[ONE, TWO],
        initiator_target_map={
            HOST.upper(): [f'0x{ONE}', THREE],
            OTHER_HOST: TWO,
        },
    )
    ways = {
        (host, port)
        for host in (HOST, OTHER_HOST)
        for port in (ONE, TWO, THREE)
        if found.may_use(host, port)
    }
    assert ways == {(HOST, ONE), (OTHER_HOST, TWO)}
    found.validate()


@pytest.mark.parametrize('given', [None, {}])
def test_without_a_map_each_port_may_go_anywhere(given: Any) -> None:
    found = info(target_wwn=ONE, initiator_target_map=given)
    assert found.may_use(HOST, ONE)


def test_ways_that_were_found_are_the_same_volume() -> None:
    asked = info(target_wwn=[ONE, TWO], target_lun=5, wwn=f'3{"6" * 32}')
    target = objects.PortTarget(HOST, ONE, 5)
    found = asked.with_targets([target])
    found.validate()
    assert found.targets == [target]
    assert found.is_complete(multipath=True)
    assert found.wwn == asked.wwn
    # and its key leads back to it
    again = objects.PortTarget.from_key(target.key)
    assert (again, again.link_key) == (target, f'{HOST},{ONE}')
    assert again.backend == ONE
    # What was asked for is the same connection, whatever the zones are.
    zoned = info(
        target_wwn=[TWO, ONE],
        target_lun=5,
        initiator_target_map={HOST: [ONE]},
    )
    assert zoned.connection_key(True) == asked.connection_key(True)


@pytest.mark.parametrize(
    ('data', 'key', 'rule'),
    [
        ({}, 'target_wwns', 'is required'),
        ({'target_wwns': []}, 'target_wwns', 'is required'),
        ({'target_wwn': 5}, 'target_wwn', 'must be a string'),
        ({'target_wwn': ''}, 'target_wwn', '16 hexadecimal digits'),
        ({'target_wwn': ONE[:-1]}, 'target_wwn', '16 hexadecimal digits'),
        ({'target_wwn': f'{ONE}0'}, 'target_wwn', '16 hexadecimal digits'),
        ({'target_wwn': f'{ONE}\n'}, 'target_wwn', '16 hexadecimal digits'),
        ({'target_wwn': f'0x0x{ONE}'}, 'target_wwn', '16 hexadecimal digits'),
        ({'target_wwn': '../' * 5 + 'a'}, 'target_wwn', 'hexadecimal'),
        ({'target_wwn': '٥' * 16}, 'target_wwn', 'hexadecimal'),
        ({'target_wwn': f'{ONE[:-1]}\0'}, 'target_wwn', 'NUL'),
        ({'target_wwn': '0' * 16}, 'target_wwn', 'never 0'),
        ({'target_wwns': {'a': ONE}}, 'target_wwns', 'must be a list'),
        ({'target_wwns': [ONE] * 65}, 'target_wwns', 'at most 64'),
        ({'target_wwn': [ONE] * 65}, 'target_wwn', 'at most 64'),
        ({'target_wwn': [ONE, None]}, r'target_wwn\[1\]', 'must be a string'),
        ({'target_wwn': ONE, 'target_lun': -1}, 'target_lun', 'from 0'),
        ({'target_wwn': ONE, 'target_lun': 2**64}, 'target_lun', 'from 0'),
        ({'target_wwn': ONE, 'target_lun': True}, 'target_lun', 'integer'),
        (
            {'target_wwn': ONE, 'target_luns': [1, 2]},
            'target_luns',
            'as many as target_wwn',
        ),
        (
            {
                'target_wwn': ONE,
                'target_lun': 16384,
                'addressing_mode': 'SAM2',
            },
            'target_lun',
            'must be below 16384',
        ),
        (
            {'target_wwn': ONE, 'addressing_mode': 'other'},
            'addressing_mode',
            'must be transparent',
        ),
        (
            {'target_wwn': ONE, 'initiator_target_map': [ONE]},
            'initiator_target_map',
            'must be an object',
        ),
        (
            {'target_wwn': ONE, 'initiator_target_map': {HOST: [TWO]}},
            'initiator_target_map',
            'must lead to one of the target_wwns',
        ),
        (
            {'target_wwn': ONE, 'initiator_target_map': {HOST: {ONE: 1}}},
            'initiator_target_map',
            'must be a list',
        ),
        (
            {'target_wwn': ONE, 'initiator_target_map': {'iqn': [ONE]}},
            'a key of initiator_target_map',
            'hexadecimal',
        ),
        (
            {
                'target_wwn': ONE,
                'initiator_target_map': {
                    f'{number:016x}': [ONE] for number in range(1, 66)
                },
            },
            'initiator_target_map',
            'at most 64 keys',
        ),
        (
            {'target_wwn': ONE, 'initiator_target_map': {HOST: [ONE] * 65}},
            'initiator_target_map',
            'at most 64',
        ),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(
    data: dict[str, Any], key: str, rule: str
) -> None:
    with pytest.raises(
        exception.InvalidConnectionInfo, match=f'for {key}.*: .*{rule}'
    ):
        info(**data)


@pytest.mark.parametrize('field', ['host_port', 'target_port', 'lun'])
def test_what_comes_from_the_bus_keeps_the_same_rules(field: str) -> None:
    primitive = info(target_wwn=ONE).obj_to_primitive()
    data = primitive['versioned_object.data']
    (target,) = data['target_list']
    target['versioned_object.data'][field] = '-1'
    with pytest.raises(exception.InvalidConnectionInfo, match=field):
        objects.ConnectionInfo.obj_from_primitive(primitive)
