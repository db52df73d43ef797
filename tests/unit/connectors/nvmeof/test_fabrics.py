# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""NVMe controllers and namespaces, in sysfs trees and on a simulated host."""

import pathlib
import types
from typing import Any

import pytest

from attachworker import deadline as deadlines
from attachworker import host as hosts
from attachworker.connectors.nvmeof import fabrics
from attachworker.connectors.nvmeof.fabrics import Fabrics
from tests.contract import bed as contract
from tests.simulator import bed as beds
from tests.simulator import faults
from tests.unit.on_files import on_files

NQN = 'nqn.2014-08.org.example:one'
UUID = '0123456789abcdef0123456789abcdef'
NGUID = 'fedcba9876543210fedcba9876543210'
EUI = '0011223344556677'


def made(root: pathlib.Path, **answers: Any) -> Fabrics:
    """On a tree of files, with verbs that give these answers."""
    privileged = types.SimpleNamespace(
        **{
            name: lambda *_, found=found: found
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
    )
    # without a port, as Fibre Channel has them
    controller(tmp_path, 'nvme3', address='traddr=nn-0x1:pn-0x2')
    found = {one.number: one for one in made(tmp_path).controllers()}
    assert found == {
        2: fabrics.Controller('nvme2', NQN, '192.0.2.1:4420', 'live'),
        10: fabrics.Controller(
            'nvme10', NQN, '[2001:db8::1]:4420', 'connecting'
        ),
    }
    host = made(tmp_path)
    assert host.at(NQN, '192.0.2.1:4420') == [found[2]]
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
    assert made(tmp_path).namespaces('nvme12') == [
        fabrics.Namespace(
            'nvme7n1', 5, (f'uuid.{UUID}', f'nguid.{NGUID}', f'eui.{EUI}')
        ),
        fabrics.Namespace('nvme7n3', 6, ()),
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
        return host.identifiers('nvme0', 1, deadline)

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
    assert host.size('nvme0', 1, deadline) == 1000 << shift


def test_the_names_of_a_host(tmp_path: pathlib.Path) -> None:
    host = made(tmp_path)
    assert host.host_nqn() is host.host_id() is None
    assert not host.available()
    assert not host.native_multipath()
    write(tmp_path / 'etc/nvme', hostnqn=NQN, hostid=UUID)
    write(tmp_path / 'sys/module/nvme_core/parameters', multipath='Y')
    assert (host.host_nqn(), host.host_id()) == (NQN, UUID)
    assert host.native_multipath()


# -- on a simulated host


def connect(host: hosts.Host, volume: contract.Volume) -> fabrics.Controller:
    deadline = deadlines.Deadline.after(10.0)
    address, _, port = volume.portals[0].rpartition(':')
    Fabrics(host).create_host_identity()
    options = {
        'nqn': volume.target,
        'transport': 'tcp',
        'traddr': address,
        'trsvcid': port,
        'hostnqn': Fabrics(host).host_nqn() or '',
        'hostid': Fabrics(host).host_id() or '',
    }
    Fabrics(host).connect(options, 'it', deadline)
    found = Fabrics(host).wait_until_live(
        volume.target, volume.portals[0], deadline
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
    fresh = Fabrics(host).identifiers(known.name, found.nsid, deadline)
    assert set(fresh) == set(found.identifiers)
    assert Fabrics(host).size(known.name, found.nsid, deadline) == volume.size
    # A second one to the same portal is refused
    with pytest.raises(OSError, match='already'):
        connect(host, volume)
    assert Fabrics(host).delete(known.name, 'it', deadline)
    assert Fabrics(host).controllers() == []
    # and what is gone need not be ended
    assert Fabrics(host).delete(known.name, 'it', deadline)


def test_a_removal_that_fails_after_all(
    bed: beds.SimulatedBed,
    host: hosts.Host,
    plan: faults.FaultPlan,
    deadline: deadlines.Deadline,
) -> None:
    """It is gone: nobody needs to know."""
    known = connect(host, bed.create_nvme_volume())
    plan.arm(faults.Fault.FAIL_AFTER, 'nvme.delete')
    assert Fabrics(host).delete(known.name, 'it', deadline)
