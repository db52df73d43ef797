# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The lab's own machine, as the processes of killed workers need it."""

from collections.abc import Callable
import os
import pathlib
import select
import subprocess
import threading
from typing import Any

from oslo_privsep import priv_context

from attachworker import host as hosts
from attachworker import privileged
from attachworker.host import netlink
from attachworker.privileged import process
from tests.crash import kill_points
from tests.kernel import bed

_ROOT = pathlib.Path('/')
#: Seconds in which a command starts.
_PATIENCE = 50.0


class Machine:
    """See :class:`tests.crash.machines.Simulated`."""

    def __call__(self, points: kill_points.Points) -> hosts.Host:
        started = _Started()
        bed.configure_helpers()
        # forked before there are threads, as the daemon does it
        process.start_helpers(priv_context.Method.FORK)
        verbs = kill_points.Verbs(privileged, points, started.begin)
        return hosts.Host(_ROOT, verbs, netlink.NetlinkSource())

    def settle(self) -> None:
        """Nothing: the next worker meets what the killed one has begun."""


class _Started:
    """Tells of each command that this process, and its helper, has started.

    One may have ended before anybody could see it among the processes.
    """

    def __init__(self) -> None:
        self._told, tell = os.pipe()
        os.set_blocking(self._told, False)
        start = subprocess.Popen.__init__

        def told(self: Any, *arguments: Any, **keywords: Any) -> None:
            start(self, *arguments, **keywords)
            os.write(tell, b'.')

        subprocess.Popen.__init__ = told  # type: ignore[method-assign]

    def begin(self, verb: str, call: Callable[[], Any]) -> None:
        """Only a command of iscsiadm takes long enough to be met running."""
        if not verb.startswith('iscsi.'):
            threading.Thread(target=call, daemon=True).start()
            return
        while select.select([self._told], [], [], 0)[0]:
            os.read(self._told, 4096)
        threading.Thread(target=call, daemon=True).start()
        ready, _, _ = select.select([self._told], [], [], _PATIENCE)
        assert ready, f'{verb} does not begin'
