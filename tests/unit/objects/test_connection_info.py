# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What drivers send becomes targets, or an error that helps."""

import copy

import pytest

from attachworker import exception
from attachworker import objects
from tests.unit.objects import bad_values
from tests.unit.objects import shapes

PORTAL = '192.0.2.5:3260'


def read(**changes):
    return objects.ConnectionInfo.from_dict(shapes.lio(**changes))


@pytest.mark.parametrize(
    ('shape', 'targets'),
    [
        (shapes.lio, [(PORTAL, shapes.IQN, 0)]),
        (
            shapes.lio_multipath,
            [
                (PORTAL, shapes.IQN, 0),
                ('198.51.100.5:3260', shapes.IQN, 0),
            ],
        ),
        (shapes.netapp, [('[2001:db8::1]:3260', shapes.IQN, 7)]),
        (
            shapes.pure,
            [
                ('192.0.2.1:3260', shapes.IQN, 1),
                ('[2001:db8::2]:3260', shapes.IQN, 1),
                ('192.0.2.3:3260', shapes.OTHER_IQN, 16640),
                ('[2001:db8::4]:3260', shapes.OTHER_IQN, 16640),
            ],
        ),
        (shapes.flat, [(PORTAL, shapes.IQN, 0)]),
        (shapes.capital, [(PORTAL, shapes.IQN, 0)]),
    ],
)
def test_every_shape_gives_its_targets(shape, targets):
    info = objects.ConnectionInfo.from_dict(shape())

    assert type(info) is objects.ISCSIConnectionInfo
    assert info.protocol == 'iscsi'
    assert info.targets == targets


def test_a_target_has_names_and_a_text():
    (target,) = read().targets

    assert target.portal == PORTAL
    assert target.name == shapes.IQN
    assert target.lun == 0
    assert str(target) == f'{PORTAL},{shapes.IQN},0'


@pytest.mark.parametrize('shape', shapes.ALL)
def test_the_input_is_left_as_it_is(shape):
    given = shape()
    before = copy.deepcopy(given)

    info = objects.ConnectionInfo.from_dict(given)
    info.validate()

    assert given == before


def test_all_keys_of_a_driver_are_taken_over():
    info = objects.ConnectionInfo.from_dict(
        shapes.lio(
            auth_username_in='t',
            auth_password_in='reverse',
            discovery_auth_method='CHAP',
            discovery_auth_username='d',
            discovery_auth_password='find',
            discovery_auth_username_in='f',
            discovery_auth_password_in='found',
            transport_iface='eth0.cfg',
            access_mode='ro',
            encrypted=True,
            enforce_multipath=True,
            wwn='naa.6001405ABCD',
            unknown={'any': 'thing'},
        )
    )

    assert info.as_dict() == {
        'protocol': 'iscsi',
        'volume_id': '6f1d2f0e',
        'wwn': '6001405abcd',
        'access_mode': 'ro',
        'encrypted': True,
        'enforce_multipath': True,
        'target_list': [{'portal': PORTAL, 'name': shapes.IQN, 'lun': 0}],
        'may_discover': True,
        'auth_method': 'CHAP',
        'auth_username': 'u',
        'auth_password': '***',
        'auth_username_in': 't',
        'auth_password_in': '***',
        'discovery_auth_method': 'CHAP',
        'discovery_auth_username': 'd',
        'discovery_auth_password': '***',
        'discovery_auth_username_in': 'f',
        'discovery_auth_password_in': '***',
        'transport_iface': 'eth0.cfg',
    }
    assert info.auth_password == shapes.CANARY
    assert info.auth_password_in == 'reverse'
    assert info.discovery_auth_password == 'find'
    assert info.discovery_auth_password_in == 'found'


def test_the_flat_form_says_what_the_nested_one_does():
    nested = shapes.lio(enforce_multipath=True)

    assert objects.ConnectionInfo.from_dict(
        shapes.flat()
    ) == objects.ConnectionInfo.from_dict(nested)


def test_iser_is_iscsi_through_another_iface():
    info = objects.ConnectionInfo.from_dict(
        shapes.lio() | {'driver_volume_type': 'iSER'}
    )
    assert (info.protocol, info.transport_iface) == ('iscsi', 'iser')

    named = objects.ConnectionInfo.from_dict(
        shapes.lio(transport_iface='iser.eth1')
        | {'driver_volume_type': 'iser'}
    )
    assert named.transport_iface == 'iser.eth1'


