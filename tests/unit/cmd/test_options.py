# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Options that make no sense are told before anything depends on them."""

import pathlib

import pytest

from attachworker import conf as configuration
from attachworker.cmd import options
from attachworker.cmd import status

_SAMPLE = (
    pathlib.Path(__file__).resolve().parents[3]
    / 'etc/attachworker/attachworker.conf.sample'
)


def faults(tmp_path: pathlib.Path, *lines: str) -> list[options.Fault]:
    file = tmp_path / 'worker.conf'
    file.write_text('\n'.join(lines) + '\n')
    return options.faults(configuration.parse([str(file)]))


def test_a_configuration_that_is_right(tmp_path: pathlib.Path) -> None:
    # Options of the worker, a connector, its helper and each library
    assert (
        faults(
            tmp_path,
            '[DEFAULT]',
            'host = compute-1',
            'log-dir = /var/log/attachworker',
            'transport_url = rabbit://u:p@broker/',
            'executor_thread_pool_size = 8',
            '[attachworker_privileged]',
            'helper_command = sudo helper',
            '[nvmeof]',
            'connect_timeout = 3',
            '[oslo_messaging_rabbit]',
            'rabbit_quorum_queue = true',
            '[oslo_messaging_metrics]',
            'metrics_enabled = false',
            '[oslo_reports]',
            'log_dir = /var/log/attachworker',
        )
        == []
    )


def test_the_sample_with_all_in_force(tmp_path: pathlib.Path) -> None:
    lines = []
    for line in _SAMPLE.read_text().splitlines():
        text = line.removeprefix('#')
        name, separator, value = text.partition(' = ')
        if separator and name.isidentifier() and '<' not in value[:2]:
            lines.append(text)
        elif line.startswith('['):
            lines.append(line)
    assert len(lines) > 40
    assert faults(tmp_path, *lines) == []


@pytest.mark.parametrize(
    ('group', 'line'),
    [
        ('DEFAULT', 'max_running = many'),
        ('DEFAULT', 'max_running = 0'),
        ('DEFAULT', 'state_path = var/lib/attachworker'),
        ('DEFAULT', 'runtime_path = run'),
        ('DEFAULT', 'portal_networks = 192.0.2.1/24'),
        ('DEFAULT', 'host = a b'),
        ('DEFAULT', 'debug = perhaps'),
        ('secrets', 'key_file = keys'),
        ('secrets', 'required = perhaps'),
        ('metrics', 'port = 99999'),
        ('tracing', 'otlp_endpoint = ftp://collector'),
        ('multipath', 'path_grace = -1'),
        ('rpc', 'reply_timeout = soon'),
        ('iscsi', 'login_timeout = never'),
        ('iscsi', 'chap_algorithms = ROT13'),
        ('iscsi', 'os_brick_lock_paths = locks'),
        ('nvmeof', 'tls = 2'),
        ('rbd', 'ms_mode = fast'),
        ('local', 'local_roots = srv'),
        ('attachworker_privileged', 'thread_pool_size = x'),
        ('oslo_messaging_rabbit', 'heartbeat_rate = x'),
        ('oslo_messaging_metrics', 'metrics_enabled = x'),
    ],
)
def test_a_value_that_makes_no_sense_lets_no_worker_start(
    tmp_path: pathlib.Path, group: str, line: str
) -> None:
    (found,) = faults(tmp_path, f'[{group}]', line)
    name, _, _ = line.partition(' = ')
    assert found.fatal
    assert found.what == f'option {name}' + (
        '' if group == 'DEFAULT' else f' of group [{group}]'
    )
    assert str(tmp_path / 'worker.conf') in found.reason
    assert 'LocationInfo' not in found.reason


def test_all_are_told_and_not_only_the_first(tmp_path: pathlib.Path) -> None:
    found = faults(
        tmp_path,
        '[iscsi]',
        'login_timeout = never',
        'scan_attempts = 0',
        'logout_timeout = 1',
        '[nvme]',
    )
    assert [(one.what, one.fatal) for one in found] == [
        ('option login_timeout of group [iscsi]', True),
        ('option scan_attempts of group [iscsi]', True),
        ('option logout_timeout of group [iscsi]', False),
        ('group [nvme]', False),
    ]


@pytest.mark.parametrize(
    ('lines', 'what', 'right'),
    [
        (('[DEFAULT]', 'max_runing = 3'), 'max_runing', 'max_running?'),
        (('[isci]', 'login_timeout = 3'), 'group [isci]', '[iscsi]?'),
        (
            ('[DEFAULT]', 'login_timeout = 3'),
            'login_timeout',
            'belongs to group [iscsi]',
        ),
        (
            ('[oslo_messaging_rabit]', 'heartbeat_rate = 3'),
            '[oslo_messaging_rabit]',
            '[oslo_messaging_rabbit]?',
        ),
    ],
)
def test_what_nobody_knows_is_named_with_what_may_be_meant(
    tmp_path: pathlib.Path, lines: tuple[str, ...], what: str, right: str
) -> None:
    (found,) = faults(tmp_path, *lines)
    assert not found.fatal
    assert what in found.what
    assert right in found.reason


def test_no_secret_is_quoted(tmp_path: pathlib.Path) -> None:
    found = faults(
        tmp_path,
        '[DEFAULT]',
        'transport_ur = rabbit://u:CANARY@b/',
        '[oslo_messaging_rabbit]',
        'rabbit_quorum_queue = CANARY',
        '[oslo_messaging_notifications]',
        'transport_url = rabbit://u:CANARY@b/',
    )
    assert 'CANARY' in str(found[0])  # of a value that is no secret
    assert all('CANARY' not in str(one) for one in found[1:])


@pytest.mark.parametrize(
    ('line', 'code', 'said'),
    [
        ('state_path = state', 2, 'not an absolute path'),
        ('max_runing = 3', 1, 'max_running?'),
    ],
)
def test_both_commands_that_check_tell_of_them(
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    line: str,
    code: int,
    said: str,
) -> None:
    file = tmp_path / 'worker.conf'
    file.write_text(
        f'[DEFAULT]\n{line}\ntransport_url = kombu+memory://\n'
        + ('' if 'state_path' in line else f'state_path = {tmp_path}/new\n')
    )
    where = ['--config-file', str(file)]
    assert status.main(['upgrade', 'check', *where]) == code
    assert said in ' '.join(capsys.readouterr().out.split())
    status.main(['check', *where, '--format', 'json'])
    assert said in capsys.readouterr().out
