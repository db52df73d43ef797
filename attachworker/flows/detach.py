# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""The flow that detaches a volume; run again until it has succeeded."""

from taskflow import flow
from taskflow.patterns import linear_flow

from attachworker.tasks import attach
from attachworker.tasks import detach
from attachworker.tasks import encryption
from attachworker.tasks import multipath
from attachworker.tasks.run import Run


def build(run: Run) -> flow.Flow:
    return linear_flow.Flow('detach').add(
        attach.GetConnector(run),
        detach.FindPaths(run),
        multipath.FindMap(run),
        detach.CheckUnused(run),
        detach.FlushDevice(run),
        detach.RecordDetaching(run),
        encryption.CloseEncryption(run),
        multipath.RemoveMap(run),
        *(detach.DisconnectTarget(run, target) for target in run.targets),
        detach.VerifyGone(run),
    )
