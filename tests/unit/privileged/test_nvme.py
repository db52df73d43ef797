# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The verbs for NVMe: what they refuse, and what reaches the kernel."""

import errno
import os
import pathlib
import threading

import pytest

from attachworker.privileged import nvme
from tests.contract import actors

NQN = 'nqn.2014-08.org.example:one'
CANARY = 'DHHC-1:00:canary:'


@pytest.fixture
def fabrics(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> pathlib.Path:
    """Stands in for the kernel's interface: what is written is read back."""
    path = tmp_path / 'nvme-fabrics'
    path.touch()
    monkeypatch.setattr(nvme, 'FABRICS', str(path))
    return path


@pytest.mark.parametrize('verb', [nvme.delete, nvme.rescan, nvme.register])
@pytest.mark.parametrize('name', ['', 'nvme', 'sda', '../nvme0', 'nvme0\n'])
def test_hostile_names(verb: object, name: str) -> None:
    assert callable(verb)
    with pytest.raises(ValueError, match='not the kernel name'):
        verb(name, 1)
    with pytest.raises(ValueError, match='not the kernel name'):
        nvme.identify(name, 1, 1, 0)


@pytest.mark.parametrize(('nsid', 'page'), [(0, 0), (2**32, 0), (1, 2)])
def test_hostile_pages(nsid: int, page: int) -> None:
    with pytest.raises(ValueError, match='not a page'):
        nvme.identify('nvme0', 1, nsid, page)


def test_a_name_that_is_another_controller_s_by_now(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    directory = tmp_path / 'nvme0'
    directory.mkdir()
    for name in ('delete_controller', 'rescan_controller'):
        (directory / name).touch()
    monkeypatch.setattr(nvme, 'CLASS', str(tmp_path))
    instance = directory.stat().st_ino
    for verb in (nvme.delete, nvme.rescan):
        with pytest.raises(OSError, match='another device') as caught:
            verb('nvme0', instance + 1)
        assert caught.value.errno == errno.ESTALE
    with pytest.raises(OSError, match='another device'):
        nvme.identify('nvme0', instance + 1, 1, 0)
    assert (directory / 'delete_controller').read_text() == ''
    nvme.delete('nvme0', instance)
    assert (directory / 'delete_controller').read_text() == '1'
    assert (directory / 'rescan_controller').read_text() == ''


@pytest.mark.parametrize(
    'options',
    [
        {'nqn': f'{NQN},hostid=x'},
        {'nqn': ''},
        {'traddr': '192.0.2.1\n'},
        {'duplicate_connect': '1'},
        {'transport': 'loop'},
        {'traddr': 'storage.example'},
        {'host_traddr': 'eth0'},
        {'trsvcid': '4420x'},
        {'trsvcid': '٤٤٢٠'},
        {'nqn': f'nqn.{"a" * 220}'},
        {'hostnqn': 'nqn.ü'},
        {'hostid': 'x'},
        {'ctrl_loss_tmo': '0x10'},
        {'reconnect_delay': '-1'},
        {'dhchap_secret': 'a secret word'},
        {'dhchap_ctrl_secret': f'DHHC-1:00:{"A" * 4096}:'},
    ],
)
def test_hostile_options(
    fabrics: pathlib.Path, options: dict[str, str]
) -> None:
    with pytest.raises(ValueError, match='^not '):
        nvme.connect({'transport': 'tcp', **options})
    assert fabrics.read_text() == ''


def test_the_keys_go_to_the_kernel_and_nowhere_else(
    fabrics: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No kernel of the tests has DH-HMAC-CHAP or TLS: what it is told."""
    monkeypatch.setattr(
        nvme.os, 'read', lambda descriptor, length: b'instance=3,cntlid=1\n'
    )
    number = nvme.connect(
        {
            'transport': 'tcp',
            'traddr': '192.0.2.1',
            'nqn': NQN,
            'dhchap_secret': CANARY,
            'tls': 'on',
        }
    )
    assert number == 3
    assert fabrics.read_text() == (
        f'transport=tcp,traddr=192.0.2.1,nqn={NQN},dhchap_secret={CANARY},tls'
    )


def test_nobody_else_can_read_the_keys_in_sysfs(
    fabrics: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: pathlib.Path,
) -> None:
    # Given a kernel that shows everybody the keys of a controller
    monkeypatch.setattr(nvme, 'CLASS', str(tmp_path))
    shown = [tmp_path / 'nvme3' / name for name in sorted(nvme._SHOWN)]
    shown[0].parent.mkdir()
    for path in shown:
        path.touch(0o644)
    # When it is told some
    answer = b'instance=3,cntlid=1\n'
    monkeypatch.setattr(nvme.os, 'read', lambda *arguments: answer)
    options = {'transport': 'tcp', 'nqn': NQN, 'dhchap_secret': CANARY}
    assert nvme.connect({**options, 'dhchap_ctrl_secret': CANARY}) == 3
    # Then only root can read them
    assert [path.stat().st_mode & 0o777 for path in shown] == [0o600] * 2
    # And a controller that has gone meanwhile is no error
    for path in shown:
        path.unlink()
    assert nvme.connect(options) == 3


def test_nobody_else_can_read_the_keys_while_it_connects(
    fabrics: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: pathlib.Path,
) -> None:
    # Given a controller of somebody else, and a kernel that shows the keys of
    # a new one while it connects, and then cannot
    monkeypatch.setattr(nvme, 'CLASS', str(tmp_path))
    other, ours = (
        tmp_path / controller / 'dhchap_secret'
        for controller in ('nvme0', 'nvme3')
    )
    other.parent.mkdir()
    other.write_text('of somebody else\n')
    other.chmod(0o644)

    def write(descriptor: int, text: bytes) -> int:
        ours.parent.mkdir()
        ours.touch(0o644)
        ours.write_text(f'{CANARY}\n')
        # Then only root can read them, before the connect has ended
        assert actors.until(lambda: ours.stat().st_mode & 0o777 == 0o600)
        raise ConnectionRefusedError

    monkeypatch.setattr(nvme.os, 'write', write)
    with pytest.raises(ConnectionRefusedError):
        nvme.connect({'transport': 'tcp', 'nqn': NQN, 'dhchap_secret': CANARY})
    # And nothing was done to the other one
    assert other.stat().st_mode & 0o777 == 0o644
    assert not [one for one in threading.enumerate() if one.name == 'keys']


def test_an_answer_without_an_instance(fabrics: pathlib.Path) -> None:
    with pytest.raises(OSError, match='no instance'):
        nvme.connect({'transport': 'tcp'})


def test_a_controller_is_ours_in_the_registry_until_it_is_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    # Given a controller, and what an earlier one of its name has left
    directory = tmp_path / 'class/nvme0'
    directory.mkdir(parents=True)
    for name in ('delete_controller', 'dev'):
        (directory / name).touch()
    registry = tmp_path / 'run/nvme/registry'
    (registry / 'nvme0').mkdir(parents=True)
    (registry / 'nvme0/note').write_text('of an earlier one')
    (tmp_path / 'seqnum').write_text('4711\n')
    monkeypatch.setattr(nvme, 'CLASS', str(tmp_path / 'class'))
    monkeypatch.setattr(nvme, 'REGISTRY', registry)
    monkeypatch.setattr(nvme, 'SEQUENCE', tmp_path / 'seqnum')
    instance = directory.stat().st_ino
    # When it is registered, then as nvme-cli does it
    with pytest.raises(OSError, match='another device'):
        nvme.register('nvme0', instance + 1)
    nvme.register('nvme0', instance)
    entry = registry / 'nvme0'
    assert {path.name: path.read_text() for path in entry.iterdir()} == {
        'owner': 'attachworker\n',
        'seqnum': '4711\n',
    }
    assert entry.stat().st_mode & 0o777 == 0o755
    assert os.listdir(registry) == ['nvme0']
    # And the entry goes with it, unless it is somebody else's
    nvme.delete('nvme0', instance)
    assert os.listdir(registry) == []
    entry.mkdir()
    (entry / 'owner').write_text('stas\n')
    nvme.delete('nvme0', instance)
    assert (entry / 'owner').read_text() == 'stas\n'


HOST = 'nqn.2014-08.org.nvmexpress:uuid:0a1b2c3d-0000-4000-8000-000000000001'
HOST_ID = '0a1b2c3d-0000-4000-8000-000000000001'


@pytest.fixture
def directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> pathlib.Path:
    """Stands in for /etc/nvme."""
    found = tmp_path / 'nvme'
    monkeypatch.setattr(nvme, 'HOST_ID', found / 'hostid')
    monkeypatch.setattr(nvme, 'HOST_NQN', found / 'hostnqn')
    return found


@pytest.mark.parametrize('empty', [None, '', ' \n'])
def test_a_host_is_given_the_names_that_it_lacks(
    directory: pathlib.Path, empty: str | None
) -> None:
    if empty is not None:
        directory.mkdir()
        (directory / 'hostnqn').write_text(empty)
        (directory / 'hostid').write_text(empty)
    nvme.create_host_identity(HOST, HOST_ID)
    assert (directory / 'hostnqn').read_text() == f'{HOST}\n'
    assert (directory / 'hostid').read_text() == f'{HOST_ID}\n'
    assert sorted(os.listdir(directory)) == ['hostid', 'hostnqn']


def test_the_names_that_a_host_has_stay(directory: pathlib.Path) -> None:
    directory.mkdir()
    (directory / 'hostnqn').write_text('nqn.2014-08.org.example:mine\n')
    nvme.create_host_identity(HOST, HOST_ID)
    other = HOST_ID.replace('1', '2')
    nvme.create_host_identity(HOST, other)
    assert 'example:mine' in (directory / 'hostnqn').read_text()
    assert (directory / 'hostid').read_text() == f'{HOST_ID}\n'


@pytest.mark.parametrize(
    ('nqn', 'host_id'),
    [
        (HOST, 'x'),
        (HOST, HOST_ID.upper()),
        ('', HOST_ID),
        (f'{HOST}\n', HOST_ID),
        (f'{HOST},hostid=x', HOST_ID),
    ],
)
def test_hostile_names_of_a_host(
    directory: pathlib.Path, nqn: str, host_id: str
) -> None:
    with pytest.raises(
        ValueError, match='not (the names|an NVMe name)|badly formed'
    ):
        nvme.create_host_identity(nqn, host_id)
    assert not directory.exists()
