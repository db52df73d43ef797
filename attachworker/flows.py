# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What each operation does, step by step: the table of contents of the worker.

The keys of the store, each with the task that provides it:

``targets``
    DiscoverTargets: all targets that lead to the volume.
``map``
    MapMultipath: the volume's multipath map; None if there is none.
    FindMap: the same, of a volume to be detached.
``old_size``, ``size``
    FindLivePaths, VerifySize: bytes before and after an extend.
``sizes``
    ResizeEncryption: both, of the device that the caller has.
``old_opens``, ``new_opens``
    CheckKeys: whether the old key, the new one, opens the volume already.
``device``
    VerifyDevice: the DeviceInfo of the answer.
``opened``
    OpenEncryption: the same, of a volume that is opened with a key.
``paths``
    GatherPaths: those that are connected, in the order of the request.
    FindPaths, FindLivePaths: the devices that a detach, an extend is about.
"""

from taskflow.flow import Flow
from taskflow.patterns import linear_flow
from taskflow.patterns import unordered_flow

from attachworker.tasks.attach import ConnectTarget
from attachworker.tasks.attach import DiscoverTargets
from attachworker.tasks.attach import FindWwn
from attachworker.tasks.attach import GatherPaths
from attachworker.tasks.attach import GetConnector
from attachworker.tasks.attach import VerifyDevice
from attachworker.tasks.detach import CheckUnused
from attachworker.tasks.detach import DisconnectTarget
from attachworker.tasks.detach import FindPaths
from attachworker.tasks.detach import FlushDevice
from attachworker.tasks.detach import RecordDetaching
from attachworker.tasks.detach import VerifyGone
from attachworker.tasks.encryption import CloseEncryption
from attachworker.tasks.encryption import OpenEncryption
from attachworker.tasks.encryption import ResizeEncryption
from attachworker.tasks.extend import FindLivePaths
from attachworker.tasks.extend import RescanPaths
from attachworker.tasks.extend import ResizeMap
from attachworker.tasks.extend import VerifySize
from attachworker.tasks.multipath import FindMap
from attachworker.tasks.multipath import MapMultipath
from attachworker.tasks.multipath import RemoveMap
from attachworker.tasks.rotate import AddKey
from attachworker.tasks.rotate import CheckKeys
from attachworker.tasks.rotate import RemoveKey
from attachworker.tasks.rotate import VerifyKeys
from attachworker.tasks.run import Run


def discover(run: Run) -> Flow:
    """Find the targets that the request of an attach does not name.

    It is a flow of its own because the shape of the next one depends on them.
    """
    return linear_flow.Flow('discover').add(
        GetConnector(run), DiscoverTargets(run)
    )


def attach(run: Run) -> Flow:
    """Attach a volume; undone as a whole if a step fails."""
    targets = unordered_flow.Flow('targets')
    targets.add(*(ConnectTarget(run, target) for target in run.targets))
    whole = linear_flow.Flow('attach').add(
        GetConnector(run),
        targets,
        GatherPaths(run),
        FindWwn(run),
        MapMultipath(run),
        VerifyDevice(run),
    )
    if run.encryption is not None:
        whole.add(OpenEncryption(run))
    return whole


def detach(run: Run) -> Flow:
    """Detach a volume; run again until it has succeeded."""
    targets = unordered_flow.Flow('targets')
    targets.add(*(DisconnectTarget(run, target) for target in run.targets))
    return linear_flow.Flow('detach').add(
        GetConnector(run),
        FindPaths(run),
        FindMap(run),
        CheckUnused(run),
        FlushDevice(run),
        RecordDetaching(run),
        CloseEncryption(run),
        RemoveMap(run),
        targets,
        VerifyGone(run),
    )


def extend(run: Run) -> Flow:
    """Take over a volume's new size; it can be run again."""
    return linear_flow.Flow('extend').add(
        GetConnector(run),
        FindLivePaths(run),
        RescanPaths(run),
        ResizeMap(run),
        VerifySize(run),
        ResizeEncryption(run),
    )


def rotate(run: Run) -> Flow:
    """Give a volume that is open another key; it can be run again."""
    return linear_flow.Flow('rotate').add(
        GetConnector(run),
        CheckKeys(run),
        AddKey(run),
        RemoveKey(run),
        VerifyKeys(run),
    )
