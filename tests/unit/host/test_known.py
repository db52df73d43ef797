# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What is read once of a device, and what a look costs beside many others."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import errno
import pathlib

import pytest

from attachworker import host as hosts
from attachworker.connectors.iscsi.initiator import Initiator
from attachworker.host import known
from attachworker.host import sysfs
from tests.simulator import bed as beds
from tests.unit.host import test_scsi


class Names:
    """Facts that a test changes; notes which were read."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.facts: dict[str, str] = {}
        self.asked: list[str] = []
        self.known = known.Known(directory, 'dm-', self._read)

    def _read(self, name: str) -> str | None:
        self.asked.append(name)
        return self.facts.get(name)


def test_a_fact_is_read_once(tmp_path: pathlib.Path) -> None:
    for name in ('dm-0', 'dm-1', 'sda'):
        (tmp_path / name).mkdir()
    names = Names(tmp_path)
    names.facts = {'dm-0': 'one', 'dm-1': 'two', 'sda': 'none of these'}
    for _ in range(3):
        assert names.known.all() == {'dm-0': 'one', 'dm-1': 'two'}
    assert sorted(names.asked) == ['dm-0', 'dm-1']


def test_a_later_device_of_the_same_name_is_another(
    tmp_path: pathlib.Path,
) -> None:
    (tmp_path / 'dm-0').mkdir()
    names = Names(tmp_path)
    names.facts = {'dm-0': 'one'}
    assert names.known.all() == {'dm-0': 'one'}
    # When it goes, and another one comes; its number was not given again
    (tmp_path / 'dm-0').rename(tmp_path / 'gone')
    assert names.known.all() == {}
    (tmp_path / 'dm-0').mkdir()
    names.facts = {'dm-0': 'two'}
    assert names.known.all() == {'dm-0': 'two'}


def test_what_has_no_fact_yet_is_asked_again(tmp_path: pathlib.Path) -> None:
    (tmp_path / 'dm-0').mkdir()
    names = Names(tmp_path)
    assert names.known.all() == {}
    names.facts = {'dm-0': 'one'}
    assert names.known.all() == {'dm-0': 'one'}


def test_an_error_is_no_absence(tmp_path: pathlib.Path) -> None:
    loop = tmp_path / 'loop'
    loop.symlink_to(loop)
    with pytest.raises(OSError, match='loop') as caught:
        Names(loop).known.all()
    assert caught.value.errno == errno.ELOOP
    assert Names(tmp_path / 'gone').known.all() == {}


# -- what a look costs


@contextlib.contextmanager
def counted(
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[list[pathlib.Path]]:
    reads: list[pathlib.Path] = []
    real = sysfs.read_bytes

    def read_bytes(path: pathlib.Path, *without: int) -> bytes | None:
        reads.append(path)
        return real(path, *without)

    with monkeypatch.context() as patch:
        patch.setattr(sysfs, 'read_bytes', read_bytes)
        yield reads


def cost(monkeypatch: pytest.MonkeyPatch, look: Callable[[], object]) -> int:
    """How much is read by a look that is not the first."""
    look()
    with counted(monkeypatch) as reads:
        look()
    return len(reads)


def log_in(bed: beds.SimulatedBed, count: int) -> None:
    for _ in range(count):
        volume = bed.create_volume()
        address, _, port = volume.portals[0].rpartition(':')
        record = {'node.session.scan': 'manual'}
        bed.verbs.iscsi.login(volume.target, address, int(port), record, 10.0)


def test_other_sessions_cost_nothing(
    bed: beds.SimulatedBed, host: hosts.Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = bed.create_volume()
    address, _, port = volume.portals[0].rpartition(':')
    test_scsi.connected(host, volume)
    initiator = Initiator(host)

    def look() -> int:
        return len(initiator.sessions(volume.target, address, int(port)))

    assert look() == 1
    alone = cost(monkeypatch, look)
    log_in(bed, 30)
    assert cost(monkeypatch, look) == alone


def test_other_luns_cost_nothing(
    bed: beds.SimulatedBed, host: hosts.Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = bed.create_volume()
    session, device = test_scsi.connected(host, volume)
    listed: list[pathlib.Path] = []
    real = sysfs.names

    def names(directory: pathlib.Path) -> list[str]:
        listed.append(directory)
        return real(directory)

    def look() -> int:
        listed.clear()
        with monkeypatch.context() as patch:
            patch.setattr(sysfs, 'names', names)
            assert host.scsi.find(session.directory, volume.lun) == device
        return len(listed)

    alone = look()
    for _ in range(20):
        other = bed.create_volume(on=volume)
        bed.verbs.scsi.scan(session.host, 0, session.target_id, other.lun)
    assert look() == alone
    assert host.scsi.find(session.directory, 999) is None
    assert not host.scsi.is_empty(session.directory)
