# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Which entries of the lists of nvme-cli exclude a connection."""

import pytest

from attachworker.connectors.nvmeof import exclusions

NQN = 'nqn.2014-08.org.example:one'
OPTIONS = {
    'transport': 'tcp',
    'traddr': '2001:db8::1',
    'trsvcid': '4420',
    'nqn': NQN,
    'hostnqn': 'nqn.2014-08.org.example:host',
    'hostid': '0a1b2c3d-0000-4000-8000-000000000001',
}


def match(*lines: str) -> str | None:
    return exclusions.match('\n'.join(lines), OPTIONS)


@pytest.mark.parametrize(
    'entry',
    [
        f'nqn={NQN}',
        'transport=tcp',
        'traddr=2001:DB8:0::1',
        'transport=tcp;traddr=2001:db8::1;trsvcid=4420',
        ' transport = tcp ; trsvcid = 4420 ; ',
        f'hostid={OPTIONS["hostid"]}',
    ],
)
def test_what_has_all_values_of_an_entry_is_excluded(entry: str) -> None:
    assert match('# why', '[exclusions]', '', f'exclusion = {entry}')


@pytest.mark.parametrize(
    'entry',
    [
        '',
        ';',
        f'nqn={NQN}x',
        f'nqn={NQN.upper()}',
        'transport=tcp;trsvcid=4421',
        'traddr=192.0.2.1',
        'traddr=x',
        # of which nothing is said
        'host-iface=eth0',
        'host-traddr=192.0.2.9',
        # what makes no sense excludes nothing
        f'nqn={NQN};nqm=x',
        f'nqn={NQN};subsysnqn={NQN}',
        f'nqn={NQN};tcp',
        f'nqn={NQN};transport=',
    ],
)
def test_what_lacks_one_is_not(entry: str) -> None:
    assert match('[exclusions]', f'exclusion = {entry}') is None


def test_entries_count_in_their_section_only() -> None:
    entry = f'exclusion = nqn={NQN}'
    assert match(entry) is None
    assert match('[other]', entry) is None
    assert match('[exclusions]', '[other]', entry) is None
    assert match('[exclusions', entry) is None
    assert match('[exclusions]', f'#{entry}') is None
    assert match('[exclusions]', f'exclude = nqn={NQN}') is None
    found = match('[ exclusions ]', 'exclusion=transport=rdma', entry)
    assert found == f'nqn={NQN}'
