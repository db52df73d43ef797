# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What is ours and what is not, when others act at the same time."""

from collections.abc import Iterator
import concurrent.futures
import errno
import pathlib
import threading
import types
from typing import Any

import pytest

from attachworker import deadline as deadlines
from attachworker import objects
from attachworker.connectors import base
from attachworker.connectors import iscsi
from attachworker.connectors.iscsi.initiator import Initiator
from attachworker.journal import Database
from attachworker.journal import Holdings
from tests import harness
from tests.contract import bed as contract
from tests.simulator import bed as beds
from tests.simulator import faults

PATIENCE = 20.0


@pytest.fixture(scope='module')
def shared_bed() -> Iterator[beds.SimulatedBed]:
    bed = beds.SimulatedBed()
    yield bed
    bed.close()


@pytest.fixture(scope='module')
def worker(shared_bed: beds.SimulatedBed) -> Iterator[harness.Harness]:
    options = {'login_timeout': 1, 'scan_attempts': 1, 'device_timeout': 5}
    with harness.Harness(shared_bed, iscsi=options) as running:
        yield running


@pytest.fixture
def bed(shared_bed: beds.SimulatedBed) -> Iterator[beds.SimulatedBed]:
    yield shared_bed
    assert shared_bed.control('unfired') == []
    shared_bed.control('clear_faults')


def log_in(bed: beds.SimulatedBed, volume: contract.Volume) -> None:
    """Somebody else on this host logs in."""
    address, _, port = volume.portals[0].rpartition(':')
    code, _ = bed.verbs.iscsi.login(
        volume.target,
        address,
        int(port),
        {'node.session.scan': 'manual'},
        PATIENCE,
    )
    assert code == 0


def test_a_session_that_was_found_stays(
    bed: beds.SimulatedBed, worker: harness.Harness
) -> None:
    volume = bed.create_volume()
    log_in(bed, volume)
    before = bed.snapshot()
    assert worker.attach(volume).status == 'attached'
    assert worker.detach(volume.name).status == 'detached'
    assert bed.snapshot() == before


@pytest.mark.parametrize('found', [True, False])
def test_a_device_that_could_not_be_asked_is_not_taken_for_a_stale_one(
    bed: beds.SimulatedBed, worker: harness.Harness, found: bool
) -> None:
    # Given a device that somebody else has made, or that is new
    volume = bed.create_volume()
    if found:
        log_in(bed, volume)
        session = max(
            (bed.root / 'sys/class/iscsi_session').iterdir(),
            key=lambda one: int(one.name.removeprefix('session')),
        )
        host = (session / 'device').resolve().parent.name
        bed.verbs.scsi.scan(int(host.removeprefix('host')), 0, 0, volume.lun)
        disks = (session / 'device').resolve()
        while not list(disks.glob('target*/*/block/*')):
            pass
    before = bed.snapshot()
    # When the helper cannot ask it, for a reason of its own
    bed.arm(faults.Fault.FAIL_BEFORE, 'scsi.inquiry', number=errno.EMFILE)
    result = worker.attach(volume)
    # Then that is the error, and whatever was there stays
    assert result.error.code == 'host_tool_failed', result.as_dict()
    assert 'Too many open files' in result.error.message
    assert bed.snapshot() == before
    assert worker.attach(volume).status == 'attached'
    assert worker.detach(volume.name).status == 'detached'
    if found:
        bed.drop_session(volume, volume.portals[0])


def test_a_login_that_failed_owns_no_later_session(
    bed: beds.SimulatedBed, worker: harness.Harness
) -> None:
    """Only the session that our own login made is ours to end."""
    # Given a login of ours that was refused
    volume = bed.create_volume()
    bed.arm(faults.Fault.FAIL_EXIT, 'iscsi.login', exit_code=24)
    assert worker.attach(volume).error.code == 'auth_failed'
    # And somebody else who has logged in since
    log_in(bed, volume)
    before = bed.snapshot()
    # When a volume is attached and detached there
    assert worker.attach(volume).status == 'attached'
    assert worker.detach(volume.name).status == 'detached'
    # Then the session of the other is still there
    assert bed.snapshot() == before


