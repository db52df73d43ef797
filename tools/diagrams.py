# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Diagrams of the flows, from the flows, for the documentation.

``python -m tools.diagrams`` writes them; a test sees that they are fresh.
"""

from collections.abc import Iterator
import pathlib
from typing import Any
from unittest import mock

from taskflow.flow import Flow
from taskflow.patterns import unordered_flow

from attachworker import flows
from attachworker import objects

FILE = (
    pathlib.Path(__file__).resolve().parents[1]
    / 'doc/source/contributor/flows.txt'
)

_TARGETS = [objects.Target(portal, 'target', 1) for portal in ('a', 'b')]


def text() -> str:
    """Each flow as a column of steps, as a volume with all options has it."""
    parts = []
    for build in (
        flows.discover,
        flows.attach,
        flows.detach,
        flows.extend,
        flows.rotate,
    ):
        flow = build(mock.Mock(targets=_TARGETS))
        parts.append('\n'.join([flow.name, *_arrows(list(_steps(flow)))]))
    return '\n\n'.join(parts) + '\n'


def _steps(flow: Flow) -> Iterator[str]:
    for part in flow:
        if not isinstance(part, Flow):
            yield _step(part)
        elif isinstance(part, unordered_flow.Flow):
            (name,) = {_step(one) for one in part}
            yield f'{name}, for all targets at the same time'
        else:
            yield from _steps(part)


def _step(task: Any) -> str:
    name = type(task).__name__
    return f'{name} (is undone)' if 'revert' in vars(type(task)) else name


def _arrows(steps: list[str]) -> Iterator[str]:
    *others, last = steps
    for step in others:
        yield f'  ├─▶ {step}'
    yield f'  └─▶ {last}'


def main() -> None:
    FILE.write_text(text(), encoding='utf-8')


if __name__ == '__main__':
    main()
