# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""nvmeof: portals, shared subsystems, and controllers that come and go."""

import contextlib
import pathlib

import pytest

from attachworker import deadline as deadlines
from attachworker import objects
from attachworker.connectors.nvmeof.fabrics import Fabrics
from tests import harness
from tests.contract import bed as beds
from tests.contract.test_audit import findings
from tests.contract.test_audit import states
from tests.contract.test_audit import until


def attached(
    worker: harness.Harness, volume: beds.Volume, **values: object
) -> objects.DeviceInfo:
    result = worker.attach(volume, **values)
    assert result.status == 'attached', result.as_dict()
    return result.device


def detached(
    worker: harness.Harness, attachment_id: str, **values: object
) -> None:
    result = worker.detach(attachment_id, **values)
    assert result.status == 'detached', result.as_dict()
    assert result.leftovers == []


def controllers(bed: beds.Bed) -> int:
    return len(bed.snapshot()['nvme_controllers'])


def connect(
    bed: beds.Bed, volume: beds.Volume, host_nqn: str, host_id: str
) -> str:
    """Another program connects; returns the controller."""
    address, _, port = volume.portals[0].rpartition(':')
    options = {
        'nqn': volume.target,
        'transport': 'tcp',
        'traddr': address,
        'trsvcid': port,
        'hostnqn': host_nqn,
        'hostid': host_id,
    }
    return f'nvme{bed.verbs.nvme.connect(options)}'


def connected_by_others(bed: beds.Bed, volume: beds.Volume) -> str:
    """A controller that another program has connected by this host's name."""
    host = bed.host()
    own = Fabrics(host).own_identity(deadlines.Deadline.after(10.0))
    host.close()
    return connect(bed, volume, own.nqn, own.id)


def end(bed: beds.Bed, controller: str) -> None:
    """Somebody else on the host ends a controller."""
    place = bed.root / 'sys/class/nvme' / controller
    bed.verbs.nvme.delete(controller, place.stat().st_ino)


