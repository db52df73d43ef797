# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Whose request a line of the log is about.

A caller's context travels with its message. Of it two identifiers are taken,
``request_id`` and ``global_request_id``, so that one search finds what a
request of Nova or Cinder has caused in all services. The rest, its token too,
does not leave the caller.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import re
from typing import Any

from oslo_context import context as oslo_context

Context = oslo_context.RequestContext

_NAMES = ('request_id', 'global_request_id')
#: As a driver of oslo.messaging writes them into a message.
_PREFIX = '_context_'
#: What is written into the log as it is.
_IDENTIFIER = re.compile('[A-Za-z0-9._:-]{1,64}', re.ASCII)


def _nobodys() -> Context:
    made = Context(overwrite=False)
    made.request_id = ''
    return made


#: Of what the worker does by itself: oslo.log shows it as a dash. (A thread
#: that had a context once cannot be without one.)
NOBODYS = _nobodys()


def current() -> Context:
    """The context of this thread."""
    return oslo_context.get_current() or NOBODYS


def of_message(message: Mapping[str, Any]) -> Context:
    """The context that came with a message; what is not legible is left out.

    :param message: as the driver has decoded it
    """
    found = {
        name: value
        for name in _NAMES
        if isinstance(value := message.get(f'{_PREFIX}{name}'), str)
        and _IDENTIFIER.fullmatch(value)
    }
    if 'request_id' not in found:
        return NOBODYS
    return Context(
        request_id=found['request_id'],
        global_request_id=found.get('global_request_id'),
        overwrite=False,
    )


def to_send(given: Any) -> dict[str, str]:
    """What goes over the bus of the context of a call.

    :param given: a dict, or a context of oslo.context; an empty one stands
        for that of this thread
    """
    values = given or current()
    if not isinstance(values, Mapping):
        values = values.to_dict()
    return {name: values[name] for name in _NAMES if values.get(name)}


@contextlib.contextmanager
def use(context: Context) -> Iterator[None]:
    """Have all lines that this thread logs meanwhile be of a context."""
    before = current()
    context.update_store()
    try:
        yield
    finally:
        before.update_store()


def bound(body: Callable[[], None]) -> Callable[[], None]:
    """A body for another thread, whose lines are of this one's context."""
    ours = current()

    def run() -> None:
        with use(ours):
            body()

    return run
