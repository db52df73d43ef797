# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Hosts as people have them: what the contract tests run on, in the lab.

``ATTACHWORKER_SET_UP`` names one; without it, a host has what makes tests
quick. ``python -m tests.kernel.set_ups NAME`` prints which tests ``make test``
runs on it: all on Debian, and elsewhere those of what is different there.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import os
import pathlib
import subprocess
import sys

_MULTIPATH_CONF = pathlib.Path('/etc/multipath.conf')
#: The first place where tools are looked for.
_TOOLS = pathlib.Path('/usr/local/sbin')
#: iscsiadm as it is where it was built to keep its records in /var/lib/iscsi.
_IN_VAR = """\
#!/bin/sh
export PATH=/usr/sbin:/sbin:/usr/bin:/bin
exec unshare --mount --propagation private sh -ec '
cd /var/lib/iscsi && mkdir -p nodes send_targets ifaces
cd /etc/iscsi && mkdir -p nodes send_targets ifaces
mount --all --fstab /run/lab/records
exec iscsiadm "$@"
' iscsiadm "$@"
"""

_CONTRACT = 'tests/contract/test_{}.py'


@dataclasses.dataclass(frozen=True)
class SetUp:
    """What a host is like before anybody attaches a volume.

    :ivar multipath_conf: None: there is no such file
    :ivar multipathd: whether it runs
    :ivar read_only_etc: whether nothing can be written to /etc
    :ivar records_in_var: whether iscsiadm keeps its records in /var/lib/iscsi
    :ivar tests: names of files, without what all have in common
    :ivar without: words in the names of tests that are not for it
    """

    multipath_conf: str | None = None
    multipathd: bool = True
    read_only_etc: bool = False
    records_in_var: bool = False
    tests: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


SET_UPS = {
    # Debian's package has no configuration: multipath-tools' own defaults.
    'debian': SetUp(),
    # What the package of Ubuntu comes with.
    'ubuntu': SetUp(
        'defaults {\n    user_friendly_names yes\n}\n',
        tests=('sharing',),
    ),
    # What mpathconf --enable writes on Red Hat Enterprise Linux and its kin.
    'rhel': SetUp(
        'defaults {\n    user_friendly_names yes\n    find_multipaths yes\n}\n'
        'blacklist {\n}\n',
        records_in_var=True,
        tests=('attach', 'iscsi', 'repeats'),
    ),
    # The file system of the host comes as an image, and is not written to.
    # Told to make a map, and not by its list of WWIDs, multipathd makes none
    # while one of the volume's disks has the size from before it grew: it is
    # attached without a map, and the warning says so.
    'image': SetUp(
        read_only_etc=True,
        tests=('attach', 'sharing'),
        without=('grows_while',),
    ),
    'no-multipathd': SetUp(
        multipathd=False,
        tests=('attach', 'extend', 'repeats'),
        without=('map', 'multipath'),
    ),
}


def chosen() -> SetUp | None:
    name = os.environ.get('ATTACHWORKER_SET_UP')
    return SET_UPS[name] if name else None


def configure_multipathd(text: str | None) -> None:
    """Have this configuration, or none, for the next start of multipathd."""
    protected = is_etc_protected()
    protect_etc(False)
    if text is None:
        _MULTIPATH_CONF.unlink(missing_ok=True)
    else:
        _MULTIPATH_CONF.write_text(text)
    protect_etc(protected)


@contextlib.contextmanager
def iscsiadm(script: str) -> Iterator[None]:
    """Another iscsiadm than that of the distribution."""
    subprocess.run(['mount', '-t', 'tmpfs', 'tools', str(_TOOLS)], check=True)
    try:
        (_TOOLS / 'iscsiadm').write_text(script)
        (_TOOLS / 'iscsiadm').chmod(0o755)
        yield
    finally:
        subprocess.run(['umount', str(_TOOLS)], check=True)


@contextlib.contextmanager
def records_in_var() -> Iterator[None]:
    """An iscsiadm that keeps its records in /var/lib/iscsi."""
    kinds = ('nodes', 'send_targets', 'ifaces')
    pathlib.Path('/run/lab/records').write_text(
        ''.join(
            f'/var/lib/iscsi/{kind} /etc/iscsi/{kind} none bind 0 0\n'
            for kind in kinds
        )
    )
    with iscsiadm(_IN_VAR):
        yield


def protect_etc(protect: bool) -> None:
    """Make /etc read-only, or writable again."""
    if protect == is_etc_protected():
        return
    if protect and not os.path.ismount('/etc'):
        subprocess.run(['mount', '--bind', '/etc', '/etc'], check=True)
    option = 'ro' if protect else 'rw'
    subprocess.run(
        ['mount', '-o', f'remount,{option},bind', '/etc'], check=True
    )


def is_etc_protected() -> bool:
    return bool(os.statvfs('/etc').f_flag & os.ST_RDONLY)


def _arguments(chosen: SetUp) -> Iterator[str]:
    """What to tell pytest."""
    if not chosen.tests:
        yield 'tests/contract'
    yield from map(_CONTRACT.format, chosen.tests)
    if chosen.without:
        yield '-k'
        yield ' and '.join(f'not {word}' for word in chosen.without)


if __name__ == '__main__':
    print(*_arguments(SET_UPS[sys.argv[1]]), sep='\n')
