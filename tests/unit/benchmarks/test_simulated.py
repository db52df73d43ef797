# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

import re

from benchmarks import hosts
from benchmarks import loads
from benchmarks import simulated

MACHINE = {'date': '2026-01-01 00:00 UTC', 'cpus': 2, 'load_before': 0.1}


def costs(*latencies: float) -> list[hosts.Cost]:
    return [hosts.Cost(each / 10, each * 100, each) for each in latencies]


def test_a_cost_of_several_operations_is_divided_among_them() -> None:
    assert hosts.Cost(2.0, 80.0, 4.0).each(4) == hosts.Cost(0.5, 20.0, 1.0)


def test_medians_are_in_milliseconds_and_switches() -> None:
    figures = simulated.summary(
        {(loads.ATTACH, 'attachworker'): costs(0.1, 0.2, 0.9)}, MACHINE
    )

    (case,) = figures['cases']
    assert case['cpu']['median'] == 20.0
    assert case['switches']['median'] == 20.0
    assert case['latency'] == {
        'median': 200.0,
        'min': 100.0,
        'max': 900.0,
        'count': 3,
    }


def test_growth_is_the_median_ratio_of_neighbours() -> None:
    figures = simulated.summary(
        {
            (loads.SESSION, 'old'): costs(1.0, 2.0, 3.0),
            (loads.SESSION, 'new'): costs(1.0, 10.0, 1.0),
            (loads.SESSION_BESIDE_SESSIONS, 'old'): costs(3.0, 6.0, 9.0),
            (loads.SESSION_BESIDE_SESSIONS, 'new'): costs(1.1, 11.0, 1.1),
        },
        MACHINE,
    )

    found = {
        one['who']: one['times']
        for one in figures['cases']
        if one['case'] == loads.SESSION_BESIDE_SESSIONS
    }
    assert found == {'old': 3.0, 'new': 1.1}


def test_the_table_has_cases_in_order_with_figures_and_aims() -> None:
    table = simulated.table(
        simulated.summary(
            {
                (loads.ATTACH_BURST, 'attachworker'): costs(0.1),
                (loads.ATTACH, 'attachworker'): costs(0.02),
                (loads.ECHO, 'oslo.messaging'): costs(0.01),
            },
            MACHINE,
        )
    )

    assert re.search(
        f'{loads.ECHO}.*1.0.*{loads.ATTACH}.*2.0.*processor at most 15.*'
        f'{loads.ATTACH_BURST}.*10.0 a second',
        table,
        re.DOTALL,
    )
    assert 'UNDER LOAD' not in table


def test_latencies_of_a_busy_machine_are_marked() -> None:
    table = simulated.table(
        simulated.summary(
            {(loads.ECHO, 'oslo.messaging'): costs(0.01)},
            MACHINE | {'load_before': 3.0},
        )
    )

    assert 'UNDER LOAD' in table
