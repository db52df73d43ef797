# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Figures from samples, and a table of them for people."""

import statistics
from typing import Any

KINDS = ('connect', 'disconnect')
#: What we want: at most this many times the floor, and at least this many
#: times as fast as os-brick.
AIMS = {
    ('new session', 'connect'): (1.25, 5.0),
    ('new session', 'disconnect'): (1.3, 4.0),
    ('existing session', 'connect'): (None, 30.0),
    ('existing session', 'disconnect'): (1.3, 4.0),
    ('map of two paths', 'connect'): (1.2, 2.5),
    ('map of two paths', 'disconnect'): (1.3, 4.0),
}


def summary(
    samples: dict[str, Any], machine: dict[str, Any]
) -> dict[str, Any]:
    """Seconds, ratios and aims of each case.

    :param samples: by case, contestant and kind, as the lab measured them
    :param machine: when and where that was
    """
    cases = []
    for case, by_contestant in samples.items():
        for kind in KINDS:
            seconds = {
                name: _spread([one['seconds'] for one in taken[kind]])
                for name, taken in by_contestant.items()
            }
            ours = by_contestant['attachworker'][kind]
            to_floor, to_os_brick = AIMS[case, kind]
            cases.append(
                {
                    'case': case,
                    'kind': kind,
                    'seconds': seconds,
                    'times_floor': _ratio(seconds, 'attachworker', 'floor'),
                    'aim_times_floor': to_floor,
                    'faster_than_os_brick': _ratio(
                        seconds, 'os-brick', 'attachworker'
                    ),
                    'aim_faster_than_os_brick': to_os_brick,
                    'steps': _steps([one['steps'] for one in ours]),
                }
            )
    return {'machine': machine, 'cases': cases}


def _spread(values: list[float]) -> dict[str, Any]:
    return {
        'median': round(statistics.median(values), 4),
        'min': round(min(values), 4),
        'max': round(max(values), 4),
        'count': len(values),
    }


def _ratio(seconds: dict[str, Any], one: str, other: str) -> float:
    ratio: float = seconds[one]['median'] / seconds[other]['median']
    return round(ratio, 2)


def _steps(steps: list[dict[str, float]]) -> dict[str, float]:
    return {
        name: round(statistics.median(one.get(name, 0.0) for one in steps), 4)
        for name in steps[0]
    }


def table(figures: dict[str, Any]) -> str:
    """What people read."""
    machine = figures['machine']
    lines = [
        f'{machine["date"]}, {machine["cpus"]} CPUs, load before '
        f'{machine["load_before"]:.1f}'
    ]
    if machine['load_before'] > 0.5:
        lines.append('The machine was busy: figures UNDER LOAD.')
    lines += ['', 'Seconds: median (min to max)']
    for one in figures['cases']:
        lines += ['', f'{one["case"]}, {one["kind"]}']
        for name, spread in one['seconds'].items():
            lines.append(
                f'  {name:14} {spread["median"]:7.3f} '
                f'({spread["min"]:.3f} to {spread["max"]:.3f}, '
                f'{spread["count"]} times)'
            )
        lines.append(
            f'  attachworker is {one["times_floor"]:.2f} x floor'
            + _aim('at most', one['aim_times_floor'])
        )
        lines.append(
            f'  and {one["faster_than_os_brick"]:.1f} x as fast as os-brick'
            + _aim('at least', one['aim_faster_than_os_brick'])
        )
        steps = ', '.join(
            f'{name} {taken:.3f}' for name, taken in one['steps'].items()
        )
        lines.append(f'  its time: {steps}')
    return '\n'.join(lines)


def _aim(what: str, aim: float | None) -> str:
    return '' if aim is None else f' (aim: {what} {aim:g})'
