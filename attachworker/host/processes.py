# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What processes do with block devices: looks that several share."""

import threading

from oslo_log import log as logging

from attachworker import deadline as deadlines
from attachworker.host import machine

LOG = logging.getLogger(__name__)

_VERB = 'processes.users'
_ABOUT = 'this host'

#: By ``major:minor``, the paths by which a file system may call the device.
Devices = dict[str, list[str]]
#: By ``major:minor``, whoever uses the device, for people to read.
Users = dict[str, list[str]]


class _Look:
    """One look at all processes, for whoever asked before it began.

    :ivar users: what it has found
    :ivar error: why it has found nothing; neither: who led it had no time
    """

    def __init__(self) -> None:
        self.devices: Devices = {}
        self.users: Users | None = None
        self.error: OSError | None = None
        self.over = False


class Processes(machine.View):
    def __init__(self, host: machine.Machine) -> None:
        super().__init__(host)
        self._changed = threading.Condition()
        self._running = False
        self._next = _Look()
        self._hidden: set[tuple[int, str]] = set()

    def users(self, devices: Devices, deadline: deadlines.Deadline) -> Users:
        """Who has the devices open or mounted.

        A look takes long on a big host. Who asks while one goes on is
        answered by the next one, together with all others that ask then.

        :raises OSError: it cannot be told
        :raises AttachWorkerError: it cannot be told in time
        """
        while True:
            look = self._join(devices, deadline)
            if not look.over:
                self._lead(look, deadline)
            if look.error is not None:
                raise OSError(look.error.errno, str(look.error.strerror))
            if look.users is not None:
                return {one: look.users.get(one, []) for one in devices}

    def _join(self, devices: Devices, deadline: deadlines.Deadline) -> _Look:
        """The look for somebody who asks now; if it is not over, to be led."""
        with self._changed:
            look = self._next
            look.devices |= devices
            while not look.over and self._running:
                deadline.check(f'{_VERB} of {_ABOUT}')
                self._changed.wait(deadline.remaining())
            if not look.over:
                self._running, self._next = True, _Look()
            return look

    def _lead(self, look: _Look, deadline: deadlines.Deadline) -> None:
        try:
            uses, hidden = self._call(
                _VERB, deadline, look.devices, about=_ABOUT
            )
            look.users = _told(uses)
            self._warn(hidden)
        except OSError as error:
            look.error = error
        finally:
            with self._changed:
                look.over, self._running = True, False
                self._changed.notify_all()

    def _warn(self, hidden: list[tuple[int, str]]) -> None:
        for pid, command in hidden:
            if (pid, command) not in self._hidden:
                self._hidden.add((pid, command))
                LOG.warning(
                    'A security module of this host hides the open files of '
                    'process %s (%s): a device that only it has open counts '
                    'as unused',
                    pid,
                    command,
                )


def _told(uses: list[tuple[str, int, str, str]]) -> Users:
    """Each mount once, as the first process has it if it does."""
    found: Users = {}
    mounts: set[tuple[str, str]] = set()
    for number, pid, command, point in uses:
        if not point:
            user = f'process {pid} ({command})'
        elif (number, point) in mounts:
            continue
        elif pid == 1:
            user = f'mount {point}'
        else:
            user = (
                f'mount {point} in the namespace of process {pid} ({command})'
            )
        mounts.add((number, point))
        found.setdefault(number, []).append(user)
    return found
