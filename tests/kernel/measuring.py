# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A plugin of pytest: what each privileged verb asks of the kernel.

``-p tests.kernel.measuring`` has strace(1) look at the helpers while tests run
in the lab. What it writes goes to the results, and from there ``python -m
tests.kernel.measured`` takes it into ``tests/recorded/verbs.json``.
"""

from collections.abc import Callable
import contextlib
import os
import pathlib
import subprocess
import time
from typing import Any

from oslo_privsep import daemon
from oslo_privsep import priv_context

#: Looked for in vain when a verb begins and when it ends.
BEGIN, END = '/verb-begins/', '/verb-ends/'
#: Seconds that strace gets to attach itself.
_PATIENCE = 60.0


def _look_for(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.stat(path)


def _marked(wrap: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(
        self: priv_context.PrivContext,
        verb: Callable[..., Any],
        *arguments: Any,
        **keywords: Any,
    ) -> Any:
        if self.client_mode:
            return wrap(self, verb, *arguments, **keywords)
        name = f'{verb.__module__.rpartition(".")[2]}.{verb.__name__}'
        _look_for(f'{BEGIN}{name}')
        try:
            return wrap(self, verb, *arguments, **keywords)
        finally:
            _look_for(f'{END}{name}')

    return wrapped


def _traced(run: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(self: daemon.Daemon) -> Any:
        pid = os.getpid()
        place = pathlib.Path(os.environ['LAB_RESULTS'], f'strace.{pid}')
        command = ('strace', '-f', '-qq', '-y', '-s', '300', '-o', str(place))
        subprocess.Popen([*command, '-p', str(pid)])
        end = time.monotonic() + _PATIENCE
        while (
            'TracerPid:\t0\n' in pathlib.Path('/proc/self/status').read_text()
        ):
            assert time.monotonic() < end, 'strace does not attach itself'
            time.sleep(0.01)
        return run(self)

    return wrapped


priv_context.PrivContext._wrap = _marked(  # type: ignore[method-assign]
    priv_context.PrivContext._wrap
)
daemon.Daemon.run = _traced(daemon.Daemon.run)  # type: ignore[method-assign]


def pytest_sessionfinish() -> None:
    """Call what no worker calls that is root itself, as that of a test is."""
    from attachworker import privileged

    if privileged.default.channel is not None:
        for name in privileged.system.FILES:
            privileged.system.read(name)
        privileged.iscsi.interface('default', 30.0)
