# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What is asked for many volumes at the same time, and what came of it."""

from collections.abc import Sequence
from typing import Any

import oslo_messaging as messaging

from attachworker import casts
from attachworker import objects
from tests import harness
from tests.contract.bed import Volume

#: What is asked for in a round: an attach, one that is refused, a detach.
WANTED = ('attached', 'attachment_conflict', 'detached')
#: Seconds for all of it, where other tests take the processors.
PATIENCE = 900


class Watched(casts.Casts):
    """Knows each result that came, also those that came twice."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.came: list[objects.OperationResult] = []
        super().__init__(*arguments, **options)

    @messaging.expose
    def operation_finished(
        self, ctxt: Any, result: objects.OperationResult
    ) -> None:
        self.came.append(result)
        super().operation_finished(ctxt, result)

    def has(self, results: int) -> bool:
        return len({each.request_id for each in self.came}) >= results


class Story:
    """What is asked for one volume, one after another, and what came of it.

    :param rounds: how often it is attached and detached
    :ivar results: by request_id
    :ivar outcomes: status or error code, in order
    """

    def __init__(self, volume: Volume, rounds: int) -> None:
        self.rounds = rounds
        self._volume = volume
        self.results: dict[str, objects.OperationResult] = {}
        self.outcomes: list[str] = []

    def tell(self, through: casts.Casts) -> None:
        for _round in range(self.rounds):
            self._ask(through, self._attach())
            # Another connection for the same attachment: that is refused.
            self._ask(through, self._attach(multipath=True))
            self._ask(
                through,
                harness.detach_request(
                    self._volume.name, deadline_seconds=PATIENCE
                ),
            )

    def _attach(self, **values: Any) -> objects.AttachRequest:
        return harness.attach_request(
            self._volume, deadline_seconds=PATIENCE, **values
        )

    def _ask(self, through: casts.Casts, request: objects.AnyRequest) -> None:
        result = through.send(request).result(PATIENCE)
        self.results[request.request_id] = result
        self.outcomes.append(
            result.error.code if result.error else result.status
        )


def check(
    stories: Sequence[Story], came: list[objects.OperationResult]
) -> None:
    """Each request has the result that it must have, and no other one."""
    results: dict[str, objects.OperationResult] = {}
    for one in stories:
        assert one.outcomes == [*WANTED] * one.rounds
        results |= one.results
    assert len(results) == len(WANTED) * sum(one.rounds for one in stories)
    for each in came:
        assert each.as_dict() == results[each.request_id].as_dict()
    print(f'{len(came)} deliveries of {len(results)} results')
