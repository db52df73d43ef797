# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The part of a flow that has a step for each target."""

from collections.abc import Sequence

from taskflow import flow
from taskflow.patterns import unordered_flow

from attachworker.tasks import base


def together(steps: Sequence[base.Task]) -> flow.Flow | base.Task:
    """Steps that go on at the same time, in a flow of their own.

    A single one needs none, and without it the engine has less to do.
    """
    if len(steps) == 1:
        return steps[0]
    return unordered_flow.Flow('targets').add(*steps)
