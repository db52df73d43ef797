# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Ports that answer but do not serve: standby and unavailable (ALUA).

What such a path cannot tell is unknown. It is not different from what the
other paths tell.
"""

import pytest

from tests import harness
from tests.contract import bed as beds
from tests.contract import test_attach as steps
from tests.contract import test_extend
from tests.contract import test_multipath

STATES = ['standby', 'unavailable']


@pytest.mark.parametrize('port', [0, 1])
@pytest.mark.parametrize('state', STATES)
def test_a_map_has_the_path_of_a_port_that_does_not_serve(
    bed: beds.Bed, worker: harness.Harness, state: str, port: int
) -> None:
    # Given a volume behind two ports, of which one serves
    volume = bed.create_volume(portals=2)
    before = bed.snapshot()
    bed.set_access(volume, volume.portals[port], state)
    # When it is attached with multipath
    device = test_multipath.attached(worker, volume, min_paths=2).device
    # Then its map has both paths, and the volume's data and size
    assert [one.state for one in device.paths] == ['connected'] * 2
    assert device.size == volume.size
    assert bed.read(device.path) == volume.pattern
    steps.detached(worker, volume.name)
    assert bed.snapshot() == before


@pytest.mark.parametrize('state', STATES)
def test_another_attachment_joins_while_a_port_does_not_serve(
    bed: beds.Bed, worker: harness.Harness, state: str
) -> None:
    # Given an attachment, one of whose ports does not serve any more
    volume = bed.create_volume(portals=2)
    before = bed.snapshot()
    first = test_multipath.attached(worker, volume, min_paths=2).device
    bed.set_access(volume, volume.portals[0], state)
    # When the volume is attached once more
    result = worker.attach(volume, 'second', multipath=True, min_paths=2)
    # Then that one has the same map
    assert result.status == 'attached', result.as_dict()
    assert result.device.path == first.path
    assert bed.read(first.path) == volume.pattern
    result = worker.detach('second')
    assert result.status == 'detached', result.as_dict()
    steps.detached(worker, volume.name)
    assert bed.snapshot() == before


@pytest.mark.parametrize('port', [0, 1])
@pytest.mark.parametrize('state', STATES)
def test_without_a_map_the_port_that_serves_is_used(
    bed: beds.Bed, worker: harness.Harness, state: str, port: int
) -> None:
    # Given a volume behind two ports, of which one serves
    volume = bed.create_volume(portals=2)
    before = bed.snapshot()
    bed.set_access(volume, volume.portals[port], state)
    # When it is attached without multipath
    device = steps.attached(worker, volume).device
    # Then its device is the one that can be read, and the only one
    (path,) = [one for one in device.paths if one.state == 'connected']
    assert path.portal == volume.portals[1 - port]
    assert bed.read(device.path) == volume.pattern
    steps.detached(worker, volume.name)
    assert bed.snapshot() == before


@pytest.mark.parametrize('state', STATES)
def test_no_port_serves(
    bed: beds.Bed, worker: harness.Harness, state: str
) -> None:
    # Given a volume that cannot be read through any port
    volume = bed.create_volume(portals=2)
    before = bed.snapshot()
    for portal in volume.portals:
        bed.set_access(volume, portal, state)
    # When it is attached, then the attach fails and says why
    result = worker.attach(volume)
    assert result.status == 'failed', result.as_dict()
    assert 'standby' in result.error.message
    # And nothing is left
    assert result.leftovers == []
    assert bed.snapshot() == before


@pytest.mark.parametrize('port', [0, 1])
@pytest.mark.parametrize('state', STATES)
def test_a_map_grows_while_a_port_does_not_serve(
    bed: beds.Bed, worker: harness.Harness, state: str, port: int
) -> None:
    # Given a map, one of whose ports does not serve any more
    volume = bed.create_volume(portals=2, resizable=True)
    before = bed.snapshot()
    device = test_multipath.attached(worker, volume, min_paths=2).device
    bed.set_access(volume, volume.portals[port], state)
    # When the volume has grown, and is extended
    size = volume.size * 2
    bed.resize_volume(volume, size)
    result = test_extend.extend(worker, volume.name, expected_size=size)
    # Then the map has the new size
    assert result.status == 'extended', result.as_dict()
    assert result.device.size == size
    assert bed.read(device.path) == volume.pattern
    steps.detached(worker, volume.name)
    assert bed.snapshot() == before
