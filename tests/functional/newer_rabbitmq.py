# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A RabbitMQ that is newer than this machine's, in a tree of its own.

The packages are those of Debian's next release, from where this machine has
its packages, and apt takes none whose checksum is not in the signed index of
that release. They are unpacked, not installed: nothing of the machine changes.
Which version that is moves with Debian, until the tree is made: it is kept.
"""

import functools
import os
import pathlib
import shutil
import subprocess
import tempfile

_SUITE = 'forky'
_KEYS = '/usr/share/keyrings/debian-archive-keyring.gpg'
_PROJECT = pathlib.Path(__file__).resolve().parents[2]
_TREE = _PROJECT / '.rabbitmq-newer'
#: The broker, Erlang, what they are linked with, and a shell with its tools.
_PACKAGES = (
    'rabbitmq-server erlang-base erlang-asn1 erlang-crypto erlang-eldap '
    'erlang-eunit erlang-inets erlang-mnesia erlang-os-mon erlang-public-key '
    'erlang-runtime-tools erlang-ssl erlang-syntax-tools erlang-tools '
    'erlang-xmerl libc6 libgcc-s1 libstdc++6 zlib1g libtinfo6 libncursesw6 '
    'libsctp1 libssl3t64 libzstd1 libsystemd0 libmimalloc3 dash coreutils '
    'sed grep mawk procps libproc2-1 libselinux1 libpcre2-8-0 libacl1 '
    'libattr1 libgmp10 libcap2'
).split()
#: What the packages would have been given when they were installed.
_FILES = {
    'etc/hosts': '127.0.0.1 localhost\n',
    'etc/nsswitch.conf': 'hosts: files\n',
    'etc/passwd': 'root:x:0:0:root:/root:/bin/sh\n',
}
_LINKS = {
    'bin': 'usr/bin',
    'sbin': 'usr/sbin',
    'lib': 'usr/lib',
    'lib64': 'usr/lib64',
    'usr/bin/awk': 'mawk',
}


class NotAvailable(Exception):
    """It cannot be had here; the text says why."""


@functools.cache
def tree() -> pathlib.Path:
    """The root of the tree; it is made when there is none.

    :raises NotAvailable: it cannot be
    """
    if os.geteuid() != 0 or not shutil.which('apt-get'):
        raise NotAvailable('a newer RabbitMQ needs root, and apt')
    if not _TREE.exists():
        with tempfile.TemporaryDirectory(dir=_PROJECT) as scratch:
            made = pathlib.Path(scratch) / 'root'
            try:
                _make(made, pathlib.Path(scratch))
            except subprocess.CalledProcessError as error:
                raise NotAvailable(
                    f'the packages of Debian {_SUITE} cannot be had: '
                    f'{error.stderr.strip()}'
                ) from error
            made.rename(_TREE)
    return _TREE


def _make(root: pathlib.Path, scratch: pathlib.Path) -> None:
    sites = _run(
        'apt-get', 'indextargets', '--format', '$(ORIGIN) $(SITE)'
    ).splitlines()
    site = next(
        (one.split()[1] for one in sites if one.startswith('Debian ')), None
    )
    if site is None or not os.path.exists(_KEYS):
        raise NotAvailable('this machine has no packages of Debian')
    for name in ('lists/partial', 'cache/archives/partial', 'etc', 'debs'):
        (scratch / name).mkdir(parents=True)
    (scratch / 'status').touch()
    (scratch / 'sources').write_text(
        f'deb [signed-by={_KEYS}] {site} {_SUITE} main\n'
    )
    (scratch / 'apt.conf').write_text(
        f'Dir::State "{scratch}";\n'
        f'Dir::State::status "{scratch}/status";\n'
        f'Dir::Cache "{scratch}/cache";\n'
        f'Dir::Etc::sourcelist "{scratch}/sources";\n'
        f'Dir::Etc::sourceparts "{scratch}/etc";\n'
        f'Dir::Etc::preferencesparts "{scratch}/etc";\n'
        'APT::Sandbox::User "root";\n'
    )
    _run('apt-get', 'update', configuration=scratch / 'apt.conf')
    _run(
        'apt-get',
        'download',
        *_PACKAGES,
        cwd=scratch / 'debs',
        configuration=scratch / 'apt.conf',
    )
    for package in (scratch / 'debs').iterdir():
        _run('dpkg-deb', '--extract', str(package), str(root))
    for name, text in _FILES.items():
        (root / name).write_text(text)
    for name, target in _LINKS.items():
        (root / name).symlink_to(target)


def _run(
    *command: str,
    cwd: pathlib.Path | None = None,
    configuration: pathlib.Path | None = None,
) -> str:
    return subprocess.run(
        command,
        cwd=cwd,
        env=os.environ
        | ({'APT_CONFIG': str(configuration)} if configuration else {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    ).stdout
