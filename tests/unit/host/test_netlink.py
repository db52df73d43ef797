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
