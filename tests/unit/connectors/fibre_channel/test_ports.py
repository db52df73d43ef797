# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What sysfs has of Fibre Channel ports, in all the ways that it has it."""

import pathlib
import types
from typing import Any

import pytest

from attachworker import objects
from attachworker.connectors.fibre_channel import FibreChannelConnector
from attachworker.connectors.fibre_channel import ports
from tests.unit.on_files import on_files

OWN, OTHER = '2100000e1e000001', '2100000e1e000002'
ONE, TWO = '5000001000000001', '5000001000000002'


def write(root: pathlib.Path, place: str, **attributes: object) -> None:
    directory = root / 'sys' / place
    directory.mkdir(parents=True, exist_ok=True)
    for name, value in attributes.items():
        (directory / name).write_text(f'{value}\n')


def add_host(
    root: pathlib.Path, number: int, wwpn: str, state: str = 'Online'
) -> None:
    write(
        root,
        f'class/fc_host/host{number}',
        port_name=f'0x{wwpn}',
        node_name=f'0x20{wwpn[2:]}',
        port_state=state,
    )


def add_remote(
    root: pathlib.Path,
    name: str,
    wwpn: str,
    state: str = 'Online',
    target_id: int = 0,
) -> None:
    write(
        root,
        f'class/fc_remote_ports/{name}',
        port_name=f'0x{wwpn}',
        port_state=state,
        scsi_target_id=target_id,
    )
    device = root / 'sys/devices' / name
    device.mkdir(parents=True)
    (root / 'sys/class/fc_remote_ports' / name / 'device').symlink_to(device)


def connector(root: pathlib.Path) -> FibreChannelConnector:
    host: Any = on_files(root)
    return FibreChannelConnector(host, types.SimpleNamespace())


def discovered(root: pathlib.Path, **data: Any) -> list[tuple[str, str]]:
    info = objects.ConnectionInfo.from_dict(
        {'driver_volume_type': 'fibre_channel', 'data': data}
    )
    deadline: Any = None
    found = connector(root).discover(info, True, deadline)
    return [(target.portal, target.name) for target in found]


def test_a_host_without_ports(tmp_path: pathlib.Path) -> None:
    found = connector(tmp_path)
    reason = found.unavailable()
    assert reason is not None
    assert '/sys/class/fc_host' in reason
    assert found.properties() == {}
    assert found.links([]) == []


def test_only_ports_that_are_online_are_told_to_storage(
    tmp_path: pathlib.Path,
) -> None:
    add_host(tmp_path, 3, OWN)
    add_host(tmp_path, 1, OTHER, 'Linkdown')
    found = connector(tmp_path)
    assert found.unavailable() is None
    assert found.properties() == {
        'wwpns': [OWN],
        'wwnns': ['2000000e1e000001'],
    }


def test_a_port_that_has_no_name_yet_is_none(tmp_path: pathlib.Path) -> None:
    add_host(tmp_path, 1, '0' * 16)
    add_host(tmp_path, 2, 'f' * 15 + '\n')
    assert connector(tmp_path).unavailable() is not None


def test_each_target_port_through_each_port_that_sees_it(
    tmp_path: pathlib.Path,
) -> None:
    add_host(tmp_path, 1, OWN)
    add_host(tmp_path, 2, OTHER)
    add_remote(tmp_path, 'rport-1:0-0', ONE)
    add_remote(tmp_path, 'rport-2:0-0', ONE, 'Blocked')
    # what was given up does not count while others see it
    add_remote(tmp_path, 'rport-1:0-1', TWO, 'Not Present')
    add_remote(tmp_path, 'rport-2:0-1', TWO)
    assert discovered(tmp_path, target_wwn=[ONE, TWO]) == [
        (OWN, ONE),
        (OTHER, ONE),
        (OTHER, TWO),
    ]
    # and a map leaves what may be
    assert discovered(
        tmp_path,
        target_wwn=[ONE, TWO],
        initiator_target_map={OWN: [ONE], OTHER: [TWO]},
    ) == [(OWN, ONE), (OTHER, TWO)]


