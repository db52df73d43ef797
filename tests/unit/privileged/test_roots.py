# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Only files below ``local_roots`` are opened, whatever is done meanwhile."""

from collections.abc import Iterator
import contextlib
import ctypes
import errno
import multiprocessing
import os
import pathlib
import subprocess
import sys
import time

from oslo_config import cfg
import pytest

from attachworker.privileged import roots

_GOOD = b'volume'
_SECRET = b'secret'
#: linux/fs.h
_RENAME_EXCHANGE = 2
_AT_FDCWD = -100
#: How long, in seconds, and how often at least, links are swapped in.
_RACE = 2.0
_TRIES = 2000

#: Asks a helper for one file, as a worker does that is started with the
#: arguments that follow.
_WORKER = """
import os, sys
from oslo_config import cfg
from oslo_privsep import priv_context
from attachworker import privileged
method, path, *arguments = sys.argv[1:]
cfg.CONF(arguments, project='attachworker')
privileged.default.start(priv_context.Method[method])
try:
    privileged.loop.attach(path, True)
except OSError as error:
    print(error.errno, error.strerror)
os._exit(0)
"""


@pytest.fixture
def root(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A directory of volumes; beside it there is what is no volume."""
    (tmp_path / 'outside').mkdir()
    (tmp_path / 'outside/volume').write_bytes(_SECRET)
    directory = tmp_path / 'root'
    directory.mkdir(mode=0o755)
    (directory / 'below').mkdir()
    (directory / 'below/volume').write_bytes(_GOOD)
    with allowed(directory):
        yield directory


@contextlib.contextmanager
def allowed(*directories: pathlib.Path) -> Iterator[None]:
    names = [str(directory) for directory in directories]
    cfg.CONF.set_override('local_roots', names, group='local')
    yield
    cfg.CONF.clear_override('local_roots', group='local')


def read(path: pathlib.Path | str) -> bytes:
    with roots.opened(str(path), os.O_RDONLY) as file:
        return os.read(file, 100)


def refusal(path: pathlib.Path | str) -> str:
    """Why a path is refused; nothing stays open."""
    before = len(os.listdir('/proc/self/fd'))
    with pytest.raises(PermissionError) as caught:
        read(path)
    assert len(os.listdir('/proc/self/fd')) == before
    return str(caught.value.strerror)


def test_a_file_below_a_root(root: pathlib.Path) -> None:
    before = len(os.listdir('/proc/self/fd'))
    assert read(root / 'below/volume') == _GOOD
    assert len(os.listdir('/proc/self/fd')) == before


def test_a_root_with_a_slash_at_its_end(root: pathlib.Path) -> None:
    cfg.CONF.set_override('local_roots', [f'{root}/'], group='local')
    assert read(root / 'below/volume') == _GOOD
    cfg.CONF.set_override('local_roots', ['/'], group='local')
    assert read(root / 'below/volume') == _GOOD


def test_a_file_elsewhere(root: pathlib.Path, tmp_path: pathlib.Path) -> None:
    for path in (
        '/etc/passwd',
        tmp_path / 'outside/volume',
        f'{root}side/volume',
    ):
        assert 'none of the local_roots' in refusal(path)


def test_nothing_is_allowed_by_default(root: pathlib.Path) -> None:
    with allowed():
        assert '--config-file' in refusal(root / 'below/volume')


@pytest.mark.parametrize(
    'path', ['', '.', 'below/volume', '/../etc/passwd', '//below', '/below/.']
)
def test_paths_that_no_worker_sends(root: pathlib.Path, path: str) -> None:
    hostile = f'{root}{path}' if path.startswith('/') else path
    with pytest.raises(ValueError, match='not the real path'):
        read(hostile)
    for hostile in (f'{root}/below/volume\0', f'/{root}/below/volume'):
        with pytest.raises(ValueError, match='not the real path'):
            read(hostile)


def test_links(root: pathlib.Path, tmp_path: pathlib.Path) -> None:
    # Given a link to a file, one to a directory, one of /proc, and a root
    # that is a link itself
    (root / 'file').symlink_to('/etc/passwd')
    (root / 'directory').symlink_to(tmp_path / 'outside')
    for path in ('file', 'directory/volume', 'below/../file'):
        with contextlib.suppress(ValueError):
            assert 'symbolic link' in refusal(root / path)
    with allowed(pathlib.Path('/proc/self')):
        assert 'symbolic link' in refusal('/proc/self/root/etc/passwd')
        assert 'symbolic link' in refusal('/proc/self/exe')
    other = tmp_path / 'link'
    other.symlink_to(root)
    with allowed(other):
        assert 'symbolic link' in refusal(other / 'below/volume')


def test_what_is_no_file_is_not_opened(root: pathlib.Path) -> None:
    """To open a fifo for writing is to wait for who reads from it."""
    os.mkfifo(root / 'fifo')
    for path in (root / 'fifo', root / 'below'):
        with pytest.raises(ValueError, match='not a regular file'):
            read(path)


def test_a_file_that_is_outside_of_the_root_as_well(
    root: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    os.link(tmp_path / 'outside/volume', root / 'volume')
    assert 'hard link' in refusal(root / 'volume')


@pytest.mark.parametrize('mode', [0o775, 0o757, 0o1777])
def test_a_root_that_others_may_write_to(
    root: pathlib.Path, mode: int
) -> None:
    root.chmod(mode)
    assert 'chmod go-w' in refusal(root / 'below/volume')


def test_what_is_not_there(root: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError):
        read(root / 'missing')
    with allowed(root / 'missing'), pytest.raises(FileNotFoundError):
        read(root / 'missing/volume')


def test_a_directory_that_is_swapped_for_a_link_again_and_again(
    root: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    # Given somebody who exchanges a directory on the way with a link
    link = root / 'link'
    link.symlink_to(tmp_path / 'outside')
    swapper = multiprocessing.get_context('fork').Process(
        target=swap, args=(root / 'below', link), daemon=True
    )
    swapper.start()
    # When the file is opened again and again
    found = {_GOOD: 0, None: 0}
    until = time.monotonic() + _RACE
    try:
        while time.monotonic() < until or sum(found.values()) < _TRIES:
            data = None
            with contextlib.suppress(PermissionError):
                data = read(root / 'below/volume')
            # Then it is never what the link leads to
            assert data in found
            found[data] += 1
    finally:
        swapper.kill()
        swapper.join()
    # and both have been met
    assert min(found.values()) > 0, found


def swap(one: pathlib.Path, other: pathlib.Path) -> None:
    """Exchange what has two names, until this process is killed."""
    exchange = ctypes.CDLL(None).renameat2
    names = (_AT_FDCWD, bytes(one), _AT_FDCWD, bytes(other))
    while True:
        exchange(*names, _RENAME_EXCHANGE)


# -- where the helper has the option from


@pytest.fixture
def config(tmp_path: pathlib.Path) -> pathlib.Path:
    root = tmp_path / 'root'
    root.mkdir(mode=0o755)
    file = tmp_path / 'attachworker.conf'
    file.write_text(f'[local]\nlocal_roots = {root}\n')
    return file


def answer(*arguments: str) -> str:
    """What such a worker is told; its log comes before it."""
    told = subprocess.run(
        [sys.executable, '-c', _WORKER, *arguments],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ).stdout
    return told.splitlines()[-1]


_as_root = pytest.mark.skipif(
    os.geteuid() != 0, reason='a helper drops capabilities'
)


@_as_root
def test_a_helper_that_is_forked_has_the_roots_of_its_worker(
    config: pathlib.Path,
) -> None:
    arguments = ('--config-file', str(config))
    missing = str(config.parent / 'root/missing')
    found = answer('FORK', missing, *arguments)
    assert found == f'{errno.ENOENT} {os.strerror(errno.ENOENT)}'
    found = answer('FORK', '/etc/passwd', *arguments)
    assert f'none of the local_roots, {config.parent}/root' in found


@_as_root
def test_a_helper_that_is_started_has_those_of_its_own_configuration(
    config: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    # Given a worker that would have the helper open anything
    command = f'{sys.executable} -m oslo_privsep.daemon'
    evil = tmp_path / 'evil.conf'
    for arguments, expected in (
        ('', 'the privileged helper knows of no local_roots'),
        (f' --config-file {config}', 'none of the local_roots'),
    ):
        evil.write_text(
            '[local]\nlocal_roots = /etc\n[attachworker_privileged]\n'
            f'helper_command = {command}{arguments}\n'
        )
        # Then what the administrator has put into the command counts
        found = answer('ROOTWRAP', '/etc/passwd', '--config-file', str(evil))
        assert expected in found
    missing = str(tmp_path / 'root/missing')
    found = answer('ROOTWRAP', missing, '--config-file', str(evil))
    assert found == f'{errno.ENOENT} {os.strerror(errno.ENOENT)}'