def test_a_portal_for_iser_need_not_answer_over_tcp(
    bed: beds.SimulatedBed, worker: harness.Harness
) -> None:
    # Given a portal that takes no TCP
    volume = bed.create_volume()
    (portal,) = volume.portals
    bed.stop_portal(portal)
    asked = bed.arm(faults.Fault.FAIL_EXIT, 'iscsi.login', exit_code=24)
    # When an attach asks for iSER
    info = volume.connection_info() | {'driver_volume_type': 'iser'}
    result = worker.attach(volume, connection_info=info)
    bed.start_portal(portal)
    # Then it is iscsid who says what becomes of it
    assert asked.fired == 1, result.as_dict()
    assert result.error.code == 'auth_failed'


def test_a_detach_takes_no_device_from_an_attach(
    bed: beds.SimulatedBed, worker: harness.Harness
) -> None:
    """Who attaches while another one detaches the same volume."""
    # Given a detach that is about to remove the device
    volume = bed.create_volume()
    before = bed.snapshot()
    assert worker.attach(volume, 'first').status == 'attached'
    armed = bed.arm(faults.Fault.HANG_BEFORE, 'scsi.delete')
    with concurrent.futures.ThreadPoolExecutor() as callers:
        detaching = callers.submit(worker.detach, 'first')
        assert armed.wait(PATIENCE)
        # When another attachment of the same volume is made meanwhile
        attaching = callers.submit(worker.attach, volume, 'second')
        concurrent.futures.wait([attaching], timeout=0.3)
        armed.release()
        assert detaching.result(PATIENCE).status == 'detached'
        result = attaching.result(PATIENCE)
    # Then it has a device in the end, whatever the order
    assert result.status == 'attached', result.as_dict()
    assert bed.read(result.device.path) == volume.pattern
    assert worker.detach('second').status == 'detached'
    assert bed.snapshot() == before


def test_volumes_of_one_target_do_not_wait_for_a_removal(
    bed: beds.SimulatedBed, worker: harness.Harness
) -> None:
    # Given the removal of a device, which hangs
    volume = bed.create_volume()
    other = bed.create_volume(on=volume)
    before = bed.snapshot()
    assert worker.attach(volume).status == 'attached'
    armed = bed.arm(faults.Fault.HANG_BEFORE, 'scsi.delete')
    with concurrent.futures.ThreadPoolExecutor() as callers:
        detaching = callers.submit(worker.detach, volume.name)
        assert armed.wait(PATIENCE)
        # When another volume of the target is attached, it is at once
        result = callers.submit(worker.attach, other).result(PATIENCE)
        assert result.status == 'attached', result.as_dict()
        assert not detaching.done()
        armed.release()
        assert detaching.result(PATIENCE).status == 'detached'
    assert worker.detach(other.name).status == 'detached'
    assert bed.snapshot() == before


def test_the_session_goes_with_its_last_volume(
    bed: beds.SimulatedBed, worker: harness.Harness
) -> None:
    volumes = [bed.create_volume()]
    volumes += [bed.create_volume(on=volumes[0]) for _ in range(3)]
    before = bed.snapshot()
    for volume in volumes:
        assert worker.attach(volume).status == 'attached'
    for volume in volumes:
        assert len(bed.snapshot()['sessions']) > len(before['sessions'])
        assert worker.detach(volume.name).status == 'detached'
    assert bed.snapshot() == before