def test_a_target_port_that_none_sees_is_waited_for_everywhere(
    tmp_path: pathlib.Path,
) -> None:
    add_host(tmp_path, 1, OWN)
    add_host(tmp_path, 2, OTHER)
    assert discovered(tmp_path, target_wwn=ONE) == [(OWN, ONE), (OTHER, ONE)]
    assert discovered(
        tmp_path, target_wwn=ONE, initiator_target_map={OTHER: ONE}
    ) == [(OTHER, ONE)]


def test_a_port_without_light_is_the_last_resort(
    tmp_path: pathlib.Path,
) -> None:
    add_host(tmp_path, 1, OWN, 'Linkdown')
    assert discovered(tmp_path, target_wwn=ONE) == [(OWN, ONE)]
    add_host(tmp_path, 2, OTHER)
    assert discovered(tmp_path, target_wwn=ONE) == [(OTHER, ONE)]


def test_a_map_that_names_no_port_of_this_host_leaves_no_way(
    tmp_path: pathlib.Path,
) -> None:
    add_host(tmp_path, 1, OWN)
    zones = {OTHER: [ONE]}
    assert discovered(
        tmp_path, target_wwn=ONE, initiator_target_map=zones
    ) == [(objects.ANY_PORT, ONE)]


def test_there_are_no_more_ways_than_a_request_may_have(
    tmp_path: pathlib.Path,
) -> None:
    for number in range(1, 10):
        add_host(tmp_path, number, f'{number:016x}')
    names = [f'50000010000000{number:02x}' for number in range(1, 9)]
    found = discovered(tmp_path, target_wwn=names)
    assert len(found) == 64


def test_the_kernel_may_remember_a_port_under_two_numbers(
    tmp_path: pathlib.Path,
) -> None:
    add_host(tmp_path, 1, OWN)
    add_remote(tmp_path, 'rport-1:0-0', ONE, 'Not Present')
    add_remote(tmp_path, 'rport-1:0-7', ONE, target_id=7)
    add_remote(tmp_path, 'rport-1:0-8', TWO, target_id=-1)
    host: Any = on_files(tmp_path)
    view = ports.Ports(host)
    assert [one.name for one in view.seen(OWN, ONE)] == [
        'rport-1:0-7',
        'rport-1:0-0',
    ]
    assert not view.seen(OWN, TWO)[0].usable
    assert view.seen(OTHER, ONE) == []


@pytest.mark.parametrize(
    ('driver', 'kind', 'allowed', 'refused'),
    [
        ('qla2xxx', 'NPort (fabric via point-to-point)', None, False),
        ('zfcp', 'NPIV VPORT', 'Y', False),
        ('zfcp', 'NPIV VPORT', 'N', True),
        ('zfcp', 'NPIV VPORT', None, True),
        ('zfcp', 'NPort (fabric via point-to-point)', 'Y', True),
    ],
)
def test_zfcp_takes_a_scan_through_ports_of_npiv_only(
    tmp_path: pathlib.Path,
    driver: str,
    kind: str,
    allowed: str | None,
    refused: bool,
) -> None:
    write(tmp_path, 'class/scsi_host/host1', proc_name=driver)
    write(tmp_path, 'class/fc_host/host1', port_type=kind)
    if allowed is not None:
        write(tmp_path, 'module/zfcp/parameters', allow_lun_scan=allowed)
    host: Any = on_files(tmp_path)
    assert ports.Ports(host).takes_no_scan(1) is refused


@pytest.mark.parametrize('name', ['port_name', 'port_state', 'scsi_target_id'])
def test_what_cannot_be_read_is_not_absent(
    tmp_path: pathlib.Path, name: str
) -> None:
    add_host(tmp_path, 1, OWN)
    add_remote(tmp_path, 'rport-1:0-0', ONE)
    attribute = tmp_path / 'sys/class/fc_remote_ports/rport-1:0-0' / name
    attribute.unlink()
    attribute.symlink_to(attribute)  # ELOOP
    with pytest.raises(OSError, match=name):
        connector(tmp_path).links([])
