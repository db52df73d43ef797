# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""The flow that attaches a volume; undone as a whole if a step fails."""

from taskflow import flow
from taskflow.patterns import linear_flow

from attachworker.tasks import attach
from attachworker.tasks import encryption
from attachworker.tasks import multipath
from attachworker.tasks.run import Run


def build(run: Run) -> flow.Flow:
    whole = linear_flow.Flow('attach').add(
        attach.GetConnector(run),
        attach.StartAttempts(run),
        *(attach.ConnectTarget(run, target) for target in run.targets),
        attach.GatherPaths(run),
        attach.FindWwn(run),
        multipath.MapMultipath(run),
        attach.VerifyDevice(run),
    )
    if run.encryption is not None:
        whole.add(encryption.OpenEncryption(run))
    return whole
