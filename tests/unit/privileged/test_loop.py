# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The verbs for loop devices: what they refuse.

What they do is asserted on the real kernel, in tests/contract/test_local.py.
"""

from collections.abc import Callable
import pathlib

import pytest

from attachworker.privileged import loop


@pytest.mark.parametrize(
    'verb',
    [
        lambda name: loop.detach(name, '/volume'),
        lambda name: loop.resize(name, '/volume'),
        lambda name: loop.is_ours(name, '/volume'),
        loop.identify,
    ],
)
@pytest.mark.parametrize('name', ['', 'sda', '-D', '../loop0', 'loop0\n'])
def test_hostile_names(verb: Callable[[str], object], name: str) -> None:
    with pytest.raises(ValueError, match='not the kernel name'):
        verb(name)


def test_hostile_paths(tmp_path: pathlib.Path) -> None:
    link = tmp_path / 'link'
    link.symlink_to('/etc/passwd')
    for path in (str(link), 'etc/passwd', '/etc/../etc/passwd', str(tmp_path)):
        with pytest.raises(ValueError, match='^not '):
            loop.attach(path, False)


def test_what_the_kernel_is_given() -> None:
    # As linux/loop.h has them, on all architectures
    assert (loop._INFO.size, loop._CONFIG.size) == (232, 304)


def test_a_mark_fits_and_tells_paths_apart() -> None:
    one, other = loop._mark('/a' * 2000), loop._mark('/a' * 2000 + 'b')
    assert one != other
    # with what a file system is called behind it
    assert len(one) == len(other) < 64 - len('-0123456789abcdef')
    assert one.startswith(b'attachworker-')
