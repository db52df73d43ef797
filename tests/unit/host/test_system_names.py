# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The names of the machine, where only root may read them."""

import pathlib
from typing import Any

import pytest

from attachworker import privileged
from attachworker.connectors.iscsi import initiator
from attachworker.host import sysfs
from attachworker.host import system
from attachworker.privileged import system as privileged_system
from tests.unit.on_files import on_files

NAME = 'iqn.1993-08.org.debian:01:abc'


@pytest.fixture
def root(tmp_path: pathlib.Path) -> pathlib.Path:
    file = tmp_path / 'etc/iscsi/initiatorname.iscsi'
    file.parent.mkdir(parents=True)
    file.write_text(f'## a comment\nInitiatorName={NAME}\n')
    return tmp_path


@pytest.fixture
def forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are root's, and this is not root."""

    def refuse(*arguments: Any, **values: Any) -> str:
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(sysfs, 'read', refuse)


def initiator_name(root: pathlib.Path) -> str | None:
    return initiator.Initiator(on_files(root)).name()


def test_what_can_be_read(root: pathlib.Path) -> None:
    assert initiator_name(root) == NAME
    assert system.read(root, 'nqn') is None


@pytest.mark.usefixtures('forbidden')
def test_the_helper_reads_what_the_worker_may_not(
    root: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def read(name: str) -> str:
        asked.append(name)
        return f'InitiatorName={NAME}\n'

    monkeypatch.setattr(privileged_system, 'read', read)
    # Without a helper nobody is asked for one
    monkeypatch.setattr(privileged.readonly, 'channel', None)
    assert initiator_name(root) is None
    assert asked == []
    monkeypatch.setattr(privileged.readonly, 'channel', object())
    assert initiator_name(root) == NAME
    assert asked == ['initiator']
