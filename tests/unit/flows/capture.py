# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Every state that a flow and its tasks go through."""

from typing import Any

from taskflow import engines
from taskflow.listeners import base
from taskflow.types import notifier


class Capture(base.Listener):
    """Notes states as TaskFlow's own tests do: ``name.t STATE``."""

    def __init__(self, engine: Any) -> None:
        super().__init__(
            engine,
            task_listen_for=(notifier.Notifier.ANY,),
            flow_listen_for=(notifier.Notifier.ANY,),
        )
        self.states: list[str] = []

    def _flow_receiver(self, state: str, details: dict[str, Any]) -> None:
        self.states.append(f'{details["flow_name"]}.f {state}')

    def _task_receiver(self, state: str, details: dict[str, Any]) -> None:
        self.states.append(f'{details["task_name"]}.t {state}')


def states(flow: Any) -> list[str]:
    """Run a flow, one step at a time; whatever it raises is swallowed."""
    engine = engines.load(flow, engine='serial')
    with Capture(engine) as capture:
        try:
            engine.run()
        except Exception as error:
            capture.states.append(f'raised {type(error).__name__}')
    return capture.states