def test_the_session_goes_however_two_volumes_leave_it(
    bed: beds.SimulatedBed, tmp_path: pathlib.Path
) -> None:
    """Of two that leave at the same time, one has to be the last."""
    # Given two volumes on one session
    volume = bed.create_volume()
    volumes = [volume, bed.create_volume(on=volume)]
    before = bed.snapshot()
    database = Database(tmp_path)
    host = bed.host()
    settings = {
        option.dest: option.default
        for option in iscsi.ISCSIConnector.options()
    }
    connector = iscsi.ISCSIConnector(host, types.SimpleNamespace(**settings))
    leaving, go_on = threading.Event(), threading.Event()

    class SlowHoldings(Holdings):
        def release(self, target: Any) -> None:
            leaving.set()
            assert go_on.wait(PATIENCE)
            super().release(target)

    holdings = [
        SlowHoldings(database, 'first', host.boot_id),
        Holdings(database, 'second', host.boot_id),
    ]
    deadline = deadlines.Deadline.after(PATIENCE)
    infos = [
        objects.ConnectionInfo.from_dict(one.connection_info())
        for one in volumes
    ]
    claims = [
        base.Claim(info.targets[0], held, deadline)
        for info, held in zip(infos, holdings, strict=True)
    ]
    for info, claim in zip(infos, claims, strict=True):
        connector.connect(info, claim, base.Interest())

    def may_remove(path: base.Path) -> tuple[bool, list[str]]:
        return True, []

    def disconnect(number: int) -> list[str]:
        return connector.disconnect(claims[number], may_remove)

    with concurrent.futures.ThreadPoolExecutor() as callers:
        # When the second leaves while the first one is about to have left
        first = callers.submit(disconnect, 0)
        assert leaving.wait(PATIENCE)
        second = callers.submit(disconnect, 1)
        concurrent.futures.wait([second], timeout=0.5)
        go_on.set()
        assert first.result(PATIENCE) == second.result(PATIENCE) == []
    # Then the session is gone, too
    assert bed.snapshot() == before
    host.close()
    database.close()


def test_a_device_that_was_found_stays_after_a_failed_attach(
    bed: beds.SimulatedBed, worker: harness.Harness
) -> None:
    # Given a device that somebody else has brought here
    volume = bed.create_volume()
    bring_device(bed, volume)
    before = bed.snapshot()
    # When an attach of it fails
    result = worker.attach(volume, expected_wwn='naa.6' + '0' * 31)
    assert result.error.code == 'identity_mismatch'
    # Then it is as it was
    assert bed.snapshot() == before


def test_multipathd_lets_go_of_a_leftover_before_it_is_removed(
    bed: beds.SimulatedBed, worker: harness.Harness
) -> None:
    # Given a device that somebody has left behind, which multipathd knows
    bed.set_multipathd()
    first = bed.create_volume()
    disk = bring_device(bed, first)
    while disk not in bed.control('known_to_multipathd'):
        pass
    # When its LUN is another volume's by now, and that is attached
    bed.remove_volume(first)
    second = bed.create_volume(on=first, lun=first.lun)
    armed = bed.arm(faults.Fault.HANG_BEFORE, 'scsi.delete')
    with concurrent.futures.ThreadPoolExecutor() as callers:
        attaching = callers.submit(worker.attach, second)
        assert armed.wait(PATIENCE)
        # Then multipathd has nothing to do with it when it goes
        known = bed.control('known_to_multipathd')
        armed.release()
        result = attaching.result(PATIENCE)
    assert disk not in known
    assert result.status == 'attached', result.as_dict()
    assert bed.read(result.device.path) == second.pattern
    assert worker.detach(second.name).status == 'detached'
    bed.drop_session(second, second.portals[0])
    bed.stop_multipathd()


def test_a_leftover_that_does_not_go_is_not_taken_for_the_volume(
    bed: beds.SimulatedBed, worker: harness.Harness
) -> None:
    # Given a leftover that the kernel does not remove
    first = bed.create_volume()
    bring_device(bed, first)
    bed.remove_volume(first)
    second = bed.create_volume(on=first, lun=first.lun)
    before = bed.snapshot()
    bed.arm(faults.Fault.FAIL_BEFORE, 'scsi.delete', number=errno.EIO)
    # When its LUN is attached as another volume, then that fails
    result = worker.attach(second)
    assert result.status == 'failed', result.as_dict()
    assert bed.snapshot() == before
    assert worker.attach(second).status == 'attached'
    assert worker.detach(second.name).status == 'detached'
    bed.drop_session(second, second.portals[0])


