# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Verbs that outlive their worker: the next one knows of them, and waits.

The privileged helper ends with its worker. A thread of it that is in a system
call does so when that returns, and only then is it seen what has come of it.
So each verb is in a file while it runs, beside one that the helper has locked.
The files are not synchronized to the disk: a power cut ends the verbs, too.
"""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import threading
import uuid

from oslo_log import log as logging

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker.host import verbs
from attachworker.privileged import process

LOG = logging.getLogger(__name__)

#: Below the state directory; a directory for each helper.
PLACE = 'helpers'


class Succession:
    """What this worker leaves to the next one, and what it was left itself.

    :param hold: the verb :func:`attachworker.privileged.process.hold`
    """

    def __init__(
        self, hold: Callable[[str], None], calls: verbs.Verbs
    ) -> None:
        self._hold = hold
        self._calls = calls
        self._ours: pathlib.Path | None = None

    def begin(self, state: pathlib.Path, patience: float) -> None:
        """Wait for the helpers of earlier workers; write down what ours does.

        To be called before anything is looked at or done on the host. What
        an earlier helper was at and has not ended in time counts as stuck,
        until it has.

        :param state: a directory that belongs to one worker at a time
        :param patience: seconds
        :raises HostToolFailed: nobody could know what goes on
        """
        try:
            self._begin(state / PLACE, deadlines.Deadline.after(patience))
        except OSError as error:
            raise exception.HostToolFailed.from_os_error(
                error, 'Waiting for the privileged helper of an earlier worker'
            ) from error

    def _begin(
        self, place: pathlib.Path, deadline: deadlines.Deadline
    ) -> None:
        ours = self._ours = place / uuid.uuid4().hex
        ours.mkdir(mode=0o700, parents=True)
        (ours / process.LOCK).touch(0o600)
        self._hold(str(ours / process.LOCK))
        self._calls.written_down = lambda call: _written_down(call, ours)
        earlier = [each for each in place.iterdir() if each != ours]
        for ended in [self._follow(each) for each in earlier]:
            ended.wait(deadline.remaining())
        for call in self._calls.stuck():
            LOG.warning(
                'An earlier worker has begun %s of %s %.0f s ago, and its '
                'privileged helper has not ended: requests that need it are '
                'refused until it has',
                call.name,
                call.about,
                call.seconds,
            )

    def end(self) -> None:
        """Leave nothing to wait for, if nothing goes on.

        No verb can be begun after that: it could not be written down.
        """
        if self._ours is not None and self._calls.idle:
            shutil.rmtree(self._ours, ignore_errors=True)

    def _follow(self, directory: pathlib.Path) -> threading.Event:
        """Set once the helper whose directory this is has ended."""
        ended = threading.Event()
        if _has_ended(directory, fcntl.LOCK_NB):
            shutil.rmtree(directory, ignore_errors=True)
            ended.set()
            return ended
        returned = self._calls.adopt(list(_calls_in(directory)))

        def follow() -> None:
            try:
                _has_ended(directory)
            except OSError as error:
                LOG.error('What is stuck stays so: %s', error)
                return
            shutil.rmtree(directory, ignore_errors=True)
            returned()
            ended.set()

        threading.Thread(
            target=follow, name='earlier helper', daemon=True
        ).start()
        return ended


@contextlib.contextmanager
def _written_down(call: verbs.Call, directory: pathlib.Path) -> Iterator[None]:
    """:raises HostToolFailed: it cannot be, and is not begun"""
    if not call.about:
        yield
        return
    path = directory / uuid.uuid4().hex
    try:
        try:
            path.write_text(json.dumps([call.name, call.about, call.since]))
        except OSError as error:
            raise exception.HostToolFailed(
                what=f'Writing down {call.name} of {call.about}',
                reason=error.strerror or str(error),
            ) from error
        yield
    finally:
        # One that stays means nothing once the helper has ended.
        with contextlib.suppress(OSError):
            path.unlink()


def _calls_in(directory: pathlib.Path) -> Iterator[verbs.Call]:
    """The verbs that a helper was at when its worker ended."""
    for path in directory.iterdir():
        if path.name != process.LOCK:
            # One that is not complete was never begun.
            with contextlib.suppress(ValueError, TypeError):
                yield verbs.Call(*json.loads(path.read_text()))


def _has_ended(directory: pathlib.Path, how: int = 0) -> bool:
    """Whether nobody has a helper's lock; what is left can be removed then.

    :param how: LOCK_NB: do not wait for it
    """
    try:
        descriptor = os.open(directory / process.LOCK, os.O_RDWR)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | how)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
