# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""The rules that every task follows."""

import functools
from typing import Any

from oslo_log import log as logging
import taskflow.task

from attachworker import exception
from attachworker.tasks import run as runs

LOG = logging.getLogger(__name__)


#: What TaskFlow has found out about the arguments of a function of a task.
_arguments: dict[Any, Any] = {}


class Task(taskflow.task.Task):
    """One change on one thing, with its undo.

    Subclasses write ``execute`` and, where there is something to undo,
    ``revert``. Both are wrapped as the class is made; a template method would
    not do, because TaskFlow passes what their own signatures ask for:

    * ``execute`` does not start, and does not succeed, once the run has to
      end; where the host cannot be read, that is the error of the step;
    * ``revert`` never raises: TaskFlow would stop there, leave the earlier
      tasks undone and report the revert's error instead of the cause.

    :param run: what the tasks of this operation share
    :param of: what the task acts on; makes its name unique in the flow
    """

    def __init__(self, run: runs.Run, of: object = None) -> None:
        name = type(self).__name__
        super().__init__(name if of is None else f'{name}:{of}')
        self.run = run

    def _build_arg_mapping(self, executor: Any, **kwargs: Any) -> Any:
        # TaskFlow looks at the signature for each task; it is the same for
        # all of a class.
        function = executor.__func__
        if function not in _arguments:
            _arguments[function] = super()._build_arg_mapping(
                executor, **kwargs
            )
        return _arguments[function]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if 'execute' in vars(cls):
            cls.execute = _bounded(cls.execute)
        if 'revert' in vars(cls):
            cls.revert = _collected(cls.revert)


def _bounded(execute: Any) -> Any:
    @functools.wraps(execute)
    def wrapper(self: Task, *args: Any, **kwargs: Any) -> Any:
        self.run.before(self.name)
        try:
            result = execute(self, *args, **kwargs)
        except OSError as error:
            raise exception.HostToolFailed.from_os_error(
                error, self.name
            ) from error
        self.run.after(self.name)
        return result

    return wrapper


def _collected(revert: Any) -> Any:
    @functools.wraps(revert)
    def wrapper(self: Task, *args: Any, **kwargs: Any) -> None:
        try:
            known = len(self.run.leftovers)
            revert(self, *args, **kwargs)
            if len(self.run.leftovers) == known:
                LOG.info('%s: %s is undone', self.run.name, self.name)
        except Exception as error:
            expected = isinstance(error, exception.AttachWorkerError | OSError)
            LOG.error(
                'Undoing %s: %s', self.name, error, exc_info=not expected
            )
            self.run.leftovers.append(f'{self.name}: {error}')

    return wrapper
