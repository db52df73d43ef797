# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A device of this kernel is opened only if it is the one that was meant."""

from collections.abc import Iterator
import contextlib
import errno
import os
import pathlib
import subprocess

import pytest

from attachworker.host import sysfs
from attachworker.privileged import block

_BLOCK = pathlib.Path('/sys/class/block')

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not os.path.exists('/dev/loop-control'),
    reason='only root has loop devices',
)


@pytest.fixture
def disk(tmp_path: pathlib.Path) -> Iterator[str]:
    file = tmp_path / 'volume'
    file.write_bytes(b'x' * (1 << 20))
    node = subprocess.run(
        ['losetup', '--find', '--show', str(file)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout.strip()
    yield node.removeprefix('/dev/')
    subprocess.run(['losetup', '--detach', node], check=True)


def instance(disk: str) -> int:
    found = sysfs.instance(_BLOCK / disk)
    assert found is not None
    return found


def test_the_device_that_was_meant(disk: str) -> None:
    with block.opened(disk, instance(disk), os.O_RDONLY) as descriptor:
        assert os.read(descriptor, 4096) == b'x' * 4096
    # And nobody is told what is there
    assert block.check_readable(disk, instance(disk)) is None


def test_another_device_of_its_name(disk: str) -> None:
    # Given what some other device is known by
    other = instance(disk) + 1
    before = len(os.listdir('/proc/self/fd'))
    # Then nothing is read, and nothing stays open
    with pytest.raises(OSError, match='another device') as caught:
        block.check_readable(disk, other)
    assert caught.value.errno == errno.ESTALE
    assert len(os.listdir('/proc/self/fd')) == before


def test_a_device_that_is_made_anew_is_another_one() -> None:
    """The kernel gives it the same name and the same number."""
    control = pathlib.Path('/sys/class/zram-control')
    if not control.exists():
        subprocess.run(['modprobe', 'zram'], check=False)
    if not control.exists():
        pytest.skip('this kernel has no devices that come and go alone')
    seen = []
    for _ in range(2):
        number = (control / 'hot_add').read_text().strip()
        name = f'zram{number}'
        seen.append((name, (_BLOCK / name / 'dev').read_text()))
        seen.append(instance(name))  # type: ignore[arg-type]
        with contextlib.suppress(OSError):
            (control / 'hot_remove').write_text(number)
    first, its_instance, second, another = seen
    assert first == second
    assert its_instance != another
