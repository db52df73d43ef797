# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The names of the machine, where only root may read them."""

import pathlib
import socket
from typing import Any

import pytest

from attachworker import privileged
from attachworker.connectors.iscsi import initiator
from attachworker.host import sysfs
from attachworker.host import system
from attachworker.privileged import system as privileged_system
from tests.unit.on_files import on_files

NAME = 'iqn.1993-08.org.debian:01:abc'


@pytest.fixture
def root(tmp_path: pathlib.Path) -> pathlib.Path:
    file = tmp_path / 'etc/iscsi/initiatorname.iscsi'
    file.parent.mkdir(parents=True)
    file.write_text(f'## a comment\nInitiatorName={NAME}\n')
    return tmp_path


@pytest.fixture
def forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are root's, and this is not root."""

    def refuse(*arguments: Any, **values: Any) -> str:
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(sysfs, 'read', refuse)


def initiator_name(root: pathlib.Path) -> str | None:
    return initiator.Initiator(on_files(root)).name()


def test_what_can_be_read(root: pathlib.Path) -> None:
    assert initiator_name(root) == NAME
    assert system.read(root, 'nqn') is None


@pytest.mark.usefixtures('forbidden')
def test_the_helper_reads_what_the_worker_may_not(
    root: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def read(name: str) -> str:
        asked.append(name)
        return f'InitiatorName={NAME}\n'

    monkeypatch.setattr(privileged_system, 'read', read)
    # Without a helper nobody is asked for one
    monkeypatch.setattr(privileged.readonly, 'channel', None)
    assert initiator_name(root) is None
    assert asked == []
    monkeypatch.setattr(privileged.readonly, 'channel', object())
    assert initiator_name(root) == NAME
    assert asked == ['initiator']


MOUNTS = """\
21 1 0:19 / /proc rw - proc proc rw
22 1 8:1 / / rw - ext4 /dev/old rw
30 22 {number} /@ / rw - {kind} /dev/{name} rw
"""


@pytest.mark.parametrize(
    ('number', 'kind', 'found'),
    [
        ('8:2', 'ext4', '6fa1-4c'),
        # It numbers its mounts by itself
        ('0:33', 'btrfs', '6fa1-4c'),
        # Nothing that a container lives on has one
        ('0:34', 'overlay', None),
    ],
)
def test_the_file_system_that_the_host_lives_on(
    tmp_path: pathlib.Path, number: str, kind: str, found: str | None
) -> None:
    name = 'overlay' if kind == 'overlay' else 'vda2'
    texts = {
        'proc/self/mountinfo': MOUNTS.format(
            number=number, kind=kind, name=name
        ),
        'dev/vda2': '',
        'sys/class/block/vda2/dev': '8:2\n',
        'run/udev/data/b8:2': 'I:123\nE:ID_FS_TYPE=x\nE:ID_FS_UUID=6fa1-4c\n',
        'run/udev/data/b8:1': 'E:ID_FS_UUID=of-another\n',
    }
    for place, text in texts.items():
        file = tmp_path / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert system.root_file_system(tmp_path) == found
    # And nobody is told what is not known
    (tmp_path / 'proc/self/mountinfo').unlink()
    assert system.root_file_system(tmp_path) is None
    assert 'uuid' not in system.properties(tmp_path)


@pytest.mark.parametrize(
    ('address', 'told'),
    [
        ('192.0.2.7', True),
        ('2001:db8::7', True),
        ('fd00::7', True),
        ('127.0.0.1', False),
        ('::1', False),
        ('169.254.1.1', False),
        ('fe80::7', False),
    ],
)
def test_addresses_that_storage_is_told(address: str, told: bool) -> None:
    assert system.reaches_beyond_its_wire(address) is told


def test_all_addresses_are_of_this_host() -> None:
    for address in system.addresses():
        # Only an address of this machine can be bound to
        family = socket.AF_INET6 if ':' in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as one:
            one.bind((address, 0))