def bring_device(bed: beds.SimulatedBed, volume: contract.Volume) -> str:
    """Somebody else on this host logs in and scans.

    :returns: the disk
    """
    log_in(bed, volume)
    host = bed.host()
    address, _, port = volume.portals[0].rpartition(':')
    (session,) = Initiator(host).sessions(volume.target, address, int(port))
    deadline = deadlines.Deadline.after(PATIENCE)
    host.scsi.scan(session.host, 0, session.target_id, volume.lun, deadline)
    found = host.scsi.wait_for_disk(session.directory, volume.lun, deadline)
    host.close()
    assert found is not None
    assert found.disk is not None
    return found.disk


def detach_by_portal(
    worker: harness.Harness, volume: contract.Volume, portal: str
) -> objects.OperationResult:
    info = volume.connection_info()
    info['data']['target_portal'] = portal
    return worker.api.detach_volume(
        {},
        worker.name,
        objects.DetachRequest(request_id=portal, connection_info=info),
    )


def test_a_detach_by_host_name_finds_what_others_attached(
    bed: beds.SimulatedBed, worker: harness.Harness
) -> None:
    # Given a device that somebody else has brought here, by an address
    volume = bed.create_volume()
    before = bed.snapshot()
    devices = len(before['block_devices'])
    bring_device(bed, volume)
    port = volume.portals[0].rpartition(':')[2]
    # When nobody knows the name, the detach does not claim to be done
    result = detach_by_portal(worker, volume, f'no.such.invalid:{port}')
    assert result.status == 'failed', result.as_dict()
    assert 'no.such.invalid' in str(result.as_dict())
    assert len(bed.snapshot()['block_devices']) == devices + 1
    # When the name is known, the device goes and the session stays
    result = detach_by_portal(worker, volume, f'localhost:{port}')
    assert result.status == 'detached', result.as_dict()
    after = bed.snapshot()
    assert after['block_devices'] == before['block_devices']
    assert len(after['sessions']) == len(before['sessions']) + 1


def test_a_host_without_open_iscsi(
    bed: beds.SimulatedBed, worker: harness.Harness
) -> None:
    volume = bed.create_volume()
    tool = pathlib.Path(bed.root) / 'usr/sbin/iscsiadm'
    name = pathlib.Path(bed.root) / 'etc/iscsi/initiatorname.iscsi'
    for path, word in ((tool, 'iscsiadm'), (name, 'initiator name')):
        hidden = path.rename(path.with_suffix('.hidden'))
        try:
            result = worker.attach(volume)
        finally:
            hidden.rename(path)
        assert result.error.code == 'host_tool_missing'
        assert word in result.error.message
        assert 'install open-iscsi' in result.error.message


class Redirecting:
    """Verbs whose logins end up at another portal than they were made to."""

    def __init__(self, bed: beds.SimulatedBed, address: str) -> None:
        self._bed = bed
        self._address = address
        self.iscsi = self

    def __getattr__(self, name: str) -> Any:
        group = self._bed.verbs.iscsi
        return getattr(group, name, None) or getattr(self._bed.verbs, name)

    def login(self, *arguments: Any) -> Any:
        answer = self._bed.verbs.iscsi.login(*arguments)
        connections = pathlib.Path(self._bed.root) / 'sys/class'
        for one in connections.glob('iscsi_connection/*/address'):
            one.write_text(f'{self._address}\n')
        return answer


@pytest.mark.parametrize(
    ('address', 'status'),
    [('169.254.169.254', 'failed'), ('192.0.2.7', 'attached')],
)
def test_a_login_that_the_target_sends_elsewhere(
    bed: beds.SimulatedBed, address: str, status: str
) -> None:
    volume = bed.create_volume()
    before = bed.snapshot()
    host = bed.host(Redirecting(bed, address))
    with harness.Harness(bed, host=host) as worker:
        # When the target redirects the login to where no portal may be
        result = worker.attach(volume)
        # Then the session is ended again; anywhere else it is used
        assert result.status == status, result.as_dict()
        if status == 'failed':
            assert result.error.code == 'invalid_connection_info'
            assert address in result.error.message
        else:
            assert worker.detach(volume.name).status == 'detached'
    assert bed.snapshot() == before
