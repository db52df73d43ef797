# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A root directory with a fresh Debian, to install packages in.

It is of the release of this machine, from where that has its packages, and
nothing is in it but apt and what every Debian has. It has the processes, the
network and the kernel of the machine, and a /run and a read-only /sys of its
own; its mounts end with it.
"""

import pathlib
import platform
import shutil
import subprocess
from typing import Self

from tests import newer

#: Seconds that any command may take; they wait for other suites.
PATIENCE = 900.0
_NEEDED = ('dpkg-buildpackage', 'dh', 'dh_python3', 'mmdebstrap')
_HOLD = """
set -e
mount --bind "$0" "$0"
mount -t proc proc "$0/proc"
mount -t sysfs -o ro sysfs "$0/sys"
mount -t tmpfs -o mode=0755 tmpfs "$0/run"
echo mounted
exec sleep infinity
"""


def lacking() -> list[str]:
    """What this machine lacks to build a package and to install it."""
    return [name for name in _NEEDED if not shutil.which(name)]


class DebianRoot:
    """Makes it, runs commands in it, and forgets it.

    :param directory: a new one
    """

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self._holder: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        release = platform.freedesktop_os_release()['VERSION_CODENAME']
        run(
            'mmdebstrap',
            '--mode=root',
            '--variant=apt',
            '--format=directory',
            # The lists of packages stay: apt installs more.
            '--skip=cleanup/apt',
            '--dpkgopt=force-unsafe-io',
            '--dpkgopt=path-exclude=/usr/share/doc/*',
            '--dpkgopt=path-exclude=/usr/share/locale/*',
            '--dpkgopt=path-exclude=/usr/share/man/*',
            release,
            str(self.directory),
            f'deb {newer.mirror()} {release} main',
        )
        self._holder = subprocess.Popen(
            ['unshare', '--mount', 'sh', '-c', _HOLD, str(self.directory)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == 'mounted\n'
        return self

    def __exit__(self, *exc: object) -> None:
        if self._holder is not None:
            self._holder.kill()
            self._holder.communicate()
        shutil.rmtree(self.directory)

    def command(self, *command: str) -> list[str]:
        """The command that runs this one there, in the same process."""
        assert self._holder is not None
        return [
            'nsenter',
            f'--mount=/proc/{self._holder.pid}/ns/mnt',
            *('chroot', str(self.directory), '/usr/bin/env', '-i'),
            'PATH=/usr/sbin:/usr/bin:/sbin:/bin',
            'LC_ALL=C.UTF-8',
            'DEBIAN_FRONTEND=noninteractive',
            *command,
        ]

    def run(self, *command: str) -> str:
        """What a command prints that runs there."""
        return run(*self.command(*command))


def run(*command: str, cwd: pathlib.Path | None = None) -> str:
    """What a command prints."""
    ran = subprocess.run(
        command,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ran.returncode == 0, f'{command}: {ran.stdout}'
    return ran.stdout
