# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Hosts as people have them: what the contract tests run on, in the lab.

``ATTACHWORKER_SET_UP`` names one; without it, a host has what makes tests
quick. ``python -m tests.kernel.set_ups NAME`` prints which tests are for it.
"""

import dataclasses
import os
import pathlib
import subprocess
import sys

_MULTIPATH_CONF = pathlib.Path('/etc/multipath.conf')


@dataclasses.dataclass(frozen=True)
class SetUp:
    """What a host is like before anybody attaches a volume.

    :ivar multipath_conf: None: there is no such file
    :ivar multipathd: whether it runs
    :ivar read_only_etc: whether nothing can be written to /etc
    :ivar tests: arguments of pytest
    """

    multipath_conf: str | None = None
    multipathd: bool = True
    read_only_etc: bool = False
    tests: tuple[str, ...] = ('tests/contract',)


SET_UPS = {
    # Debian's package has no configuration: multipath-tools' own defaults.
    'debian': SetUp(),
    # What the package of Ubuntu comes with.
    'ubuntu': SetUp('defaults {\n    user_friendly_names yes\n}\n'),
    # What mpathconf --enable writes on Red Hat Enterprise Linux and its kin.
    'rhel': SetUp(
        'defaults {\n    user_friendly_names yes\n    find_multipaths yes\n}\n'
        'blacklist {\n}\n'
    ),
    # The file system of the host comes as an image, and is not written to.
    'image': SetUp(read_only_etc=True),
    'no-multipathd': SetUp(multipathd=False),
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


if __name__ == '__main__':
    print(*SET_UPS[sys.argv[1]].tests)
