# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The example for Podman has what the unit of the host has."""

import collections
import pathlib

from oslo_config import cfg

from attachworker import conf

ETC = pathlib.Path(__file__).resolve().parents[2] / 'etc'


def settings(path: pathlib.Path) -> dict[str, list[str]]:
    """The words of each setting, which may be there more than once."""
    found: dict[str, list[str]] = collections.defaultdict(list)
    for line in path.read_text().splitlines():
        name, is_setting, value = line.partition('=')
        if is_setting and name[0] not in '#;':
            found[name] += value.split()
    return found


UNIT = settings(ETC / 'systemd/attachworker.service')
CONTAINER = settings(ETC / 'quadlet/attachworker.container')


def test_it_has_the_capabilities_of_the_unit_and_no_others() -> None:
    assert CONTAINER['DropCapability'] == ['all']
    assert sorted(CONTAINER['AddCapability']) == sorted(
        UNIT['CapabilityBoundingSet']
    )
    assert CONTAINER['NoNewPrivileges'] == ['true']


def test_it_starts_like_the_unit() -> None:
    for name in ('Environment', 'Wants', 'After', 'WantedBy'):
        assert CONTAINER[name] == UNIT[name]
    for name in ('TimeoutStartSec', 'TimeoutStopSec', 'Restart'):
        assert CONTAINER[name] == UNIT[name]
    assert CONTAINER['Exec'] == [
        one.removeprefix('!') for one in UNIT['ExecStart']
    ]


def test_it_has_the_limits_of_the_unit() -> None:
    assert CONTAINER['Ulimit'] == [f'core={UNIT["LimitCORE"][0]}:0']
    assert CONTAINER['PidsLimit'] == UNIT['TasksMax']
    memory = UNIT['MemoryMax'][0].lower()
    assert f'--memory={memory}' in CONTAINER['PodmanArgs']


def test_it_shares_what_the_worker_keeps_and_writes() -> None:
    options = cfg.ConfigOpts()
    conf.register(options)
    options([], default_config_files=[], default_config_dirs=[])
    wanted = {path.removeprefix('-') for path in UNIT['ReadWritePaths']}
    wanted |= {options.state_path, options.runtime_path}
    # And what iscsiadm and the host have in common
    wanted |= {'/dev', '/sys', '/var/lib/iscsi', '/run/lock/iscsi'}

    volumes = [one.split(':') for one in CONTAINER['Volume']]

    assert wanted <= {host for host, *_ in volumes}
    for host, inside, *access in volumes:
        assert host == inside
        assert not (access and host in wanted), f'{host} is not writable'


def test_it_has_networks_and_processes_of_the_host() -> None:
    assert CONTAINER['Network'] == ['host']
    assert '--pid=host' in CONTAINER['PodmanArgs']
