# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Ceph RBD: what Cinder sends, and what is refused."""

import json
from typing import Any

import hypothesis
from hypothesis import strategies as st
import pytest

from attachworker import exception
from attachworker import objects
from attachworker.objects import rules

CANARY = 'AQcanaryCanaryCanaryCanaryCanaryCanary=='
KEYRING = f'[client.cinder]\n\tkey = {CANARY}\n'
ALLOWED = ''.join(
    chr(code) for code in range(0x21, 0x7F) if chr(code) not in ',/@'
)
# The same examples in each run, and no files.
always_the_same = hypothesis.settings(
    database=None, deadline=None, derandomize=True, max_examples=100
)
NAMES = st.text(ALLOWED, min_size=1, max_size=40).filter(
    lambda name: name[0] != '-' and name not in ('.', '..')
)


def info(**changes: Any) -> Any:
    """As Cinder's driver sends it."""
    data = {
        'name': 'volumes/volume-1',
        'hosts': ['192.0.2.2', '192.0.2.1'],
        'ports': ['6789', '6790'],
        'cluster_name': 'ceph',
        'auth_enabled': True,
        'auth_username': 'cinder',
        'secret_type': 'ceph',
        'secret_uuid': '6d1e2f3a-0000-4000-8000-00000000abcd',
        'volume_id': 'volume-1',
        'discard': True,
        **changes,
    }
    return objects.ConnectionInfo.from_dict(
        {'driver_volume_type': 'rbd', 'data': data}
    )


def test_an_image() -> None:
    found = info()
    assert found.targets == [
        ('192.0.2.1:6790,192.0.2.2:6789', 'ceph', 'volumes/volume-1')
    ]
    assert (found.pool, found.namespace) == ('volumes', None)
    assert (found.image, found.snapshot) == ('volume-1', None)
    assert (found.auth_enabled, found.auth_username) == (True, 'cinder')
    assert (found.keyring, found.wwn) == (None, None)
    assert not found.read_only
    assert 'secret_uuid' not in found.as_dict()


@pytest.mark.parametrize(
    ('name', 'parts'),
    [
        ('p/i', ('p', None, 'i', None)),
        ('p/n/i', ('p', 'n', 'i', None)),
        ('p/i@s', ('p', None, 'i', 's')),
        ('p/n/i@s', ('p', 'n', 'i', 's')),
    ],
)
def test_the_parts_of_a_name(name: str, parts: tuple[str | None, ...]) -> None:
    found = info(name=name)
    assert (found.pool, found.namespace, found.image, found.snapshot) == parts
    assert found.spec == name


def test_all_monitors_in_one_spelling() -> None:
    """os-brick took the last one only, and wanted brackets (LP 1640914)."""
    for spelled in ('2001:DB8:0::1', '[2001:db8::1]'):
        found = info(
            hosts=[spelled, '192.0.2.1', '192.0.2.1'],
            ports=['6789', 6789, '6789'],
        )
        assert found.targets[0].portal == '192.0.2.1:6789,[2001:db8::1]:6789'


def test_the_order_of_monitors_makes_no_other_connection() -> None:
    turned = info(hosts=['192.0.2.1', '192.0.2.2'], ports=['6790', '6789'])
    assert turned.connection_key(False) == info().connection_key(False)


def test_names_have_their_case() -> None:
    one, other = info(name='p/Volume'), info(name='p/volume')
    assert one.connection_key(False) != other.connection_key(False)


def test_what_is_null_or_absent_has_its_default() -> None:
    found = info(
        ports=None, auth_enabled=None, auth_username=None, cluster_name=None
    )
    assert found.targets[0].portal == '192.0.2.1:6789,192.0.2.2:6789'
    assert (found.auth_enabled, found.auth_username) == (False, 'admin')
    assert found.cluster_name == 'ceph'


def test_a_snapshot_is_read_only() -> None:
    assert info(name='p/i@s').read_only
    assert info(access_mode='ro').read_only


def test_host_names_are_looked_up() -> None:
    found = info(hosts=['mon.example'], ports=['6789'])
    assert not found.is_complete(False)
    target = found.targets[0]._replace(portal='192.0.2.9:6789')
    there = found.with_targets([target])
    assert there.targets == [target]
    assert there.is_complete(False)


def test_the_keyring_is_secret() -> None:
    found = info(keyring=KEYRING)
    assert CANARY not in repr(found) + str(found.as_dict())
    assert found.keyring == KEYRING


