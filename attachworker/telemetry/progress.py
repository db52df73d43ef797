# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""How operations go on: told to the log and to whoever else listens."""

from collections.abc import Iterable
from typing import Any

from oslo_log import log as logging

from attachworker import deadline as deadlines
from attachworker import exception

LOG = logging.getLogger(__name__)


class Listener:
    """Is told from any thread, and must not block.

    An operation is an :class:`attachworker.worker.operation.Operation`.
    """

    def start(self) -> None:
        """The worker begins."""

    def stop(self) -> None:
        """The worker ends."""

    def began(self, operation: Any, waited: float) -> None:
        """It comes to its first step.

        :param waited: seconds since it was accepted
        """

    def step_ended(
        self, operation: Any, step: str, elapsed: float, code: str | None
    ) -> None:
        """:param elapsed: seconds
        :param code: of the error, if it has failed
        """

    def ended(self, operation: Any, elapsed: float) -> None:
        """It has its result.

        :param elapsed: seconds since it was accepted
        """


class Progress:
    """Observes the steps of one operation."""

    def __init__(self, listeners: Iterable[Listener], operation: Any) -> None:
        self._listeners = listeners
        self._operation = operation
        waited = deadlines.now() - operation.started
        _tell(listeners, 'began', operation, waited)

    def step_started(self, step: str) -> None:
        LOG.debug('%s: %s', self._operation.attachment_id, step)

    def step_ended(
        self, step: str, elapsed: float, error: BaseException | None
    ) -> None:
        code = None
        if isinstance(error, exception.AttachWorkerError):
            code = error.code
        elif error is not None:
            code = 'internal'
        LOG.debug(
            '%s: %s took %.3f s%s',
            self._operation.attachment_id,
            step,
            elapsed,
            f', {code}' if code else '',
        )
        args = (self._operation, step, elapsed, code)
        _tell(self._listeners, 'step_ended', *args)


def tell_end(listeners: Iterable[Listener], operation: Any) -> None:
    """Tell the final result of an operation."""
    elapsed = deadlines.now() - operation.started
    _tell(listeners, 'ended', operation, elapsed)


def _tell(listeners: Iterable[Listener], what: str, *arguments: Any) -> None:
    for listener in listeners:
        try:
            getattr(listener, what)(*arguments)
        except Exception:
            # Nothing depends on who listens, least of all the answer.
            LOG.exception('Telling of an operation')
