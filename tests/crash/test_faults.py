# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A step whose time is over need not be waited for."""

import dataclasses
from typing import Any

import pytest

from attachworker import deadline as deadlines
from attachworker import exception
from tests.crash import faults


def _needed(run_class: Any) -> list[str]:
    return [
        field.name
        for field in dataclasses.fields(run_class)
        if field.default is field.default_factory is dataclasses.MISSING
    ]


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ('mode', 'moment'),
    [(faults.Mode.HANGS, 'before'), (faults.Mode.EXPIRES, 'after')],
)
def test_time_runs_out_in_the_step_that_is_armed(
    mode: faults.Mode, moment: str
) -> None:
    # Given an operation that has plenty of time, however slow it is
    run_class: Any = faults.failing(mode)
    run = run_class(
        **dict.fromkeys(_needed(run_class))
        | {'deadline': deadlines.Deadline.after(600)}
    )
    run_class.arm('Second')
    run.before('First')
    run.after('First')
    # When it comes to the step, then its deadline has passed
    with pytest.raises(exception.DeadlineExceeded):
        getattr(run, moment)('Second:one')
    assert run.deadline.passed
    assert run_class.step is None
