# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Each phase of the DevStack plugin, with stand-ins for DevStack."""

import socket
import subprocess

import pytest

from tests.install.scratch import PLUGIN
from tests.install.scratch import PROJECT
from tests.install.scratch import Scratch


@pytest.fixture
def scratch(tmp_path):
    return Scratch(tmp_path, 'stand_ins.sh', {'RABBIT_HOST': 'mq'})


def test_shellcheck_finds_nothing():
    scripts = [
        *PLUGIN.iterdir(),
        *(PROJECT / 'tests/install').glob('*.sh'),
    ]
    ran = subprocess.run(
        # DevStack sets, and reads, what is not set or read here.
        ['shellcheck', '-s', 'bash', '-e', 'SC2034,SC2154', *scripts],
        capture_output=True,
        text=True,
    )

    assert ran.returncode == 0, ran.stdout


def test_the_plugin_enables_its_service(scratch):
    calls = scratch.run('stack', 'pre-install')

    assert 'define_plugin attachworker\n' in calls
    assert 'enable_service attachworker\n' in calls


def test_install_takes_the_source_and_its_packages(scratch):
    calls = scratch.run('stack', 'install')

    assert f'setup_develop -bindep {PROJECT}\n' in calls


def test_post_config_writes_the_configuration_and_directories(scratch):
    scratch.run('stack', 'post-config')

    url = 'rabbit://stackrabbit:sesame@mq/'
    assert set(scratch.configuration.splitlines()) == {
        'DEFAULT debug = True',
        f'DEFAULT user = {scratch.root.owner()}',
        'DEFAULT my_ip = 192.0.2.7',
        'DEFAULT portal_networks = 0.0.0.0/0,::/0,127.0.0.0/8,::1/128',
        f'DEFAULT state_path = {scratch.root}/data/attachworker',
        f'DEFAULT runtime_path = {scratch.root}/run',
        f'DEFAULT transport_url = {url}',
        f'oslo_messaging_notifications transport_url = {url}',
    }
    modes = {name: mode & 0o777 for name, (mode, _) in scratch.tree().items()}
    assert modes['etc/attachworker.conf'] == 0o600
    assert modes['data/attachworker'] == modes['run'] == 0o700


def test_extra_starts_the_worker_as_root_and_test_config_asks_it(scratch):
    started = scratch.run('stack', 'extra')
    asked = scratch.run('stack', 'test-config')

    binaries = f'{scratch.root}/venv/bin'
    option = f'--config-file {scratch.root}/etc/attachworker.conf'
    assert (
        f'run_process attachworker {binaries}/attachworker {option}  root\n'
        in started
    )
    assert f'test_with_retry {binaries}/attachctl {option} ping' in asked


def test_tempest_is_told_of_the_worker_where_it_is_enabled(scratch):
    options = scratch.root / 'tempest.conf'
    options.touch()
    scratch.run('stack', 'post-config')

    scratch.run('stack', 'test-config', TEMPEST_CONFIG=str(options))
    assert options.read_text() == ''

    services = 'rabbit,attachworker,tempest'
    scratch.run(
        *('stack', 'test-config'),
        TEMPEST_CONFIG=str(options),
        ENABLED_SERVICES=services,
    )
    assert set(options.read_text().splitlines()) == {
        'service_available attachworker = True',
        'attachworker transport_url = rabbit://stackrabbit:sesame@mq/',
        f'attachworker host = {socket.gethostname()}',
    }


def test_a_second_run_changes_nothing(scratch):
    calls = scratch.stack()
    before = scratch.tree()

    assert scratch.stack() == calls
    assert scratch.tree() == before


def test_unstack_and_clean_leave_nothing_also_twice(scratch):
    before = scratch.tree()
    scratch.stack()

    for _ in range(2):
        assert 'stop_process attachworker\n' in scratch.run('unstack')
        scratch.run('clean')

        assert scratch.tree() == before


def test_a_disabled_service_is_left_alone(scratch):
    before = scratch.tree()

    for phase in (('stack', 'post-config'), ('unstack',), ('clean',)):
        calls = scratch.run(*phase, ENABLED_SERVICES='rabbit')
        assert 'sudo' not in calls
        assert 'process' not in calls

    assert scratch.tree() == before
