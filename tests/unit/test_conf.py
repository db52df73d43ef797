# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The options."""

from collections.abc import Iterator
import contextlib
import os
import pathlib
import tempfile

from oslo_config import cfg
import pytest

from attachworker import conf
from tests import harness


def test_what_is_set_for_one_worker_is_not_set_for_another() -> None:
    one = harness.configuration(metrics__port=4711, rpc__reply_threads=7)
    other = harness.configuration()
    assert (one.metrics.port, one.rpc.reply_threads) == (4711, 7)
    assert (other.metrics.port, other.rpc.reply_threads) == (None, 4)


@pytest.fixture
def directory() -> Iterator[pathlib.Path]:
    """One that all may look into, as /etc/attachworker."""
    # Where TMPDIR leads to may be closed to others.
    with tempfile.TemporaryDirectory(dir='/tmp') as made:
        os.chmod(made, 0o755)
        yield pathlib.Path(made)


@contextlib.contextmanager
def no_root() -> Iterator[None]:
    """Be a user who may not read everything."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.mark.parametrize(
    'closed',
    [
        '.',
        'attachworker.conf',
        'attachworker.conf.d',
        'attachworker.conf.d/a.conf',
    ],
)
def test_a_configuration_that_may_not_be_read_is_not_taken_for_none(
    directory: pathlib.Path, closed: str
) -> None:
    # Given a configuration in two files, of which some is closed to us
    (directory / 'attachworker.conf').write_text('[DEFAULT]\n')
    (directory / 'attachworker.conf.d').mkdir()
    (directory / 'attachworker.conf.d/a.conf').write_text('[DEFAULT]\n')
    with no_root():
        conf.check_readable(directory)
    path = directory / closed
    path.chmod(0)
    # Then it is named
    with no_root(), pytest.raises(cfg.ConfigFileParseError) as raised:
        conf.check_readable(directory)
    path.chmod(0o755)
    assert str(path) in str(raised.value)
    assert 'allowed to read' in str(raised.value)


def test_a_host_without_a_configuration_is_none_that_cannot_be_read(
    tmp_path: pathlib.Path,
) -> None:
    conf.check_readable(tmp_path / 'no')
    conf.check_readable(tmp_path)


def test_a_directory_is_no_configuration(tmp_path: pathlib.Path) -> None:
    (tmp_path / 'attachworker.conf').mkdir()
    with pytest.raises(cfg.ConfigFileParseError):
        conf.check_readable(tmp_path)
