# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What only a real target and the real iscsiadm can show."""

from collections.abc import Iterator
import contextlib
import pathlib
from typing import Any

import pytest

from tests import harness
from tests.contract import bed as contract
from tests.kernel import bed as kernel_bed
from tests.kernel.spy import Spy

pytestmark = pytest.mark.kernel

DISCOVERY_AUTH = pathlib.Path('/sys/kernel/config/target/iscsi/discovery_auth')
ISCSI = pathlib.Path('/etc/iscsi')
SECRET = 'CANARY-of-the-lab'
THEIRS = 'CANARY-of-the-other-side'


def one_portal(volume: contract.Volume, **data: Any) -> dict[str, Any]:
    """The singular keys only, as Cinder sends them to a plain connector."""
    info = volume.connection_info()
    for key in ('target_portals', 'target_iqns', 'target_luns'):
        info['data'].pop(key, None)
    info['data'].update(data)
    return info


@contextlib.contextmanager
def discovery_chap(mutual: bool = False) -> Iterator[None]:
    """All portals of this machine ask for credentials before they tell."""
    values = {'userid': 'finder', 'password': SECRET}
    if mutual:
        values |= {'userid_mutual': 'them', 'password_mutual': THEIRS}
    try:
        for name, value in values.items():
            (DISCOVERY_AUTH / name).write_text(value)
        (DISCOVERY_AUTH / 'enforce_discovery_auth').write_text('1')
        yield
    finally:
        (DISCOVERY_AUTH / 'enforce_discovery_auth').write_text('0')
        for name in values:
            (DISCOVERY_AUTH / name).write_text('NULL')


def files_of_open_iscsi() -> dict[str, bytes]:
    return {
        str(path): path.read_bytes()
        for path in ISCSI.rglob('*')
        if path.is_file()
    }


def tried(result: Any) -> list[str]:
    """Portals that an attach has tried to connect."""
    prefix = 'ConnectTarget:'
    return sorted(
        step.removeprefix(prefix).partition(',')[0]
        for step in result.timings
        if step.startswith(prefix)
    )


def test_discovery_finds_the_portals_of_the_named_target_only(
    bed: kernel_bed.KernelBed, worker: harness.Harness
) -> None:
    # Given a host with records of its own, of this and of another target
    volume, other = bed.create_volume(portals=2), bed.create_volume()
    record = ISCSI / 'nodes' / other.target / '127.0.0.1,3260'
    record.parent.mkdir(parents=True)
    record.write_text('node.startup = automatic\n')
    list_ = ISCSI / 'send_targets' / '127.0.0.1,3260' / 'st_config'
    list_.parent.mkdir(parents=True)
    list_.write_text('discovery.startup = manual\n')
    files, before = files_of_open_iscsi(), bed.snapshot()
    try:
        # When a request names one portal and asks for several paths
        result = worker.attach(
            volume, connection_info=one_portal(volume), multipath=True
        )
        # Then the other one is found
        assert result.status == 'attached', result.as_dict()
        assert tried(result) == list(volume.portals)
        assert bed.read(result.device.path) == volume.pattern
        names = {name for name, *_ in bed.snapshot()['sessions']}
        assert names == {volume.target}
        assert worker.detach(volume.name).status == 'detached'
        # And the host is as it was
        assert files_of_open_iscsi() == files
        assert bed.snapshot() == before
    finally:
        for path in (record, list_):
            path.unlink()
            path.parent.rmdir()


@pytest.mark.parametrize('mutual', [False, True], ids=['one-way', 'mutual'])
@pytest.mark.parametrize('right', [True, False], ids=['right', 'wrong'])
def test_discovery_chap(
    bed: kernel_bed.KernelBed,
    worker: harness.Harness,
    mutual: bool,
    right: bool,
) -> None:
    volume = bed.create_volume(portals=2)
    before = bed.snapshot()
    auth = {
        'discovery_auth_method': 'CHAP',
        'discovery_auth_username': 'finder',
        'discovery_auth_password': SECRET,
    }
    if mutual:
        auth['discovery_auth_username_in'] = 'them'
        auth['discovery_auth_password_in'] = THEIRS
    if not right:
        auth[list(auth)[-1]] = 'CANARY-that-is-wrong'
    with discovery_chap(mutual), Spy() as spy:
        result = worker.attach(
            volume, connection_info=one_portal(volume, **auth), multipath=True
        )
    assert result.status == 'attached', result.as_dict()
    if right:
        assert tried(result) == list(volume.portals)
    else:
        # the named portal has to do, and the caller is told
        assert tried(result) == [volume.portals[0]]
        assert any('credentials' in one for one in result.warnings)
    assert any(b'discoverydb' in command for command in spy.commands)
    assert spy.leaks == set()
    assert 'CANARY' not in str(result.as_dict())
    assert worker.detach(volume.name).status == 'detached'
    assert bed.snapshot() == before
    assert not any(
        b'CANARY' in content for content in files_of_open_iscsi().values()
    )


def test_discovery_at_a_portal_that_hangs(
    bed: kernel_bed.KernelBed, worker: harness.Harness
) -> None:
    volume = bed.create_volume()
    before = bed.snapshot()
    bed.hang_portal(volume.portals[0])
    result = worker.attach(
        volume,
        connection_info=one_portal(volume),
        multipath=True,
        deadline_seconds=30,
    )
    assert result.error.code == 'target_unreachable', result.as_dict()
    bed.start_portal(volume.portals[0])
    assert bed.snapshot() == before
