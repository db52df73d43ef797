# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""NVMe controllers and namespaces, in sysfs trees and on a simulated host."""

import dataclasses
import errno
import pathlib
import types
from typing import Any
import uuid

import pytest

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker import host as hosts
from attachworker.connectors.nvmeof import fabrics
from attachworker.connectors.nvmeof import host_identity
from attachworker.connectors.nvmeof.fabrics import Fabrics
from tests.contract import bed as contract
from tests.simulator import bed as beds
from tests.simulator import faults
from tests.unit.on_files import on_files

NQN = 'nqn.2014-08.org.example:one'
UUID = '0123456789abcdef0123456789abcdef'
NGUID = 'fedcba9876543210fedcba9876543210'
EUI = '0011223344556677'
WWID = 'nvme.1b36-64656164-4c696e7578-00000007'
HOST_ID = '0a1b2c3d-0000-4000-8000-000000000001'
HOST = f'nqn.2014-08.org.nvmexpress:uuid:{HOST_ID}'
CONTROLLER = fabrics.Controller('nvme0', NQN, '192.0.2.1:4420', 'live', 7)


def _answer(found: Any) -> Any:
    if isinstance(found, OSError):
        raise found
    return found


def made(root: pathlib.Path, **answers: Any) -> Fabrics:
    """On a tree of files, with verbs that give these answers."""
    privileged = types.SimpleNamespace(
        **{
            name: lambda *_, found=found: _answer(found)
            for name, found in answers.items()
        }
    )
    return Fabrics(on_files(root, nvme=privileged))


def write(directory: pathlib.Path, **values: object) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, value in values.items():
        (directory / name).write_text(f'{value}\n')


def controller(root: pathlib.Path, name: str, **values: str) -> pathlib.Path:
    directory = root / 'sys/class/nvme' / name
    known = {
        'address': 'traddr=192.0.2.1,trsvcid=4420,src_addr=192.0.2.9',
        'subsysnqn': NQN,
        'state': 'live',
    }
    write(directory, **known | values)
    return directory


def test_controllers_of_fabrics_only(tmp_path: pathlib.Path) -> None:
    assert made(tmp_path).controllers() == []
    controller(tmp_path, 'nvme0', address='0000:00:1f.0')
    controller(tmp_path, 'nvme2')
    controller(
        tmp_path,
        'nvme10',
        address='traddr=2001:db8::1,trsvcid=4420',
        state='connecting',
        hostnqn=HOST,
        hostid=HOST_ID.upper(),
    )
    # without a port, as Fibre Channel has them
    controller(tmp_path, 'nvme3', address='traddr=nn-0x1:pn-0x2')
    two, ten = (
        (tmp_path / 'sys/class/nvme' / name).stat().st_ino
        for name in ('nvme2', 'nvme10')
    )
    found = {one.name: one for one in made(tmp_path).controllers()}
    assert found == {
        'nvme2': fabrics.Controller(
            'nvme2', NQN, '192.0.2.1:4420', 'live', two
        ),
        'nvme10': fabrics.Controller(
            'nvme10',
            NQN,
            '[2001:db8::1]:4420',
            'connecting',
            ten,
            host_identity.HostIdentity(HOST, HOST_ID),
        ),
    }
    host = made(tmp_path)
    assert host.at(NQN, '192.0.2.1:4420') == [found['nvme2']]
    assert host.at(NQN, '192.0.2.2:4420') == []
    assert host.at(f'{NQN}0', '192.0.2.1:4420') == []


@pytest.mark.parametrize('name', ['nvme7n1', 'nvme7c12n1'])
def test_namespaces_with_and_without_multipath(
    tmp_path: pathlib.Path, name: str
) -> None:
    directory = controller(tmp_path, 'nvme12')
    write(
        directory / name,
        nsid=5,
        uuid='01234567-89AB-cdef-0123-456789abcdef',
        nguid=NGUID,
        eui='00 11 22 33 44 55 66 77',
    )
    # what is no namespace, or has no identifier of its own
    write(directory / 'ng7n1', nsid=5)
    write(directory / 'nvme7n2', uuid=UUID)
    write(directory / 'nvme7n3', nsid=6, nguid='0' * 32)
    write(directory / 'nvme7n4', nsid=7, eui='0' * 16, wwid=WWID)
    assert made(tmp_path).namespaces('nvme12') == [
        fabrics.Namespace(
            'nvme7n1', 5, (f'uuid.{UUID}', f'nguid.{NGUID}', f'eui.{EUI}')
        ),
        fabrics.Namespace('nvme7n3', 6, ()),
        fabrics.Namespace('nvme7n4', 7, (WWID,)),
    ]
    assert made(tmp_path).namespaces('nvme13') == []


