# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""The flow before an attach whose request does not name all targets.

It is a flow of its own because the shape of the next one depends on them.
"""

from taskflow import flow
from taskflow.patterns import linear_flow

from attachworker.tasks import attach
from attachworker.tasks import discover
from attachworker.tasks.run import Run


def build(run: Run) -> flow.Flow:
    return linear_flow.Flow('discover').add(
        attach.GetConnector(run), discover.DiscoverTargets(run)
    )
