# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What an operation costs the worker, on hosts that are simulated.

It needs no lab and no root, but a RabbitMQ of its own, which it starts. It
fails when something was not attached as it should be, never because of a
figure: those depend on the machine.
"""

import argparse
import json
import logging
import os
import pathlib
import statistics
import sys
import time
from typing import Any

# Before anything else: the import chooses the threading backend.
from attachworker import threading_backend  # noqa: F401
from benchmarks import hosts
from benchmarks import loads
from tests.functional import rabbitmq

#: At most this: milliseconds of processor time, switches, milliseconds until
#: the answer, and how often the latency of the same with none of the others.
AIMS: dict[str, dict[str, float]] = {
    loads.ATTACH: {'cpu': 15, 'switches': 80},
    loads.SESSION_BESIDE_SESSIONS: {'times': 1.2},
    loads.SESSION_BESIDE_LUNS: {'times': 1.2},
    loads.LUN_BESIDE_LUNS: {'times': 1.2},
    loads.LIST: {'latency': 150},
    loads.AUDIT: {'latency': 200},
}


def main() -> int:
    names = [load.name for load in loads.LOADS]
    parser = argparse.ArgumentParser(prog='python -m benchmarks.simulated')
    parser.add_argument(
        '--rounds',
        type=int,
        default=5,
        help='how often everything is measured (default: 5)',
    )
    parser.add_argument(
        '--load',
        action='append',
        default=[],
        choices=names,
        help='what is measured (default: all)',
    )
    parser.add_argument(
        '--against',
        type=pathlib.Path,
        metavar='CHECKOUT',
        help='another checkout of the project with its .venv, whose worker '
        'is measured in turn with this one',
    )
    parser.add_argument('--json', type=pathlib.Path, metavar='FILE')
    arguments = parser.parse_args()
    # That many callers in one process are seldom meant.
    logging.getLogger('oslo_messaging').setLevel(logging.ERROR)
    checkouts = {'attachworker': hosts.HERE}
    if arguments.against:
        checkouts = {
            str(arguments.against): arguments.against.resolve(strict=True),
            'this checkout': hosts.HERE,
        }
    chosen = [
        load for load in loads.LOADS if load.name in (arguments.load or names)
    ]
    if not rabbitmq.is_installed():
        print(
            'benchmark: rabbitmq-server is not installed; tools/setup.sh '
            'installs it, as root',
            file=sys.stderr,
        )
        return 1
    machine = {
        'date': time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime()),
        'cpus': os.cpu_count(),
        'load_before': os.getloadavg()[0],
    }
    try:
        samples = _measure(chosen, checkouts, arguments.rounds)
    except hosts.WrongResult as error:
        print(f'benchmark: {error}', file=sys.stderr)
        return 1
    figures = summary(samples, machine)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + '\n')
    print(table(figures))
    return 0


def _measure(
    chosen: list[type[loads.Load]],
    checkouts: dict[str, pathlib.Path],
    rounds: int,
) -> loads.Samples:
    samples: loads.Samples = {}
    with rabbitmq.RabbitMQNode() as broker:
        for kind in chosen:
            print(f'    {kind.name}: is prepared', file=sys.stderr)
            load = kind(broker.url, checkouts)
            try:
                # The first round fills caches and is not counted.
                for number in range(rounds + 1):
                    if number == 1:
                        for costs in load.samples.values():
                            costs.clear()
                    load.round(number)
                    print(f'    {kind.name}: round {number}', file=sys.stderr)
            finally:
                load.close()
            samples |= load.samples
    return samples


def summary(samples: loads.Samples, machine: dict[str, Any]) -> dict[str, Any]:
    """Medians and spreads: milliseconds, and switches.

    :param machine: when and where it was measured
    """
    return {
        'machine': machine,
        'cases': [
            _case(
                case,
                who,
                costs,
                samples.get((loads.COMPARED.get(case, ''), who)),
            )
            for (case, who), costs in sorted(
                samples.items(), key=lambda item: _ORDER.index(item[0][0])
            )
        ],
    }


_ORDER = [
    loads.ECHO,
    loads.ATTACH,
    loads.DETACH,
    loads.ATTACH_SESSION,
    loads.DETACH_SESSION,
    loads.ATTACH_BURST,
    loads.DETACH_BURST,
    loads.SESSION,
    loads.SESSION_BESIDE_SESSIONS,
    loads.SESSION_BESIDE_LUNS,
    loads.LUN,
    loads.LUN_BESIDE_LUNS,
    loads.LIST,
    loads.AUDIT,
]


def _case(
    case: str,
    who: str,
    costs: list[hosts.Cost],
    alone: list[hosts.Cost] | None,
) -> dict[str, Any]:
    found: dict[str, Any] = {
        'case': case,
        'who': who,
        'cpu': _spread([cost.cpu * 1000 for cost in costs]),
        'switches': _spread([cost.switches for cost in costs]),
        'latency': _spread([cost.latency * 1000 for cost in costs]),
        'aims': AIMS.get(case, {}),
    }
    if alone is not None:
        # Measured right after one another: what else the machine does is
        # in both.
        found['times'] = round(
            statistics.median(
                cost.latency / other.latency
                for cost, other in zip(costs, alone, strict=True)
            ),
            2,
        )
    return found


def _spread(values: list[float]) -> dict[str, Any]:
    return {
        'median': round(statistics.median(values), 2),
        'min': round(min(values), 2),
        'max': round(max(values), 2),
        'count': len(values),
    }


def table(figures: dict[str, Any]) -> str:
    """What people read."""
    machine = figures['machine']
    lines = [
        f'{machine["date"]}, {machine["cpus"]} CPUs, load before '
        f'{machine["load_before"]:.1f}'
    ]
    if machine['load_before'] > 0.5:
        lines.append('The machine was busy: latencies UNDER LOAD.')
    lines += [
        '',
        'Medians (min to max), of one operation. Processor time and context',
        'switches are those of the process that was asked, all its threads;',
        'the latency is what its caller has seen.',
        '',
        f'{"":18}{"processor, ms":24}{"switches":>8}    latency, ms',
    ]
    before = None
    for one in figures['cases']:
        if one['case'] != before:
            lines += ['', one['case']]
            before = one['case']
        lines.append(
            f'  {one["who"][-14:]:16}{_text(one["cpu"]):24}'
            f'{one["switches"]["median"]:8.0f}    {_text(one["latency"])}'
        )
        lines += [f'    {text}' for text in _remarks(one)]
    return '\n'.join(lines)


def _remarks(one: dict[str, Any]) -> list[str]:
    remarks = []
    if one['case'] in (loads.ATTACH_BURST, loads.DETACH_BURST):
        remarks.append(f'{1000 / one["latency"]["median"]:.1f} a second')
    for name, aim in one['aims'].items():
        if name == 'times':
            remarks.append(
                f'latency {one[name]:.2f} x with none (aim: at most {aim:g})'
            )
        else:
            remarks.append(f'aim: {_UNITS[name]} at most {aim:g}')
    return remarks


_UNITS = {'cpu': 'processor', 'switches': 'switches', 'latency': 'latency'}


def _text(spread: dict[str, Any]) -> str:
    return (
        f'{spread["median"]:.1f} ({spread["min"]:.1f} to {spread["max"]:.1f})'
    )


if __name__ == '__main__':
    sys.exit(main())
