# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

import base64
from collections.abc import Iterator
import contextlib
import errno
import pathlib
from typing import Any

from oslo_config import cfg
import pytest

from attachworker.privileged import rbd

MONITORS = ['192.0.2.1:6789', '[2001:db8::1]:6789']
KEY = base64.b64encode(b'canary').decode()
KEYRING = f'[client.glance]\nkey = b3RoZXI=\n[client.cinder]\n\tkey = {KEY}\n'


@pytest.fixture
def bus(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> pathlib.Path:
    """Stands in for the kernel's interface: what is written is read back."""
    directory = tmp_path / 'rbd'
    (directory / 'devices/0').mkdir(parents=True)
    for name in ('add', 'add_single_major', 'remove', 'remove_single_major'):
        (directory / name).touch()
    monkeypatch.setattr(rbd, 'BUS', directory)
    monkeypatch.setattr(rbd, 'KEYRINGS', tmp_path / 'ceph')
    (tmp_path / 'ceph').mkdir()
    return directory


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Stands in for the kernel's keyring: the keys that it was given."""
    given: list[bytes] = []

    @contextlib.contextmanager
    def kernel_key(key: bytes) -> Iterator[str]:
        given.append(key)
        yield 'name-of-key'

    monkeypatch.setattr(rbd, '_kernel_key', kernel_key)
    return given


def add(**values: Any) -> None:
    arguments: dict[str, Any] = {
        'monitors': MONITORS,
        'pool': 'volumes',
        'image': 'one',
        'snapshot': '',
        'options': {'name': 'cinder'},
        'cluster': '',
        'keyring': '',
    }
    rbd.add(**arguments | values)


def instance(bus: pathlib.Path) -> int:
    return (bus / 'devices/0').stat().st_ino


def test_an_image_that_is_open_goes_by_force(bus: pathlib.Path) -> None:
    rbd.remove(0, instance(bus), True)
    assert (bus / 'remove_single_major').read_text() == '0 force'


def test_a_number_that_is_another_image_by_now(bus: pathlib.Path) -> None:
    with pytest.raises(OSError, match='another image by now') as caught:
        rbd.remove(0, instance(bus) + 1, True)
    assert caught.value.errno == errno.ESTALE
    assert (bus / 'remove_single_major').read_text() == ''


def test_what_the_kernel_is_told(bus: pathlib.Path) -> None:
    add(snapshot='daily', options={'name': 'cinder', 'read_only': ''})
    assert (bus / 'add_single_major').read_text() == (
        '192.0.2.1:6789,[2001:db8::1]:6789 name=cinder,read_only '
        'volumes one daily'
    )
    assert (bus / 'add').read_text() == ''


def test_a_kernel_without_single_major(bus: pathlib.Path) -> None:
    (bus / 'add_single_major').unlink()
    (bus / 'remove_single_major').unlink()
    add()
    assert (bus / 'add').read_text().endswith(' name=cinder volumes one -')
    rbd.remove(0, instance(bus), False)
    assert (bus / 'remove').read_text() == '0'


def test_the_key_is_not_in_what_the_kernel_shows(
    bus: pathlib.Path, keys: list[bytes]
) -> None:
    add(cluster='ceph', keyring=KEYRING)
    assert keys == [b'canary']
    written = (bus / 'add_single_major').read_text()
    assert 'name=cinder,key=name-of-key ' in written
    assert KEY not in written


@pytest.mark.parametrize(
    ('options', 'ours'),
    [
        ('name=cinder,key=attachworker-0123456789abcdef', True),
        ('name=cinder,key=client.cinder', False),
        ('name=attachworker-0123', False),
        ('name=cinder', False),
    ],
)
def test_who_has_mapped_an_image(
    bus: pathlib.Path, options: str, ours: bool
) -> None:
    told = f'{",".join(MONITORS)} {options} volumes one -\n'
    (bus / 'devices/0/config_info').write_text(told)
    assert rbd.is_ours(0) is ours
    assert rbd.monitors(0) == MONITORS


@pytest.mark.parametrize('name', ['ceph.client.cinder.keyring', 'keyring'])
def test_a_key_of_the_host(
    bus: pathlib.Path, keys: list[bytes], name: str
) -> None:
    (rbd.KEYRINGS / 'ceph.keyring').write_text('[client.glance]\nkey = YQ==\n')
    (rbd.KEYRINGS / name).write_text(KEYRING)
    add(cluster='ceph')
    assert keys == [b'canary']


@pytest.mark.parametrize('user', ['admin', 'glance', 'bootstrap-osd'])
def test_a_key_of_the_host_that_is_not_for_volumes(
    bus: pathlib.Path, keys: list[bytes], user: str
) -> None:
    # Given keyrings of other users on the host
    entry = f'[client.{user}]\nkey = {KEY}\n'
    (rbd.KEYRINGS / f'ceph.client.{user}.keyring').write_text(entry)
    (rbd.KEYRINGS / 'keyring').write_text(entry)
    # When a caller names such a user, then there is no key for it
    with pytest.raises(OSError, match='keyring_users') as caught:
        add(cluster='ceph', options={'name': user})
    assert caught.value.errno == errno.ENOKEY
    assert keys == []
    assert (bus / 'add_single_major').read_text() == ''
    # But one that has the key may use it
    add(cluster='ceph', options={'name': user}, keyring=entry)
    assert keys == [b'canary']


@pytest.mark.parametrize(
    ('users', 'allowed'), [([], False), (['another'], False), (['x'], True)]
)
def test_whose_keys_of_the_host_are_used_is_an_option(
    bus: pathlib.Path, keys: list[bytes], users: list[str], allowed: bool
) -> None:
    (rbd.KEYRINGS / 'keyring').write_text(f'[client.x]\nkey = {KEY}\n')
    cfg.CONF.set_override('keyring_users', users, group='rbd')
    refused = pytest.raises(OSError, match='keyring_users')
    try:
        with contextlib.nullcontext() if allowed else refused:
            add(cluster='ceph', options={'name': 'x'})
    finally:
        cfg.CONF.clear_override('keyring_users', group='rbd')
    assert keys == [b'canary'] * allowed


@pytest.mark.parametrize('keyring', ['', '[client.cinder]\nkey = #\n'])
def test_no_key(bus: pathlib.Path, keys: list[bytes], keyring: str) -> None:
    with pytest.raises(OSError, match='no usable key') as caught:
        add(cluster='ceph', keyring=keyring)
    assert caught.value.errno == errno.ENOKEY
    assert keys == []
    assert (bus / 'add_single_major').read_text() == ''


@pytest.mark.parametrize(
    'values',
    [
        {'monitors': []},
        {'monitors': ['192.0.2.1:6789 name=x']},
        {'monitors': ['example.org:6789']},
        {'pool': 'a b'},
        {'pool': ''},
        {'image': 'one\n'},
        {'image': '-'},
        {'image': '..'},
        {'snapshot': 'a,b'},
        {'options': {'name': 'a,secret=b'}},
        {'options': {'name': 'a', 'secret': 'b'}},
        {'options': {'name': 'a', 'crush_location': 'b'}},
        {'options': {'name': 'a', 'mount_timeout': 'x'}},
        {'options': {'name': 'a', 'mount_timeout': '٣'}},
        {'options': {'name': 'a', 'ms_mode': 'none'}},
        {'cluster': '../etc'},
    ],
    ids=str,
)
def test_hostile_values(bus: pathlib.Path, values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match='^not '):
        add(**values)
    assert (bus / 'add_single_major').read_text() == ''


@pytest.mark.parametrize('number', [-1, True, '0', '0 force', None])
@pytest.mark.parametrize(
    'verb',
    [lambda one: rbd.remove(one, 1, True), rbd.refresh, rbd.monitors],
)
def test_hostile_numbers(bus: pathlib.Path, verb: Any, number: Any) -> None:
    with pytest.raises(ValueError, match='^not the number'):
        verb(number)


def test_too_long_for_the_kernel(bus: pathlib.Path) -> None:
    with pytest.raises(ValueError, match='too long'):
        add(monitors=['192.0.2.1:6789'] * 400)


def test_of_a_mapping_only_the_monitors(bus: pathlib.Path) -> None:
    (bus / 'devices/0/config_info').write_text(
        '192.0.2.1:6789,192.0.2.2:6789 name=admin,secret=canary volumes one -'
    )
    assert rbd.monitors(0) == ['192.0.2.1:6789', '192.0.2.2:6789']
    (bus / 'devices/0/refresh').touch()
    rbd.refresh(0)
    assert (bus / 'devices/0/refresh').read_text() == '1'
    with pytest.raises(FileNotFoundError):
        rbd.monitors(1)
