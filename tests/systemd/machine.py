# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A host whose first process is systemd, installed as the page says.

Only the place of Python and of its packages is another one: what the test
environment has is seen below /opt, where the unit lets the worker look.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
from typing import Any

from attachworker import client
from tests.contract import bed as beds
from tests.kernel import daemons

_PROJECT = pathlib.Path(__file__).resolve().parents[2]
_OPT = pathlib.Path('/opt/attachworker')
_SOURCE = _OPT / 'source'
_UNITS = pathlib.Path('/etc/systemd/system')
_CONF = pathlib.Path('/etc/attachworker/attachworker.conf')
_PROGRAMS = {
    'attachworker': 'attachworker.cmd.worker',
    'attachctl': 'attachworker.cmd.attachctl',
    'attachworker-status': 'attachworker.cmd.status',
}
#: The name of the worker on the bus.
HOST = 'lab'
#: Seconds that anything here may take; a start of Python takes some.
PATIENCE = 180.0


def run(*command: str, check: bool = True) -> str:
    """What a command prints."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0 or not check, (
        f'{command}: {done.returncode}\n{done.stdout}{done.stderr}{journal()}'
    )
    return done.stdout


def journal() -> str:
    """The log of the worker and of iscsid, as systemd keeps it."""
    units = ('attachworker', 'iscsid.socket', 'iscsid.service')
    return subprocess.run(
        ('journalctl', '--no-pager', *(f'-u{one}' for one in units), '-n60'),
        capture_output=True,
        text=True,
        check=False,
    ).stdout


def start_daemons() -> None:
    """iscsid and multipathd from the units of Debian."""
    # It takes User-Mode Linux for a container, where it would not run.
    drop_in(
        'multipathd.service', 'lab.conf', '[Unit]\nConditionVirtualization=\n'
    )
    daemons.configure_multipathd('yes', 'no', 'fail')
    run('systemctl', 'start', 'systemd-udevd', 'iscsid', 'multipathd')
    daemons.wait_for_multipathd()


def drop_in(unit: str, name: str, text: str) -> None:
    directory = _UNITS / f'{unit}.d'
    directory.mkdir(exist_ok=True)
    (directory / name).write_text(text)
    run('systemctl', 'daemon-reload')


def install(url: str) -> None:
    """What doc/source/install/index.rst has a person do."""
    _make_environment()
    units = _PROJECT / 'etc/systemd'
    run('systemd-sysusers', str(units / 'attachworker.sysusers.conf'))
    _CONF.parent.mkdir(mode=0o750, exist_ok=True)
    shutil.chown(_CONF.parent, group='attachworker')
    sample = _PROJECT / 'etc/attachworker/attachworker.conf.sample'
    _CONF.write_text(
        sample.read_text()
        .replace('[local]\n', f'[local]\nlocal_roots = {beds.LOCAL_ROOT}\n')
        .replace('[nfs]\n', f'[nfs]\nmount_point_base = {beds.MOUNT_BASE}\n')
    )
    shutil.chown(_CONF, group='attachworker')
    _CONF.chmod(0o640)
    networks = ','.join(beds.NETWORKS)
    configure(
        f'transport_url = {url}',
        f'host = {HOST}',
        f'portal_networks = {networks}',
    )
    shutil.copy(units / 'attachworker.service', _UNITS)
    drop_in(
        'attachworker.service',
        'python.conf',
        f'[Service]\nEnvironment=PYTHONPATH={_SOURCE}'
        ' LD_LIBRARY_PATH=/opt/python/lib\n',
    )


def configure(*lines: str) -> None:
    """Set options of section DEFAULT."""
    names = {line.partition(' = ')[0] for line in lines}
    others = [
        line
        for line in _CONF.read_text().splitlines()
        if line.partition(' = ')[0] not in names
    ]
    place = others.index('[DEFAULT]') + 1
    _CONF.write_text('\n'.join([*others[:place], *lines, *others[place:], '']))


def _make_environment() -> None:
    packages = next(
        pathlib.Path(entry)
        for entry in sys.path
        if entry.endswith('site-packages')
    )
    python = pathlib.Path('/opt/python')
    for place, what in (
        (python, sys.base_prefix),
        (_OPT / 'packages', packages),
        (_SOURCE, _PROJECT),
    ):
        place.mkdir(parents=True)
        run('mount', '--bind', str(what), str(place))
    name = pathlib.Path(sys.executable).resolve().name
    run(str(python / 'bin' / name), '-m', 'venv', '--without-pip', str(_OPT))
    (site,) = _OPT.glob('lib/python*/site-packages')
    (site / 'packages.pth').write_text(f'{_OPT / "packages"}\n')
    for program, module in _PROGRAMS.items():
        script = _OPT / 'bin' / program
        script.write_text(
            f'#!{_OPT}/bin/python\nimport sys\nfrom {module} import main\n'
            'sys.exit(main())\n'
        )
        script.chmod(0o755)
        link = pathlib.Path('/usr/bin') / program
        link.unlink(missing_ok=True)
        link.symlink_to(script)


def show(name: str) -> str:
    """A property of the worker's unit."""
    return run(
        'systemctl', 'show', '--value', '-p', name, 'attachworker'
    ).strip()


def processes() -> list[int]:
    """All that run for the worker's unit."""
    group = pathlib.Path(f'/sys/fs/cgroup{show("ControlGroup")}')
    return [*map(int, (group / 'cgroup.procs').read_text().split())]


def attachctl(*arguments: str) -> Any:
    """What it prints as JSON; a start of it takes seconds here."""
    command = ('/usr/bin/attachctl', '--format', 'json', *arguments)
    os.environ['PYTHONPATH'] = str(_SOURCE)
    return json.loads(run(*command))


def attach(
    worker: client.AttachWorkerClient, volume: beds.Volume, **options: Any
) -> Any:
    """Attach a volume; its device."""
    result = worker.attach_volume(
        volume.connection_info(), attachment_id=volume.name, **options
    )
    assert result.status == 'attached', (result.as_dict(), journal())
    return result.device


def detach(worker: client.AttachWorkerClient, volume: beds.Volume) -> None:
    result = worker.detach_volume(volume.name)
    assert result.status == 'detached', (result.as_dict(), journal())
    assert result.leftovers == []


def until(look: Any) -> None:
    end = time.monotonic() + PATIENCE
    while not look():
        assert time.monotonic() < end, journal()
        time.sleep(0.2)
