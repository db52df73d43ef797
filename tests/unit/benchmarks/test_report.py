# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

from typing import Any

from benchmarks import report

MACHINE = {'date': '2026-01-01 00:00 UTC', 'cpus': 2, 'load_before': 0.1}


def taken(*seconds: float) -> list[dict[str, Any]]:
    return [
        {'seconds': each, 'steps': {'FindWwn': each / 4}} for each in seconds
    ]


def samples(**by_contestant: list[dict[str, Any]]) -> dict[str, Any]:
    names = {
        name.replace('_', '-'): each for name, each in by_contestant.items()
    }
    return {
        'new session': {
            name: {'connect': each, 'disconnect': each}
            for name, each in names.items()
        }
    }


def test_a_median_is_compared_with_the_floor_and_with_os_brick() -> None:
    figures = report.summary(
        samples(
            floor=taken(1.0, 1.0, 9.0),
            attachworker=taken(2.0, 1.0, 3.0),
            os_brick=taken(8.0, 8.0, 8.0),
        ),
        MACHINE,
    )

    connect = figures['cases'][0]
    assert connect['times_floor'] == 2.0
    assert connect['faster_than_os_brick'] == 4.0
    assert connect['steps'] == {'FindWwn': 0.5}
    assert connect['seconds']['attachworker'] == {
        'median': 2.0,
        'min': 1.0,
        'max': 3.0,
        'count': 3,
    }


def test_figures_of_a_busy_machine_are_marked() -> None:
    each = samples(
        floor=taken(1.0), attachworker=taken(1.0), os_brick=taken(1.0)
    )

    quiet = report.table(report.summary(each, MACHINE))
    busy = report.table(report.summary(each, MACHINE | {'load_before': 3.0}))

    assert 'UNDER LOAD' not in quiet
    assert 'UNDER LOAD' in busy
