# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Graphs of tasks, one a file, and the engine that runs them.

The keys of the store, each with the task that provides it:

``connector``
    GetConnector: the connector of the volume's protocol.
``targets``
    DiscoverTargets: all targets that lead to the volume.
``outcome:TARGET``
    ConnectTarget: a PathOutcome for each target of the request.
``outcomes``
    GatherPaths: all of them, in the order of the request.
``wwn``
    FindWwn: the identifier of the volume.
``map``
    MapMultipath: the volume's multipath map; None if there is none.
    FindMap: the same, of a volume to be detached.
``old_size``, ``size``
    FindLivePaths, VerifySize: bytes before and after an extend.
``sizes``
    ResizeEncryption: both, of the device that the caller has.
``device``
    VerifyDevice: the DeviceInfo of the answer.
``opened``
    OpenEncryption: the same, of a volume that is opened with a key.
``paths``
    FindPaths: the devices that a detach is about.
"""