def test_a_portal_by_a_name_that_nobody_knows(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given a namespace behind two portals by name, one of which is unknown
    volume = bed.create_nvme_volume()
    before = bed.snapshot()
    info = volume.connection_info(multipath=True)
    [(_, port, transport)] = info['data']['portals']
    info['data']['portals'] = [
        [name, port, transport] for name in ('nowhere.invalid', 'localhost')
    ]
    # When it is attached, then the other one has its path
    result = worker.attach(volume, multipath=True, connection_info=info)
    assert result.status == 'attached', result.as_dict()
    assert bed.read(result.device.path) == volume.pattern
    detached(worker, volume.name)
    assert bed.snapshot() == before


def test_all_portals_at_once(bed: beds.Bed, worker: harness.Harness) -> None:
    # Given a namespace behind two portals
    volume = bed.create_nvme_volume(portals=2)
    before = bed.snapshot()
    # When it is attached with multipath
    device = attached(worker, volume, multipath=True, min_paths=2)
    # Then it is one device, which the kernel itself has made of the paths
    assert device.path.startswith('/dev/nvme')
    assert not device.degraded
    assert device.scsi_wwn is device.multipath_id is None
    assert device.to_brick() == {'type': 'block', 'path': device.path}
    assert [path.state for path in device.paths] == ['connected'] * 2
    assert [path.portal for path in device.paths] == list(volume.portals)
    assert {path.device for path in device.paths} == {device.path[5:]}
    assert bed.read(device.path) == volume.pattern
    assert controllers(bed) == 2
    # And it survives the loss of one
    bed.kill_path(volume, volume.portals[0])
    assert bed.read(device.path, offset=4096) == bytes(4096)
    bed.restore_path(volume, volume.portals[0])
    detached(worker, volume.name)
    assert bed.snapshot() == before


def test_one_path_is_enough_without_multipath(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    volume = bed.create_nvme_volume(portals=2)
    before = bed.snapshot()
    device = attached(worker, volume)
    assert bed.read(device.path) == volume.pattern
    until(lambda: controllers(bed) == 1)
    detached(worker, volume.name)
    assert bed.snapshot() == before


def test_a_subsystem_of_many(bed: beds.Bed, worker: harness.Harness) -> None:
    # Given eight namespaces of one subsystem
    first = bed.create_nvme_volume(portals=2)
    volumes = [first, *(bed.create_nvme_volume(on=first) for _ in range(7))]
    before = bed.snapshot()
    # When all are attached
    for volume in volumes:
        device = attached(worker, volume, multipath=True)
        # Then each is its own one, through the same controllers
        assert bed.read(device.path) == volume.pattern
    assert controllers(bed) == 2
    report = worker.api.audit({}, worker.name)
    assert [one.state for one in report.attachments] == ['ok'] * 8
    assert report.findings == []
    # And the controllers go with the last one
    *others, last = volumes
    for volume in others:
        detached(worker, volume.name)
    assert controllers(bed) == 2
    again = attached(worker, last, multipath=True)
    assert bed.read(again.path) == last.pattern
    detached(worker, last.name)
    assert bed.snapshot() == before


def test_a_namespace_that_is_mapped_later(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    first = bed.create_nvme_volume()
    attached(worker, first)
    later = bed.create_nvme_volume(on=first)
    assert bed.read(attached(worker, later).path) == later.pattern
    for volume in (first, later):
        detached(worker, volume.name)


def test_a_controller_of_somebody_else_stays(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given a controller that another program has connected
    volume = bed.create_nvme_volume()
    theirs = connected_by_others(bed, volume)
    until(lambda: bed.snapshot()['nvme_devices'])
    before = bed.snapshot()
    # Then it is used, and left alone
    assert bed.read(attached(worker, volume).path) == volume.pattern
    assert 'foreign controller' in findings(worker)
    detached(worker, volume.name)
    assert bed.snapshot() == before
    end(bed, theirs)


def test_only_a_number_is_known(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    """The old form, with strings for numbers."""
    first = bed.create_nvme_volume()
    volume = bed.create_nvme_volume(on=first)
    address, _, port = volume.portals[0].rpartition(':')
    info = {
        'driver_volume_type': 'nvmeof',
        'data': {
            'target_portal': address,
            'target_port': port,
            'nqn': volume.target,
            'transport_type': 'tcp',
            'ns_id': str(volume.lun),
        },
    }
    before = bed.snapshot()
    device = attached(worker, volume, connection_info=info)
    assert bed.read(device.path) == volume.pattern
    assert states(worker) == {volume.name: 'ok'}
    detached(worker, volume.name)
    assert bed.snapshot() == before


def test_a_dead_portal(bed: beds.Bed, worker: harness.Harness) -> None:
    volume = bed.create_nvme_volume(portals=2)
    bed.kill_path(volume, volume.portals[1])
    before = bed.snapshot()
    device = attached(worker, volume, multipath=True)
    assert device.degraded
    assert [path.state for path in device.paths] == ['connected', 'failed']
    assert device.paths[1].error == 'target_unreachable'
    assert bed.read(device.path) == volume.pattern
    detached(worker, volume.name)
    assert bed.snapshot() == before
    bed.restore_path(volume, volume.portals[1])


@pytest.mark.parametrize('force', [False, True])
def test_a_controller_goes_once_nobody_uses_what_comes_through_it(
    bed: beds.Bed, worker: harness.Harness, force: bool
) -> None:
    # Given two volumes of a subsystem, of which one is in use
    first = bed.create_nvme_volume()
    second = bed.create_nvme_volume(on=first)
    before = bed.snapshot()
    device = attached(worker, first)
    attached(worker, second)
    with bed.opened(device.path):
        # When it is detached nevertheless, and the other one, too
        result = worker.detach(first.name, force=True)
        assert result.status == 'detached', result.as_dict()
        detached(worker, second.name, force=force)
        # Then it is not taken from who uses it
        assert controllers(bed) == 1
        assert bed.read(device.path) == first.pattern
    # And nothing stays behind
    until(lambda: bed.snapshot() == before)


def test_a_volume_comes_back_through_a_controller_that_has_stayed(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    first = bed.create_nvme_volume()
    second = bed.create_nvme_volume(on=first)
    before = bed.snapshot()
    device = attached(worker, first)
    attached(worker, second)
    with bed.opened(device.path):
        worker.detach(first.name, force=True)
        detached(worker, second.name)
        # Given a controller that nobody holds, when it is needed again
        attached(worker, second)
        assert controllers(bed) == 1
    # Then it stays for as long as it is needed
    until(lambda: 'orphan controller' not in findings(worker))
    assert bed.read(device.path) == first.pattern
    detached(worker, second.name)
    assert bed.snapshot() == before


def test_a_forced_detach_of_a_device_that_is_open(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    """It is taken from who uses it, by all of its paths."""
    volume = bed.create_nvme_volume(portals=2)
    before = bed.snapshot()
    device = attached(worker, volume, multipath=True, min_paths=2)
    with bed.opened(device.path):
        assert worker.detach(volume.name).error.code == 'in_use'
        result = worker.detach(volume.name, force=True)
        assert result.status == 'detached', result.as_dict()
        assert bed.snapshot() == before


@pytest.mark.parametrize('multipath', [False, True])
@pytest.mark.parametrize('which', [0, 1])
def test_a_portal_that_does_not_serve_the_namespace(
    bed: beds.Bed, worker: harness.Harness, which: int, multipath: bool
) -> None:
    """An inaccessible path (ANA) has no block device of its own."""
    volume = bed.create_nvme_volume(portals=2)
    before = bed.snapshot()
    bed.set_access(volume, volume.portals[which], 'inaccessible')
    try:
        # When it is attached, then through the other portal
        device = attached(worker, volume, multipath=multipath)
        assert bed.read(device.path) == volume.pattern
        assert states(worker) == {volume.name: 'ok'}
        detached(worker, volume.name)
        assert bed.snapshot() == before
    finally:
        bed.set_access(volume, volume.portals[which], 'optimized')


def test_no_portal_serves_the_namespace(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    volume = bed.create_nvme_volume()
    before = bed.snapshot()
    bed.set_access(volume, volume.portals[0], 'inaccessible')
    try:
        result = worker.attach(volume)
    finally:
        bed.set_access(volume, volume.portals[0], 'optimized')
    # Then the error says whose doing it is, and nothing is left
    assert result.error.code == 'target_unreachable', result.as_dict()
    assert 'inaccessible' in result.error.message
    assert result.leftovers == []
    assert bed.snapshot() == before
    # And it can be attached once it is served
    device = attached(worker, volume)
    assert bed.read(device.path) == volume.pattern
    detached(worker, volume.name)


def owners(bed: beds.Bed) -> dict[str, str]:
    """Whose controllers are, as the registry of nvme-cli has it."""
    entries = (bed.root / 'run/nvme/registry').glob('nvme*/owner')
    return {path.parent.name: path.read_text().strip() for path in entries}


def test_other_programs_know_which_controllers_are_ours(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given a controller of somebody else
    other = bed.create_nvme_volume()
    theirs = connected_by_others(bed, other)
    # When one is made for a volume, then it is ours in the registry, and
    # only that one
    volume = bed.create_nvme_volume(portals=2)
    attached(worker, volume, multipath=True, min_paths=2)
    attached(worker, other)
    names = {path.name for path in (bed.root / 'sys/class/nvme').glob('nvme*')}
    assert owners(bed) == dict.fromkeys(names - {theirs}, 'attachworker')
    # And until it goes
    for each in (volume, other):
        detached(worker, each.name)
    assert owners(bed) == {}
    end(bed, theirs)


def test_an_excluded_portal_is_not_connected(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given a portal that the operator has excluded with nvme-cli
    volume = bed.create_nvme_volume(portals=2)
    address, _, port = volume.portals[0].rpartition(':')
    lists = bed.root / 'etc/nvme/exclusions.conf.d'
    lists.mkdir(parents=True)
    path = lists / 'maintenance.conf'
    entry = f'transport=tcp;traddr={address};trsvcid={port}'
    path.write_text(f'[exclusions]\nexclusion = {entry}\n')
    before = bed.snapshot()
    try:
        # When the volume is attached, then by the other one
        device = attached(worker, volume, multipath=True)
        assert bed.read(device.path) == volume.pattern
        assert [one.state for one in device.paths] == ['failed', 'connected']
        assert controllers(bed) == 1
        detached(worker, volume.name)
        # And if there is none, the error says why
        path.write_text(f'[exclusions]\nexclusion = nqn={volume.target}\n')
        result = worker.attach(volume)
        assert result.error.code == 'login_failed', result.as_dict()
        assert 'exclusions.conf.d/maintenance.conf' in result.error.message
        assert bed.snapshot() == before
    finally:
        path.unlink()
        lists.rmdir()


def test_a_controller_that_was_in_use_goes_after_a_restart_of_the_worker(
    bed: beds.Bed, tmp_path: pathlib.Path
) -> None:
    first = bed.create_nvme_volume()
    second = bed.create_nvme_volume(on=first)
    before = bed.snapshot()
    with contextlib.ExitStack() as user:
        # Given a worker that has left a controller to who uses it
        with harness.Harness(bed, state_path=tmp_path) as worker:
            device = attached(worker, first)
            attached(worker, second)
            user.enter_context(bed.opened(device.path))
            assert worker.detach(first.name, force=True).status == 'detached'
            detached(worker, second.name)
        # When another one starts, and nobody uses it any more
        with harness.Harness(bed, state_path=tmp_path):
            assert controllers(bed) == 1
            user.close()
            # Then it goes
            until(lambda: bed.snapshot() == before)