def test_lists_win_over_single_values():
    info = read(
        target_portals=['198.51.100.5', '198.51.100.6'],
        target_iqns=(shapes.IQN, shapes.OTHER_IQN),
        target_luns=[2, '3'],
    )

    assert info.targets == [
        ('198.51.100.5:3260', shapes.IQN, 2),
        ('198.51.100.6:3260', shapes.OTHER_IQN, 3),
    ]
    assert not info.may_discover


def test_single_values_stand_in_for_missing_and_empty_lists():
    info = read(
        target_portals=['198.51.100.5', '198.51.100.6'],
        target_iqns=[],
        target_lun=4,
    )

    assert info.targets == [
        ('198.51.100.5:3260', shapes.IQN, 4),
        ('198.51.100.6:3260', shapes.IQN, 4),
    ]


def test_a_lun_that_is_not_said_is_0():
    assert read(target_lun=None).targets[0].lun == 0


def test_a_target_that_is_said_twice_is_one():
    info = read(
        target_portals=['[2001:DB8::1]', PORTAL, '2001:db8:0::1,1'],
        target_iqns=[shapes.IQN, shapes.IQN, shapes.IQN.upper()],
    )

    assert info.targets == [
        ('[2001:db8::1]:3260', shapes.IQN, 0),
        (PORTAL, shapes.IQN, 0),
    ]


def test_the_name_of_a_target_keeps_its_case():
    assert read(target_iqn=shapes.IQN.upper()).targets[0].name == (
        shapes.IQN.upper()
    )


@pytest.mark.parametrize(
    ('mode', 'lun', 'wire'),
    [
        (None, 256, 256),
        ('transparent', 256, 256),
        ('SAM', 256, 256),
        ('SAM2', 0, 0),
        ('SAM2', 255, 255),
        ('SAM2', 256, 16640),
        ('SAM2', 16383, 32767),
        ('SAM3-flat', 0, 16384),
        ('SAM3-flat', 16383, 32767),
    ],
)
def test_addressing_modes(mode, lun, wire):
    info = read(addressing_mode=mode, target_lun=lun)

    assert info.targets[0].lun == wire
    info.validate()
    assert info.targets[0].lun == wire, 'applied twice'


@pytest.mark.parametrize('mode', ['SAM2', 'SAM3-flat'])
def test_flat_space_has_14_bits(mode):
    with pytest.raises(exception.InvalidConnectionInfo, match='below 16384'):
        read(addressing_mode=mode, target_lun=16384)


@pytest.mark.parametrize(
    ('longer', 'key'),
    [
        ({'target_iqns': [shapes.IQN] * 3}, 'target_portals'),
        ({'target_luns': [0, 1, 2, 3]}, 'target_portals'),
    ],
)
def test_lists_have_one_length(longer, key):
    with pytest.raises(exception.InvalidConnectionInfo) as caught:
        read(target_portals=['192.0.2.1', '192.0.2.2'], **longer)

    (longest,) = longer
    assert caught.value.kwargs == {
        'key': key,
        'rule': f'must have one entry, or as many as {longest}',
    }


def test_one_entry_stands_for_each_target():
    info = read(
        target_portals=['192.0.2.1', '192.0.2.2'],
        target_iqns=[shapes.OTHER_IQN],
        target_luns=[7],
    )
    assert [(one.portal, one.name, one.lun) for one in info.targets] == [
        ('192.0.2.1:3260', shapes.OTHER_IQN, 7),
        ('192.0.2.2:3260', shapes.OTHER_IQN, 7),
    ]


@pytest.mark.parametrize('key', ['target_portal', 'target_iqn'])
def test_what_is_needed_to_connect(key):
    with pytest.raises(exception.InvalidConnectionInfo) as caught:
        read(**{key: None})

    assert caught.value.kwargs == {'key': key, 'rule': 'is required'}


def test_a_missing_list_is_named_where_the_others_are_lists():
    given = shapes.pure()
    del given['data']['target_iqns']

    with pytest.raises(exception.InvalidConnectionInfo, match='target_iqns'):
        objects.ConnectionInfo.from_dict(given)


