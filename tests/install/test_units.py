# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The files for systemd say what systemd understands, and shut much off."""

import os
import pathlib
import subprocess
import sys

from oslo_config import cfg

from attachworker import conf
from attachworker.privileged import multipath
from attachworker.privileged import nvme

UNITS = pathlib.Path(__file__).resolve().parents[2] / 'etc/systemd'
#: Of systemd's figure for exposure, times ten; root without limits has 96.
EXPOSURE = 39


def installed(directory: pathlib.Path) -> pathlib.Path:
    """Copy the unit to a place where the program that it starts exists."""
    program = directory / 'attachworker'
    program.write_text('#!/bin/sh\n')
    program.chmod(0o755)
    unit = directory / 'attachworker.service'
    text = (UNITS / 'attachworker.service').read_text()
    unit.write_text(text.replace('/usr/bin/attachworker', str(program)))
    return unit


def lists() -> dict[str, list[str]]:
    """The values of each setting, which may be there more than once."""
    found: dict[str, list[str]] = {}
    for line in (UNITS / 'attachworker.service').read_text().splitlines():
        name, is_setting, value = line.partition('=')
        if is_setting and name[0] != '#':
            found.setdefault(name, []).append(value)
    return found


def settings() -> dict[str, str]:
    lines = (UNITS / 'attachworker.service').read_text().splitlines()
    pairs = (line.split('=', 1) for line in lines if '=' in line)
    return {name: value for name, value in pairs if name[0] != '#'}


def verified(unit: pathlib.Path) -> str:
    ran = subprocess.run(
        ['systemd-analyze', 'verify', '--man=no', str(unit)],
        capture_output=True,
        text=True,
    )
    said = [line for line in ran.stderr.splitlines() if str(unit) in line]
    assert ran.returncode == 0 or said, ran.stderr
    return '\n'.join(said)


def test_systemd_understands_the_unit(tmp_path):
    assert verified(installed(tmp_path)) == ''


def test_a_misspelt_setting_would_be_found(tmp_path):
    unit = installed(tmp_path)
    unit.write_text(unit.read_text().replace('WatchdogSec', 'WatchdogSecs'))

    assert 'WatchdogSecs' in verified(unit)


def test_the_unit_is_hardened(tmp_path):
    ran = subprocess.run(
        [
            'systemd-analyze',
            'security',
            '--offline=yes',
            f'--threshold={EXPOSURE}',
            str(installed(tmp_path)),
        ],
        capture_output=True,
        text=True,
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_unit_sets_limits():
    unit = settings()

    # No core has a password in it
    assert unit['LimitCORE'] == '0'
    assert unit['UMask'] == '0077'
    options = cfg.ConfigOpts()
    conf.register(options)
    options([], default_config_files=[], default_config_dirs=[])
    gibibytes = int(unit['MemoryMax'].removesuffix('G'))
    assert gibibytes << 10 > options.encryption_memory
    assert int(unit['TasksMax']) > options.max_running + options.max_queued


def test_no_system_call_is_allowed_that_has_no_use():
    allowed, *denied = lists()['SystemCallFilter']

    assert allowed.split() == ['@system-service', '@mount']
    assert all(one.startswith('~') for one in denied)
    names = ' '.join(denied).replace('~', '').split()
    assert {'@module', '@reboot', '@swap', '@debug', '@clock'} <= {*names}
    # What is refused is an error, and ends no tool in the middle of its work
    assert settings()['SystemCallErrorNumber'] == 'EPERM'


def test_the_unit_agrees_with_the_defaults_of_the_options():
    unit = settings()

    options = cfg.ConfigOpts()
    conf.register(options)
    options([], default_config_files=[], default_config_dirs=[])
    assert options.state_path == f'/var/lib/{unit["StateDirectory"]}'
    assert options.runtime_path == f'/run/{unit["RuntimeDirectory"]}'
    assert options.stop_timeout < int(unit['TimeoutStopSec'])


def test_the_user_and_the_directories_are_made(tmp_path):
    # Given a system that knows root only
    (tmp_path / 'etc').mkdir()
    (tmp_path / 'etc/passwd').write_text('root:x:0:0::/root:/bin/sh\n')
    (tmp_path / 'etc/group').write_text('root:x:0:\n')

    # When it is booted for the first time
    for tool, name in (('sysusers', 'sysusers'), ('tmpfiles', 'tmpfiles')):
        create = ['--create'] if tool == 'tmpfiles' else []
        subprocess.run(
            [
                f'systemd-{tool}',
                *create,
                f'--root={tmp_path}',
                str(UNITS / f'attachworker.{name}.conf'),
            ],
            check=True,
        )

    # Then the user that the unit names owns what the worker writes to
    users = (tmp_path / 'etc/passwd').read_text().splitlines()
    [entry] = [user for user in users if user.startswith('attachworker:')]
    for directory in ('run/attachworker', 'var/lib/attachworker'):
        state = (tmp_path / directory).stat()
        assert state.st_uid == int(entry.split(':')[2])
        assert state.st_mode & 0o777 == 0o700
    assert settings()['User'] == 'attachworker'


def test_the_worker_can_write_where_its_helper_writes():
    unit = settings()

    writable = unit['ReadWritePaths'].replace('-', '').split()
    made = unit['ExecStartPre'].split()
    assert unit['ProtectSystem'] == 'full'
    for path in (multipath.WWIDS, nvme.HOST_ID, nvme.HOST_NQN):
        assert str(path.parent) in writable
        # A directory that is not there when the unit starts stays read-only.
        assert str(path.parent) in made


def test_iscsid_can_be_reached_when_the_worker_starts():
    """Nobody else has a reason to start it, and the worker does not."""
    lines = (UNITS / 'attachworker.service').read_text().splitlines()
    for setting in ('Wants=', 'After='):
        words = [
            word
            for line in lines
            if line.startswith(setting)
            for word in line.removeprefix(setting).split()
        ]
        assert 'iscsid.socket' in words


def test_the_worker_becomes_the_user_of_the_unit():
    unit = settings()
    name, _, user = unit['Environment'].partition('=')

    ran = subprocess.run(
        [
            sys.executable,
            '-c',
            'from oslo_config import cfg; from attachworker import conf;'
            'conf.register(cfg.CONF);'
            "cfg.CONF([], project='attachworker', default_config_files=[]);"
            'print(cfg.CONF.user)',
        ],
        env={**os.environ, name: user},
        check=True,
        capture_output=True,
        text=True,
    )

    assert ran.stdout.strip() == user == unit['User']
