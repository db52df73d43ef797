# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Options that change while a worker runs."""

from collections.abc import Iterator
import time
from typing import Any

import pytest

from tests import harness
from tests.contract import bed as beds


@pytest.fixture
def running(bed: beds.Bed) -> Iterator[harness.Harness]:
    """A worker of its own: its options change."""
    with harness.Harness(bed) as worker:
        yield worker


def change(worker: harness.Harness, **values: Any) -> None:
    for name, value in values.items():
        group, _, option = name.rpartition('__')
        worker.conf.set_override(option, value, group=group or None)
    worker.worker.take_over_options()


def test_the_next_operation_has_the_new_options(
    bed: beds.Bed, running: harness.Harness
) -> None:
    # Given storage that the worker may reach no more
    volume = bed.create_volume()
    change(running, portal_networks=['192.0.2.0/24'])
    result = running.attach(volume)
    assert result.error.code == 'invalid_connection_info', result.as_dict()
    assert 'portal_networks' in result.error.message
    # When it may again
    change(running, portal_networks=beds.NETWORKS)
    assert running.attach(volume).status == 'attached'
    assert running.detach(volume.name).status == 'detached'
    # And one that waits for storage waits as long as the options say now
    bed.hang_portal(volume.portals[0])
    for options in (
        {'default_deadline': 2, 'iscsi__login_timeout': 600},
        {'default_deadline': 600, 'iscsi__login_timeout': 2},
    ):
        change(running, **options)
        began = time.monotonic()
        result = running.attach(volume, deadline_seconds=None)
        assert result.status == 'failed', result.as_dict()
        assert time.monotonic() - began < 60
    bed.start_portal(volume.portals[0])


def test_what_storage_is_told_changes(running: harness.Harness) -> None:
    change(running, my_ip='192.0.2.7')
    properties = running.api.get_connector_properties({}, running.name)
    assert properties['ip'] == '192.0.2.7'
