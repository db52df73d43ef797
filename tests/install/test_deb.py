# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The Debian package is built, apt installs it, and its worker answers."""

from collections.abc import Iterator
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.functional import rabbitmq
from tests.install import debian_root
from tests.install.debian_root import DebianRoot

PROJECT = pathlib.Path(__file__).resolve().parents[2]
HOME = 'usr/lib/attachworker'
#: The name of the worker on the bus.
HOST = 'packaged'
_UNIT = 'lib/systemd/system/attachworker.service'

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope='module')
def package(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The package of what is in the work tree, built in a copy."""
    if os.geteuid() != 0 or (lacking := debian_root.lacking()):
        pytest.skip(f'this needs root, and {lacking}')
    copy = tmp_path_factory.mktemp('debian') / 'attachworker'
    names = subprocess.run(
        ['git', 'ls-files', '-z'], cwd=PROJECT, check=True, capture_output=True
    ).stdout
    for name in filter(None, names.decode().split('\0')):
        if (PROJECT / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, copy / name, follow_symlinks=False)
    # Nothing is compiled: there need be no compiler. What is built here is not
    # kept, and need not be small.
    debian_root.run(
        *(
            'env',
            'DPKG_DEB_COMPRESSOR_TYPE=gzip',
            'DPKG_DEB_COMPRESSOR_LEVEL=1',
        ),
        *('dpkg-buildpackage', '--build=binary', '--no-sign'),
        '--no-check-builddeps',
        cwd=copy,
    )
    [made] = copy.parent.glob('attachworker_*.deb')
    return made


@pytest.fixture(scope='module')
def root(
    package: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DebianRoot]:
    """A fresh Debian in which apt has installed it."""
    with DebianRoot(tmp_path_factory.mktemp('root') / 'root') as made:
        shutil.copy(package, made.directory)
        made.run(
            *('apt-get', 'install', '--yes', '--no-install-recommends'),
            f'/{package.name}',
        )
        yield made


def settings(unit: pathlib.Path) -> dict[str, str]:
    lines = unit.read_text().splitlines()
    return dict(line.split('=', 1) for line in lines if '=' in line)


def test_what_is_private_belongs_to_the_worker(root: DebianRoot) -> None:
    shown = root.run(
        *('stat', '--format', '%n %a %U:%G'),
        *('/etc/attachworker', '/etc/attachworker/attachworker.conf'),
        *('/run/attachworker', '/var/lib/attachworker'),
    )

    assert shown.splitlines() == [
        '/etc/attachworker 750 root:attachworker',
        '/etc/attachworker/attachworker.conf 640 root:attachworker',
        '/run/attachworker 700 attachworker:attachworker',
        '/var/lib/attachworker 700 attachworker:attachworker',
    ]


def test_it_is_not_started_before_it_is_configured(root: DebianRoot) -> None:
    unit = root.directory / _UNIT

    assert unit.read_bytes() == (
        (PROJECT / 'etc/systemd/attachworker.service').read_bytes()
    )
    wanted = root.directory / 'etc/systemd/system'
    assert not [*wanted.glob('*.wants/attachworker.service')]


def test_nothing_of_the_build_is_in_it(
    package: pathlib.Path, root: DebianRoot
) -> None:
    home = root.directory / HOME
    texts = [
        path.read_text(errors='replace')
        for path in [*home.glob('bin/*'), home / 'pyvenv.cfg']
        if path.is_file() and not path.name.startswith('python')
    ]

    assert len(texts) == 5
    assert not [text for text in texts if str(package.parent) in text]
    # Its Python is that of the release.
    python = root.run('readlink', '--canonicalize', f'/{HOME}/bin/python3')
    assert re.fullmatch(r'/usr/bin/python3\.\d+\n', python)


def test_modules_are_compiled(root: DebianRoot) -> None:
    """The worker cannot do that: /usr is read-only for it."""
    [packages] = (root.directory / HOME).glob('lib/python3*/site-packages')

    for name in ('attachworker', 'oslo_messaging', 'attachworker/worker'):
        sources = {path.stem for path in (packages / name).glob('*.py')}
        compiled = (packages / name / '__pycache__').glob('*.pyc')
        assert {path.name.split('.')[0] for path in compiled} == sources


def test_the_version_is_that_of_the_changelog(root: DebianRoot) -> None:
    changelog = debian_root.run(
        'dpkg-parsechangelog', '--show-field', 'Version', cwd=PROJECT
    )

    said = root.run('attachworker', '--version')

    assert said.strip() == changelog.strip().replace('~', '.')


def test_its_worker_answers(root: DebianRoot) -> None:
    unit = settings(root.directory / _UNIT)
    start = unit['ExecStart'].removeprefix('!')
    ping = ('attachctl', '--host', HOST, '--format', 'json', 'ping')
    options = root.directory / 'etc/attachworker/attachworker.conf.d/test.conf'
    with rabbitmq.RabbitMQNode(start_timeout=240) as broker:
        # Given its configuration
        options.write_text(
            f'[DEFAULT]\ntransport_url = {broker.url}\nhost = {HOST}\n'
        )

        # When it is started as its unit says
        log = root.directory / 'log'
        with open(log, 'wb') as output:
            worker = subprocess.Popen(
                root.command(unit['Environment'], *shlex.split(start)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            # Then it answers, to the command of the package
            answer = None
            end = time.monotonic() + 120
            while answer is None:
                assert worker.poll() is None, log.read_text()
                assert time.monotonic() < end, log.read_text()
                ran = subprocess.run(
                    root.command(*ping), capture_output=True, text=True
                )
                if ran.returncode == 0:
                    answer = json.loads(ran.stdout)
            assert answer['ready'] is True
            # And is not root any more
            status = pathlib.Path(f'/proc/{worker.pid}/status').read_text()
            [uids] = re.findall(r'^Uid:\s+(.*)$', status, re.MULTILINE)
            number = root.run('id', '--user', 'attachworker').strip()
            assert {*uids.split()} == {number}
            # When it is told to end, it does
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(120) == 0, log.read_text()
        finally:
            worker.kill()
            worker.wait()
            options.unlink()


def test_it_can_be_removed(root: DebianRoot) -> None:
    root.run('apt-get', 'purge', '--yes', 'attachworker')

    for name in (HOME, 'etc/attachworker', 'usr/bin/attachctl', _UNIT):
        assert not (root.directory / name).exists(), name
    # What is attached is in the journal.
    assert (root.directory / 'var/lib/attachworker').is_dir()


def test_the_tools_of_the_worker_come_with_it() -> None:
    control = (PROJECT / 'debian/control').read_text()
    _, _, package = control.partition('\nPackage: ')
    fields = re.findall(
        r'^(?:Depends|Recommends):\n((?: .*\n)+)', package, re.MULTILINE
    )
    named = re.findall(r'[a-z0-9][a-z0-9.+-]+(?=,)', ''.join(fields))
    lines = (PROJECT / 'bindep.txt').read_text().splitlines()

    called = {
        line.split()[0] for line in lines if line.endswith('[platform:dpkg]')
    }

    assert called
    assert called <= {*named}


_CONSTRAINTS = """\
one==1.0 \\
    --hash=sha256:1
other-one==2.0 ; python_version < '3.12' \\
    --hash=sha256:2
other-one==3.0 ; python_version >= '3.12' \\
    --hash=sha256:3
third==1.0 \\
    --hash=sha256:4
"""


def locked(
    directory: pathlib.Path, *names: str
) -> subprocess.CompletedProcess[str]:
    report = {'install': [{'metadata': {'name': name}} for name in names]}
    (directory / 'report').write_text(json.dumps(report))
    (directory / 'constraints').write_text(_CONSTRAINTS)
    return subprocess.run(
        [
            *(sys.executable, PROJECT / 'debian/locked.py'),
            *(directory / 'constraints', directory / 'report'),
        ],
        capture_output=True,
        text=True,
    )


def test_a_version_for_each_python_is_kept(tmp_path: pathlib.Path) -> None:
    ran = locked(tmp_path, 'third', 'Other.One')

    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == ''.join(_CONSTRAINTS.splitlines(True)[2:])


def test_a_package_without_a_hash_ends_the_build(
    tmp_path: pathlib.Path,
) -> None:
    ran = locked(tmp_path, 'one', 'unknown')

    assert ran.returncode != 0
    assert 'not in the constraints: unknown' in ran.stderr
    assert not ran.stdout
