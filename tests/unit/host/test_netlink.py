# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The kernel's own uevents; nothing is changed to make some."""

import select

import pytest

from attachworker.host import netlink


@pytest.fixture
def source() -> netlink.NetlinkSource:
    try:
        return netlink.NetlinkSource()
    except (OSError, ImportError) as error:
        pytest.skip(f'no netlink here: {error}')


def test_nothing_now(source: netlink.NetlinkSource) -> None:
    """It can be polled, and says so when there is nothing."""
    readable, _, _ = select.select([source.fileno()], [], [], 0)
    while readable:  # the machine may be busy with something
        event = source.receive()
        assert event is None or event['DEVPATH'].startswith('/')
        readable, _, _ = select.select([source.fileno()], [], [], 0)
    assert source.receive() is None
    source.close()
