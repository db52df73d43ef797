# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Each phase of the plugin with DevStack's own functions: tox -e devstack."""

import os
import pathlib

import pytest

from tests.install.scratch import PROJECT
from tests.install.scratch import Scratch


@pytest.fixture
def scratch(tmp_path):
    checkout = os.environ.get('DEVSTACK_DIR', '')
    if not (pathlib.Path(checkout) / 'functions-common').is_file():
        pytest.fail(
            'DEVSTACK_DIR must name a checkout of DevStack (git clone '
            'https://opendev.org/openstack/devstack)'
        )
    return Scratch(
        tmp_path,
        'real.sh',
        {
            'DEVSTACK_DIR': checkout,
            'DEVSTACK_PLUGINS': 'attachworker',
        },
    )


def test_stack_twice_then_unstack_and_clean(scratch):
    # Given a host that has nothing of the plugin
    before = scratch.tree()

    # When stack.sh runs its phases
    calls = scratch.stack()

    # Then the package is installed, with what bindep.txt lists
    assert f'install_bindep {PROJECT}/bindep.txt' in calls
    assert f'pip_install -e {PROJECT}\n' in calls
    # and the configuration is DevStack's
    url = 'rabbit://stackrabbit:sesame@192.0.2.1:5672/'
    assert scratch.configuration.count(f'transport_url = {url}\n') == 2
    assert 'my_ip = 192.0.2.7\n' in scratch.configuration
    # and DevStack made a unit of the worker, and started it
    unit = scratch.root / 'systemd/devstack@attachworker.service'
    command = f'{scratch.root}/venv/bin/attachworker --config-file'
    assert f'ExecStart = {command} ' in unit.read_text()
    assert 'User = root\n' in unit.read_text()
    assert 'systemctl start devstack@attachworker.service\n' in calls
    assert 'attachctl' in calls

    # When it runs once more
    after = scratch.tree()
    scratch.stack()

    # Then nothing changes
    assert scratch.tree() == after

    # When the stack is taken down, and once more
    stopped = scratch.run('unstack')
    scratch.run('clean')
    scratch.run('unstack')
    scratch.run('clean')

    # Then nothing is left
    assert 'systemctl stop devstack@attachworker.service\n' in stopped
    assert scratch.tree() == before
