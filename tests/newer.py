# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Programs of Debian's next release, each in a tree of its own.

They are from where this machine has its packages, and apt takes none whose
checksum is not in the signed index of that release. They are unpacked, not
installed: nothing of the machine changes. Which version that is moves with
Debian, until a tree is made: it is kept, below ``.newer``.

``python -m tests.newer`` makes those that ``tools/setup.sh`` wants.

Only the standard library is used here, as in the lab.
"""

from collections.abc import Callable
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

SUITE = 'forky'
_KEYS = '/usr/share/keyrings/debian-archive-keyring.gpg'
_PROJECT = pathlib.Path(__file__).resolve().parents[1]
_TREES = _PROJECT / '.newer'
_NEEDED = ('apt-get', 'dpkg-deb', 'patchelf')

#: The broker, Erlang, what they are linked with, and a shell with its tools.
_RABBITMQ = (
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

USER_MODE_LINUX = _TREES / 'user-mode-linux'
#: The C library of that release, for those that are linked with it.
_LIBRARIES = 'usr/lib/x86_64-linux-gnu'


class NotAvailable(Exception):
    """It cannot be had here; the text says why."""


def rabbitmq() -> pathlib.Path:
    """The root of a tree with a RabbitMQ; it is made when there is none.

    :raises NotAvailable: it cannot be
    """
    return _tree(_TREES / 'rabbitmq', _RABBITMQ, _furnish)


def user_mode_linux() -> pathlib.Path:
    """The root of a tree with a User-Mode Linux, likewise.

    :raises NotAvailable: it cannot be
    """
    return _tree(
        USER_MODE_LINUX, ['user-mode-linux', 'libc6'], _link_with_libraries
    )


def mirror() -> str:
    """Where this machine has the packages of Debian from.

    :raises NotAvailable: it has none, or no keys to check them with
    """
    sites = _run(
        'apt-get', 'indextargets', '--format', '$(ORIGIN) $(SITE)'
    ).splitlines()
    site = next(
        (one.split()[1] for one in sites if one.startswith('Debian ')), None
    )
    if site is None or not os.path.exists(_KEYS):
        raise NotAvailable('this machine has no packages of Debian')
    return site


def _furnish(root: pathlib.Path) -> None:
    for name, text in _FILES.items():
        (root / name).write_text(text)
    for name, target in _LINKS.items():
        (root / name).symlink_to(target)


def _link_with_libraries(root: pathlib.Path) -> None:
    """Have it take its C library from the tree, which is not a root for it.

    The guest has the root of this machine.
    """
    libraries = USER_MODE_LINUX / _LIBRARIES
    _run(
        *('patchelf', '--set-rpath', str(libraries)),
        *('--set-interpreter', str(libraries / 'ld-linux-x86-64.so.2')),
        str(root / 'usr/bin/linux.uml'),
    )


def _tree(
    place: pathlib.Path,
    packages: list[str],
    complete: Callable[[pathlib.Path], None],
) -> pathlib.Path:
    if place.exists():
        return place
    lacking = [name for name in _NEEDED if not shutil.which(name)]
    if os.geteuid() != 0 or lacking:
        raise NotAvailable(
            f'a newer {place.name} needs root, and {", ".join(_NEEDED)}'
        )
    place.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
        made = pathlib.Path(scratch) / 'root'
        try:
            _unpack(packages, made, pathlib.Path(scratch))
            complete(made)
        except subprocess.SubprocessError as error:
            raise NotAvailable(
                f'the packages of Debian {SUITE} cannot be had: {error}; '
                f'{getattr(error, "stderr", None) or "nothing was printed"}'
            ) from error
        made.rename(place)
    return place


def _unpack(
    packages: list[str], root: pathlib.Path, scratch: pathlib.Path
) -> None:
    site = mirror()
    for name in ('lists/partial', 'cache/archives/partial', 'etc', 'debs'):
        (scratch / name).mkdir(parents=True)
    (scratch / 'status').touch()
    (scratch / 'sources').write_text(
        f'deb [signed-by={_KEYS}] {site} {SUITE} main\n'
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
        *packages,
        cwd=scratch / 'debs',
        configuration=scratch / 'apt.conf',
    )
    root.mkdir()
    for package in (scratch / 'debs').iterdir():
        _run('dpkg-deb', '--extract', str(package), str(root))


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


def main() -> int:
    try:
        user_mode_linux()
    except NotAvailable as error:
        print(f'{error}; the lab uses what is installed')
    return 0


if __name__ == '__main__':
    sys.exit(main())
