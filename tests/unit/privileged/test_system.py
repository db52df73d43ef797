# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

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