@pytest.mark.parametrize('method', [None, ''])
def test_credentials_for_nothing_are_forgotten(method):
    info = read(auth_method=method)

    assert (info.auth_method, info.auth_username) == (None, None)
    assert info.auth_password is None


@pytest.mark.parametrize(
    ('changes', 'key'),
    [
        ({'auth_username_in': 't'}, 'auth_password_in'),
        ({'auth_password_in': 'p'}, 'auth_username_in'),
        (
            {
                'auth_method': None,
                'auth_username_in': 't',
                'auth_password_in': 'p',
            },
            'auth_method',
        ),
        ({'discovery_auth_method': 'CHAP'}, 'discovery_auth_username'),
    ],
)
def test_authentication_is_whole_or_refused(changes, key):
    with pytest.raises(exception.InvalidConnectionInfo) as caught:
        read(**changes)

    assert caught.value.kwargs['key'] == key


@pytest.mark.parametrize(('key', 'value', 'rule'), bad_values.BAD_VALUES)
def test_a_bad_value_is_refused_by_key_and_rule(key, value, rule):
    given = bad_values.with_bad_value(key, value)

    with pytest.raises(exception.InvalidConnectionInfo) as caught:
        objects.ConnectionInfo.from_dict(given)

    named = caught.value.kwargs['key']
    assert named == key or named.startswith(f'{key}[')
    assert rule in caught.value.kwargs['rule']
    assert len(str(caught.value)) < 300
    assert shapes.CANARY not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ('given', 'key'),
    [
        (None, 'connection_info'),
        ([], 'connection_info'),
        ('iscsi', 'connection_info'),
        ({}, 'driver_volume_type'),
        ({'driver_volume_type': None}, 'driver_volume_type'),
        ({'driver_volume_type': 5}, 'driver_volume_type'),
        ({'driver_volume_type': ['iscsi']}, 'driver_volume_type'),
        ({'driver_volume_type': 'iscsi\0'}, 'driver_volume_type'),
        ({'driver_volume_type': 'iscsi', 'data': None}, 'data'),
        ({'driver_volume_type': 'iscsi', 'data': []}, 'data'),
        ({'driver_volume_type': 'iscsi', 'data': {}}, 'target_portal'),
        ({'driver_volume_type': 'iscsi'}, 'target_portal'),
    ],
)
def test_a_bad_envelope(given, key):
    with pytest.raises(exception.InvalidConnectionInfo) as caught:
        objects.ConnectionInfo.from_dict(given)

    assert caught.value.kwargs['key'] == key


@pytest.mark.parametrize(
    ('volume_type', 'protocol', 'reason'),
    [
        ('aoe', 'aoe', 'ATA over Ethernet'),
        ('AOE', 'aoe', 'ATA over Ethernet'),
        ('glusterfs', 'glusterfs', 'those on NFS are served alone'),
        ('floppy', 'floppy', 'not known'),
        ('', 'unknown', 'not known'),
        ('x\nFAKE LOG LINE', 'unknown', 'not known'),
        ('x' * 10_000, 'unknown', 'not known'),
    ],
)
def test_other_types_are_refused_with_the_reason(
    volume_type, protocol, reason
):
    given = shapes.lio() | {'driver_volume_type': volume_type}

    with pytest.raises(exception.UnsupportedProtocol) as caught:
        objects.ConnectionInfo.from_dict(given)

    assert caught.value.kwargs['protocol'] == protocol
    assert reason in str(caught.value)


def test_a_connection_is_protocol_targets_and_multipath():
    one = objects.ConnectionInfo.from_dict(shapes.lio_multipath())
    backwards = read(
        target_portals=['198.51.100.5', '192.0.2.5:03260,1'],
        target_iqns=[shapes.IQN.upper(), shapes.IQN],
        target_luns=['0', 0],
        auth_username='somebody',
        auth_password='else',
        volume_id='6f1d2f0e-other',
    )

    assert one.connection_key(True) == backwards.connection_key(True)
    assert one.connection_key(True) != one.connection_key(False)
    assert one.connection_key(True) != read().connection_key(True)
    assert shapes.CANARY not in one.connection_key(True)


def test_the_base_class_is_no_connection():
    with pytest.raises(exception.UnsupportedProtocol):
        objects.ConnectionInfo().validate()