@pytest.mark.parametrize(
    ('key', 'value', 'rule'),
    [
        ('name', None, 'required'),
        ('name', 5, 'must be a string'),
        ('name', 'image', 'pool/image'),
        ('name', 'a/b/c/d', 'pool/image'),
        ('name', '/image', '1 to 255'),
        ('name', 'pool/', '1 to 255'),
        ('name', 'pool//image', '1 to 255'),
        ('name', 'pool/image@', '1 to 255'),
        ('name', 'pool/image@a@b', '1 to 255'),
        ('name', 'pool/image@a/b', '1 to 255'),
        ('name', 'pool/' + 'i' * 256, '1 to 255'),
        ('name', 'pool/im age', 'white space'),
        ('name', 'pool/image\n', 'white space'),
        ('name', 'pool/image\0', 'NUL'),
        ('name', 'pool/a,secret=b', '","'),
        ('name', '-pool/image', '"-"'),
        ('name', 'pool/-', '"-"'),
        ('name', '../image', '1 to 255'),
        ('name', 'pool/\u00efmage', 'ASCII'),
        ('hosts', None, 'required'),
        ('hosts', '192.0.2.1', 'must be a list'),
        ('hosts', ['192.0.2.1'] * 32, 'at most 31'),
        ('ports', ['6789'], 'a port for each host'),
        ('ports', '6789', 'a port for each host'),
        ('auth_username', 'a,b', '","'),
        ('auth_username', '../x', '"/"'),
        ('auth_enabled', 'yes', 'true or false'),
        ('cluster_name', 'a/b', '"/"'),
        ('keyring', CANARY + '\0', 'NUL'),
        ('keyring', CANARY * 200, '1 to 4096'),
    ],
)
def test_bad_values(key: str, value: object, rule: str) -> None:
    with pytest.raises(exception.InvalidConnectionInfo) as caught:
        info(**{key: value})
    assert caught.value.kwargs['key'] == key
    assert rule in str(caught.value)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    ('host', 'port'),
    [
        ('192.0.2.1,192.0.2.2', '6789'),
        ('192.0.2.1 name=admin', '6789'),
        ('-x', '6789'),
        ('fe80::1%eth0', '6789'),
        ('192.0.2.1', 0),
        ('192.0.2.1', '65536'),
        ('192.0.2.1', '1 x'),
        (None, '6789'),
    ],
)
def test_bad_monitors(host: object, port: object) -> None:
    with pytest.raises(exception.InvalidConnectionInfo) as caught:
        info(hosts=[host], ports=[port])
    assert caught.value.kwargs['key'] == 'hosts[0]'


def test_no_monitor() -> None:
    with pytest.raises(exception.InvalidConnectionInfo, match='1 to 31'):
        info(hosts=[], ports=[])


@always_the_same
@hypothesis.given(st.lists(NAMES, min_size=2, max_size=3), st.none() | NAMES)
def test_an_image_survives_the_journey(
    parts: list[str], snapshot: str | None
) -> None:
    name = '/'.join(parts) + (f'@{snapshot}' if snapshot else '')
    sent = info(name=name)
    received = objects.AttachWorkerObject.obj_from_primitive(
        json.loads(json.dumps(sent.obj_to_primitive()))
    )
    received.validate()
    assert received == sent
    assert received.targets == sent.targets
    assert received.targets[0].lun == name


@always_the_same
@hypothesis.given(st.text())
def test_the_form_of_a_name_is_final(name: str) -> None:
    try:
        canonical = rules.ceph_name(name)
    except rules.RuleBroken:
        return
    assert canonical == name
    assert not set(canonical) & set(' \t\n\0,/@')


@pytest.mark.parametrize(
    ('host', 'port', 'portals'),
    [
        ('v2:192.0.2.1:3300/0', None, '192.0.2.1:3300'),
        ('v1:192.0.2.1:6789/0', '6789', '192.0.2.1:6789'),
        ('192.0.2.1:6789/0', None, '192.0.2.1:6789'),
        ('v2:192.0.2.1', None, '192.0.2.1:3300'),
        ('v2:mon.example.org', None, 'mon.example.org:3300'),
        ('v2:[2001:DB8::1]:3300/0', None, '[2001:db8::1]:3300'),
        (
            '[v2:192.0.2.1:3300/0,v1:192.0.2.1:6789/0]',
            None,
            '192.0.2.1:3300,192.0.2.1:6789',
        ),
        (
            '[v2:[2001:db8::1]:3300/0,v1:[2001:db8::1]:6789/0]',
            None,
            '[2001:db8::1]:3300,[2001:db8::1]:6789',
        ),
    ],
)
def test_a_monitor_as_ceph_spells_it(
    host: str, port: str | None, portals: str
) -> None:
    (target,) = info(hosts=[host], ports=[port]).targets
    assert target.portal == portals


@pytest.mark.parametrize(
    'host',
    [
        'v3:192.0.2.1:3300/0',
        'v2:192.0.2.1:3300/0,name=x',
        'v2:192.0.2.1:3300/x',
        '[v2:192.0.2.1:3300/0',
        'v2:192.0.2.1:0/0',
        'v2:a b:3300/0',
    ],
)
def test_a_monitor_that_ceph_does_not_spell(host: str) -> None:
    with pytest.raises(exception.InvalidConnectionInfo):
        info(hosts=[host], ports=[None])
