# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The verbs for NVMe: what they refuse, and what reaches the kernel."""

import os
import pathlib

import pytest

from attachworker.privileged import nvme

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


@pytest.mark.parametrize('verb', [nvme.delete, nvme.rescan])
@pytest.mark.parametrize('name', ['', 'nvme', 'sda', '../nvme0', 'nvme0\n'])
def test_hostile_names(verb: object, name: str) -> None:
    assert callable(verb)
    with pytest.raises(ValueError, match='not the kernel name'):
        verb(name)
    with pytest.raises(ValueError, match='not the kernel name'):
        nvme.identify(name, 1, 0)


@pytest.mark.parametrize(('nsid', 'page'), [(0, 0), (2**32, 0), (1, 2)])
def test_hostile_pages(nsid: int, page: int) -> None:
    with pytest.raises(ValueError, match='not a page'):
        nvme.identify('nvme0', nsid, page)


@pytest.mark.parametrize(
    'options',
    [
        {'nqn': f'{NQN},hostid=x'},
        {'nqn': ''},
        {'traddr': '192.0.2.1\n'},
        {'duplicate_connect': '1'},
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


def test_an_answer_without_an_instance(fabrics: pathlib.Path) -> None:
    with pytest.raises(OSError, match='no instance'):
        nvme.connect({'transport': 'tcp'})


def test_a_host_has_one_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    directory = tmp_path / 'nvme'
    monkeypatch.setattr(nvme, 'HOST_ID', directory / 'hostid')
    monkeypatch.setattr(nvme, 'HOST_NQN', directory / 'hostnqn')
    nvme.create_host_identity()
    nqn = (directory / 'hostnqn').read_text()
    host_id = (directory / 'hostid').read_text().strip()
    assert nqn == f'nqn.2014-08.org.nvmexpress:uuid:{host_id}\n'
    # Nothing of it changes, and what is lost is made of what is there
    (directory / 'hostnqn').unlink()
    nvme.create_host_identity()
    nvme.create_host_identity()
    assert (directory / 'hostnqn').read_text() == nqn
    assert sorted(os.listdir(directory)) == ['hostid', 'hostnqn']
    # Nor is what somebody else has written
    (directory / 'hostnqn').write_text('nqn.2014-08.org.example:mine\n')
    nvme.create_host_identity()
    assert 'example:mine' in (directory / 'hostnqn').read_text()
