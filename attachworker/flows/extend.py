# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The flow that takes over a volume's new size; it can be run again."""

from taskflow import flow
from taskflow.patterns import linear_flow

from attachworker.tasks import attach
from attachworker.tasks import encryption
from attachworker.tasks import extend
from attachworker.tasks.run import Run


def build(run: Run) -> flow.Flow:
    return linear_flow.Flow('extend').add(
        attach.GetConnector(run),
        extend.FindLivePaths(run),
        extend.RescanPaths(run),
        extend.ResizeMap(run),
        extend.VerifySize(run),
        encryption.ResizeEncryption(run),
    )
