# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What has hurt people elsewhere; see doc/source/contributor/reports.rst."""

from collections.abc import Callable
from collections.abc import Iterator
import time
from typing import Any

import pytest

from tests import harness
from tests.contract import bed as beds
from tests.contract import test_attach as steps


@pytest.fixture
def multipathd(bed: beds.Bed) -> Iterator[Callable[..., None]]:
    """Changes the settings of multipathd, for this test."""
    yield bed.set_multipathd
    bed.set_multipathd()


def without_id(volume: beds.Volume) -> dict[str, Any]:
    """As a caller asks for a volume who has no name of his own for it."""
    info = volume.connection_info()
    del info['data']['volume_id']
    return info


@pytest.mark.parametrize('multipath', [False, True])
@pytest.mark.parametrize('portals', [1, 2])
def test_two_volumes_that_the_storage_gives_one_identity(
    bed: beds.Bed, worker: harness.Harness, multipath: bool, portals: int
) -> None:
    """rackerlabs/genestack 451, ClusterLabs/resource-agents 1463.

    tgt numbers its volumes by target and LUN: those of two hosts are alike.
    """
    # Given two volumes on two targets with one identifier and serial number
    first = bed.create_volume(portals=portals)
    second = bed.create_volume(portals=portals, like=first)
    assert (first.wwn, first.size) == (second.wwn, second.size)
    before = bed.snapshot()
    device = steps.attached(worker, first, multipath=multipath).device
    during = bed.snapshot()
    # When both are to be attached, then nobody gets the other one's data
    result = worker.attach(second, multipath=multipath)
    assert result.error.code == 'identity_mismatch', result.as_dict()
    assert first.name in result.error.message
    assert result.leftovers == []
    # And what was attached stays as it was
    assert bed.read(device.path) == first.pattern
    assert bed.snapshot() == during
    steps.detached(worker, first.name)
    assert bed.snapshot() == before


@pytest.mark.parametrize('multipath', [False, True])
def test_an_identity_that_is_made_of_target_and_lun_alone(
    bed: beds.Bed, worker: harness.Harness, multipath: bool
) -> None:
    """The same, and no caller says which volume he means."""
    # Given two volumes whose identifier no company vouches for
    first = bed.create_volume(company='000000')
    second = bed.create_volume(like=first, company='000000')
    before = bed.snapshot()
    device = steps.attached(
        worker,
        first,
        multipath=multipath,
        connection_info=without_id(first),
    ).device
    during = bed.snapshot()
    # When both are to be attached, then nobody gets the other one's data
    result = worker.attach(
        second, multipath=multipath, connection_info=without_id(second)
    )
    assert result.error.code == 'identity_mismatch', result.as_dict()
    assert result.leftovers == []
    assert bed.read(device.path) == first.pattern
    assert bed.snapshot() == during
    # And the same volume once more is the same volume
    again = steps.attached(
        worker,
        first,
        attachment_id='again',
        multipath=multipath,
        connection_info=without_id(first),
    ).device
    assert again.path == device.path
    steps.detached(worker, first.name)
    steps.detached(worker, 'again')
    assert bed.snapshot() == before


def test_multipathd_is_to_leave_the_disks_alone(
    bed: beds.Bed,
    worker: harness.Harness,
    multipathd: Callable[..., None],
) -> None:
    """dell/csm 1345; longhorn/longhorn 1210 tells people to do this."""
    # Given a host whose multipath.conf has all disks on its blacklist
    multipathd(find_multipaths=None, blacklist=True)
    volume = bed.create_volume(portals=2)
    before = bed.snapshot()
    # When a map is demanded, then the caller is told why there is none
    started = time.monotonic()
    result = worker.attach(volume, multipath=True, enforce_multipath=True)
    assert result.error.code == 'multipath_failed', result.as_dict()
    assert 'blacklist' in result.error.message
    assert result.leftovers == []
    # And when it is only asked for, then the disk is what there is
    result = steps.attached(worker, volume, multipath=True)
    assert (result.device.multipath_id, result.device.degraded) == (None, True)
    assert 'blacklist' in ' '.join(result.warnings)
    assert bed.read(result.device.path) == volume.pattern
    # And neither had to wait for what does not come
    assert time.monotonic() - started < 25
    steps.detached(worker, volume.name)
    assert bed.snapshot() == before
