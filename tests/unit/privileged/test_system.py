# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Files that name the machine."""

import pathlib

import pytest

from attachworker.privileged import system

NAME = 'iqn.1993-08.org.debian:01:abc'


@pytest.mark.parametrize('name', ['', 'shadow', '/etc/shadow', '../shadow'])
def test_the_helper_reads_nothing_else(name: str) -> None:
    with pytest.raises(ValueError, match='not a name of this machine'):
        system.read(name)


def test_the_helper_tells_what_there_is(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / 'initiatorname.iscsi'
    path.write_text(f'InitiatorName={NAME}\n')
    monkeypatch.setitem(system.FILES, 'initiator', path)
    assert system.read('initiator') == f'InitiatorName={NAME}\n'
    path.unlink()
    assert system.read('initiator') is None
