# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""tools/setup.sh, with stand-ins for what it would install with."""

import itertools
import os
import pathlib
import shutil
import subprocess

import pytest

PROJECT = pathlib.Path(__file__).resolve().parents[2]
READ = (
    'bindep.txt',
    'constraints.txt',
    'pyproject.toml',
    'requirements.txt',
    'setup.cfg',
    'setup.py',
    'test-requirements.txt',
    'tools/demo/requirements.txt',
    'tools/setup.sh',
)
#: Makes environments that hold itself, and takes note of what pip is to do.
PYTHON = """\
#!/bin/sh
case "$*" in
    '-m venv'*)
        mkdir -p .venv/bin
        cp "$0" .venv/bin/python
        ;;
    '-m pip'*)
        echo "$*" >>pip-calls
        ;;
esac
"""
BROKEN_PYTHON = """\
#!/bin/sh
case "$*" in
    '-m venv'*)
        seq -f 'line %g' 100
        exit 1
        ;;
esac
"""


class Clone:
    """A fresh clone on a machine without packages, for who is not root."""

    def __init__(self, root: pathlib.Path) -> None:
        self.directory = root / 'clone'
        self.logs = root / 'logs'
        self.commands = root / 'bin'
        self.commands.mkdir()
        self.logs.mkdir()
        for name in READ:
            target = self.directory / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, target)
        self.command('id', '#!/bin/sh\necho 1000\n')
        self.command('dpkg-query', '#!/bin/sh\nexit 1\n')
        self.command('apt-get', '#!/bin/sh\nexit 1\n')
        self.command('python3', PYTHON)

    def command(self, name: str, script: str) -> None:
        path = self.commands / name
        path.write_text(script)
        path.chmod(0o755)

    def setup(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        variables = {k: v for k, v in os.environ.items() if k != 'PYTHON'}
        return subprocess.run(
            [self.directory / 'tools/setup.sh', *arguments],
            env=variables
            | {
                'PATH': f'{self.commands}:{os.environ["PATH"]}',
                'TMPDIR': str(self.logs),
            },
            capture_output=True,
            text=True,
        )

    def missing(self, *arguments: str) -> set[str]:
        """The packages that it says are missing."""
        ran = self.setup(*arguments)
        assert ran.returncode == 2, ran.stderr
        _, _, names = ran.stderr.partition('these packages are missing: ')
        return set(names.splitlines()[0].split())

    def installed(self) -> list[list[str]]:
        """The files that each call of pip took requirements from."""
        words = [call.split() for call in self.calls()]
        found = [
            [
                word
                for option, word in itertools.pairwise(call)
                if option == '-r'
            ]
            for call in words
        ]
        return [one for one in found if one]

    def calls(self) -> list[str]:
        """What pip was called with."""
        return (self.directory / 'pip-calls').read_text().splitlines()


@pytest.fixture
def clone(tmp_path: pathlib.Path) -> Clone:
    return Clone(tmp_path)


def test_the_demo_needs_the_tools_of_the_worker_and_a_kernel(
    clone: Clone,
) -> None:
    assert clone.missing('--demo') == {
        'cryptsetup-bin',
        'iproute2',
        'kmod',
        'libc6-dev',
        'mount',
        'multipath-tools',
        'open-iscsi',
        'python3-venv',
        'tcc',
        'udev',
        'user-mode-linux',
        'util-linux',
    }


def test_the_tests_need_all_packages(clone: Clone) -> None:
    lines = (PROJECT / 'bindep.txt').read_text().splitlines()

    assert clone.missing() == {
        line.split()[0] for line in lines if line and not line.startswith('#')
    }


def test_the_demo_installs_no_requirements_of_the_tests(clone: Clone) -> None:
    ran = clone.setup('--demo', '--no-packages')

    assert ran.returncode == 0, ran.stderr
    assert clone.installed() == [
        ['requirements.txt', 'tools/demo/requirements.txt']
    ]
    assert not list(clone.logs.iterdir())


def test_what_is_there_is_not_installed_again(clone: Clone) -> None:
    for _ in range(2):
        clone.setup('--demo', '--no-packages')
    for _ in range(2):
        clone.setup('--no-packages')
    clone.setup('--demo', '--no-packages')

    assert clone.installed() == [
        ['requirements.txt', 'tools/demo/requirements.txt'],
        ['constraints.txt'],
    ]


def test_what_is_installed_is_what_was_looked_at(clone: Clone) -> None:
    # Given the environment of the tests, then each file is known by its hash
    clone.setup('--no-packages')
    packages, itself = clone.calls()
    assert '--require-hashes -r constraints.txt' in packages
    # And nothing else comes with the project, nor with what builds it
    assert '--no-deps --no-build-isolation --editable .' in itself
    # Given that of the demo, then it has at least the same versions
    (clone.directory / '.venv/setup.stamp').unlink()
    clone.setup('--demo', '--no-packages')
    packages = clone.calls()[2]
    assert '-c ' in packages
    assert 'versions.txt' in packages


def test_the_demo_is_enough_only_for_the_demo(clone: Clone) -> None:
    clone.setup('--no-packages')
    (clone.directory / 'requirements.txt').write_text('pbr\n')
    clone.setup('--demo', '--no-packages')

    clone.setup('--no-packages')

    assert len(clone.installed()) == 3


def test_a_step_that_fails_shows_its_end_and_names_its_log(
    clone: Clone,
) -> None:
    clone.command('python3', BROKEN_PYTHON)

    ran = clone.setup('--no-packages')

    assert ran.returncode == 1
    assert 'line 100\n' in ran.stderr
    assert 'line 1\n' not in ran.stderr
    (log,) = clone.logs.glob('*/*.log')
    assert str(log) in ran.stderr
    assert log.read_text().startswith('line 1\n')


def test_shellcheck_finds_nothing() -> None:
    ran = subprocess.run(
        ['shellcheck', PROJECT / 'tools/setup.sh'],
        capture_output=True,
        text=True,
    )

    assert ran.returncode == 0, ran.stdout
