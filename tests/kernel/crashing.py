# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The lab's own machine, as the processes of killed workers need it."""

from collections.abc import Callable
import pathlib
import threading
import time
from typing import Any

from oslo_privsep import priv_context

from attachworker import host as hosts
from attachworker import privileged
from attachworker.host import netlink
from tests.crash import kill_points

_ROOT = pathlib.Path('/')


class Machine:
    """See :class:`tests.crash.machines.Simulated`."""

    def __call__(self, points: kill_points.Points) -> hosts.Host:
        # forked before there are threads, as the daemon does it
        privileged.default.start(priv_context.Method.FORK)
        verbs = kill_points.Verbs(privileged, points, _begin)
        return hosts.Host(_ROOT, verbs, netlink.NetlinkSource())

    def settle(self) -> None:
        """Nothing: the next worker meets what the killed one has begun."""


def _begin(verb: str, call: Callable[[], Any]) -> None:
    """Only a command of iscsiadm takes long enough to be seen running."""
    threading.Thread(target=call, daemon=True).start()
    limit = time.monotonic() + 10.0
    while verb.startswith('iscsi.') and not _running('iscsiadm'):
        assert time.monotonic() < limit, f'{verb} does not begin'


def _running(command: str) -> bool:
    for path in pathlib.Path('/proc').glob('[0-9]*/comm'):
        try:
            if path.read_text().strip() == command:
                return True
        except OSError:
            continue  # it has ended
    return False