def test_what_a_namespace_says_it_is(
    tmp_path: pathlib.Path, deadline: deadlines.Deadline
) -> None:
    def page(*descriptors: tuple[int, str]) -> bytes:
        text = b''.join(
            bytes((kind, len(value) // 2, 0, 0)) + bytes.fromhex(value)
            for kind, value in descriptors
        )
        return text.ljust(4096, b'\0')

    def identifiers(answer: bytes) -> tuple[str, ...]:
        host = made(tmp_path, identify=answer)
        return host.identifiers(CONTROLLER, 1, deadline)

    assert identifiers(page()) == ()
    # the best first, whatever their order; what is not set does not count
    found = identifiers(page((2, NGUID), (9, '00'), (3, UUID), (1, '00' * 8)))
    assert found == (f'uuid.{UUID}', f'nguid.{NGUID}')
    assert identifiers(page((1, EUI))) == (f'eui.{EUI}',)


@pytest.mark.parametrize(('form', 'shift'), [(0, 9), (1, 12), (15, 16)])
def test_size_in_the_format_in_use(
    tmp_path: pathlib.Path,
    deadline: deadlines.Deadline,
    form: int,
    shift: int,
) -> None:
    page = bytearray(4096)
    page[0:8] = (1000).to_bytes(8, 'little')
    page[26] = form
    page[128 + 4 * form + 2] = shift
    host = made(tmp_path, identify=bytes(page))
    assert host.size(CONTROLLER, 1, deadline) == 1000 << shift


def test_the_kernel_puts_paths_together(tmp_path: pathlib.Path) -> None:
    host = made(tmp_path)
    assert not host.available()
    assert not host.native_multipath()
    write(tmp_path / 'sys/module/nvme_core/parameters', multipath='Y')
    assert host.native_multipath()


# -- the names of a host


def names(found: host_identity.HostIdentity) -> tuple[str, str]:
    return found.nqn, found.id


@pytest.mark.parametrize('blank', ['', ' ', None])
@pytest.mark.parametrize('known', ['hostnqn', 'hostid'])
def test_one_half_of_the_names_follows_from_the_other(
    tmp_path: pathlib.Path,
    deadline: deadlines.Deadline,
    known: str,
    blank: str | None,
) -> None:
    texts = {'hostnqn': HOST, 'hostid': HOST_ID}
    lacking = ({*texts} - {known}).pop()
    write(tmp_path / 'etc/nvme', **{known: texts[known]})
    if blank is not None:
        write(tmp_path / 'etc/nvme', **{lacking: blank})
    # Where it cannot be written, too
    for error in (None, OSError(errno.EROFS, 'Read-only file system')):
        host = made(tmp_path, create_host_identity=error)
        assert names(host.own_identity(deadline)) == (HOST, HOST_ID)


def test_names_that_do_not_belong_together_stay(
    tmp_path: pathlib.Path, deadline: deadlines.Deadline
) -> None:
    """nvme-cli connects by them, too, and the kernel wants one pair."""
    other = str(uuid.uuid4())
    write(tmp_path / 'etc/nvme', hostnqn=HOST, hostid=other.upper())
    assert names(made(tmp_path).own_identity(deadline)) == (HOST, other)


def test_a_host_identifier_that_is_none(
    tmp_path: pathlib.Path, deadline: deadlines.Deadline
) -> None:
    write(tmp_path / 'etc/nvme', hostnqn=HOST, hostid='mine')
    with pytest.raises(exception.HostToolFailed, match='no uuid; write one'):
        made(tmp_path).own_identity(deadline)


@pytest.mark.parametrize(
    'uuids',
    [
        {'product_uuid': HOST_ID.upper()},
        {'machine_id': '3d1219c7c4c5404aaa1f6d2a48adfda4'},
        {
            'product_uuid': '03000200-0400-0500-0006-000700080009',
            'machine_id': '3d1219c7c4c5404aaa1f6d2a48adfda4',
        },
    ],
)
def test_the_names_are_the_same_at_each_start_where_nothing_can_be_written(
    tmp_path: pathlib.Path,
    deadline: deadlines.Deadline,
    uuids: dict[str, str],
) -> None:
    if 'product_uuid' in uuids:
        place = tmp_path / 'sys/class/dmi/id'
        write(place, product_uuid=uuids['product_uuid'])
    if 'machine_id' in uuids:
        write(tmp_path / 'etc', **{'machine-id': uuids['machine_id']})
    error = OSError(errno.EROFS, 'Read-only file system')
    found = {
        names(
            made(tmp_path, create_host_identity=error).own_identity(deadline)
        )
        for _ in range(2)
    }
    ((nqn, host_id),) = found
    assert nqn == f'nqn.2014-08.org.nvmexpress:uuid:{host_id}'
    assert (host_id == HOST_ID) == (
        uuids.get('product_uuid') == HOST_ID.upper()
    )
    # Nobody learns the machine id from it
    assert uuids.get('machine_id', 'none') != host_id.replace('-', '')


def test_no_names_are_made_up_that_would_be_others_next_time(
    tmp_path: pathlib.Path, deadline: deadlines.Deadline
) -> None:
    error = OSError(errno.EROFS, 'Read-only file system')
    with pytest.raises(OSError, match='Read-only'):
        made(tmp_path, create_host_identity=error).own_identity(deadline)
    # A name is enough to make an identifier of
    write(tmp_path / 'etc/nvme', hostnqn='nqn.2014-08.org.example:mine')
    once, again = (
        made(tmp_path, create_host_identity=error).own_identity(deadline)
        for _ in range(2)
    )
    assert once == again
    assert once.nqn == 'nqn.2014-08.org.example:mine'


def test_the_pair_that_the_kernel_takes() -> None:
    own = host_identity.HostIdentity(HOST, HOST_ID)
    other = str(uuid.uuid4())
    others = f'{host_identity.PREFIX}{other}'
    connect_by = host_identity.to_connect_by
    assert connect_by(HOST, own, []) == own
    # of this host's name there is one already
    odd = host_identity.HostIdentity(HOST, other)
    assert connect_by(HOST, own, [odd]) == odd
    # what the storage calls the host has an identifier of its own
    named = host_identity.HostIdentity(others, other)
    assert connect_by(others, own, []) == named
    assert connect_by(others, own, [own]) == named
    plain = connect_by('nqn.2014-08.org.example:x', own, [own, named])
    assert plain.id not in (HOST_ID, other)
    assert connect_by(plain.nqn, own, []) == plain
    # another name has the identifier that was to be this one's
    thief = host_identity.HostIdentity(others, HOST_ID)
    found = connect_by(HOST, own, [thief])
    assert found.nqn == HOST
    assert found.id != HOST_ID


# -- on a simulated host


def connect(host: hosts.Host, volume: contract.Volume) -> fabrics.Controller:
    deadline = deadlines.Deadline.after(10.0)
    address, _, port = volume.portals[0].rpartition(':')
    own = Fabrics(host).own_identity(deadline)
    options = {
        'nqn': volume.target,
        'transport': 'tcp',
        'traddr': address,
        'trsvcid': port,
        'hostnqn': own.nqn,
        'hostid': own.id,
    }
    host.call('nvme.connect', deadline, options, about='it')
    found = Fabrics(host).wait_until_live(
        lambda: Fabrics(host).at(volume.target, volume.portals[0]), deadline
    )
    assert found is not None
    return found


def test_a_controller_comes_and_goes(
    bed: beds.SimulatedBed, host: hosts.Host, deadline: deadlines.Deadline
) -> None:
    volume = bed.create_nvme_volume()
    known = connect(host, volume)
    found = Fabrics(host).wait_for_namespace(
        known.name, lambda one: one.nsid == volume.lun, deadline
    )
    assert found is not None
    assert bed.read(f'/dev/{found.disk}') == volume.pattern
    # It is what the kernel has read when it was found
    fresh = Fabrics(host).identifiers(known, found.nsid, deadline)
    assert set(fresh) == set(found.identifiers)
    assert Fabrics(host).size(known, found.nsid, deadline) == volume.size
    # A second one to the same portal is refused
    with pytest.raises(OSError, match='already'):
        connect(host, volume)
    assert Fabrics(host).delete(known, 'it', deadline)
    assert Fabrics(host).controllers() == []
    # and what is gone need not be ended
    assert Fabrics(host).delete(known, 'it', deadline)
    # Of the same name there may be another one by then, which stays
    later = dataclasses.replace(known, number=known.number + 1)
    now = connect(host, volume)
    assert now.name == later.name
    assert Fabrics(host).delete(later, 'it', deadline)
    assert Fabrics(host).controllers() == [now]


def test_a_removal_that_fails_after_all(
    bed: beds.SimulatedBed,
    host: hosts.Host,
    plan: faults.FaultPlan,
    deadline: deadlines.Deadline,
) -> None:
    """It is gone: nobody needs to know."""
    known = connect(host, bed.create_nvme_volume())
    plan.arm(faults.Fault.FAIL_AFTER, 'nvme.delete')
    assert Fabrics(host).delete(known, 'it', deadline)
