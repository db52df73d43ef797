# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The checks of one file each, and the loop that runs them."""

import ast
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import math

from tools.lint.layers import check_layers
from tools.lint.layers import imported
from tools.lint.source import PACKAGE
from tools.lint.source import Finding
from tools.lint.source import Source

#: Names that say nothing about what is inside.
BANNED_NAMES = frozenset(
    {'common', 'helper', 'helpers', 'manager', 'misc', 'util', 'utils'}
)

#: What chooses threads, and packages that import it before their modules.
BACKEND = 'threading_backend'
CHOOSING = frozenset({'brick', 'bus', 'objects', 'privileged', 'worker'})
#: What chooses eventlet for good if nobody has chosen before.
CHOOSE_EVENTLET = frozenset(
    {'oslo_messaging', 'oslo_privsep', 'oslo_service'}
    | {'oslo_versionedobjects'}
)

#: Where a broad ``except`` may stand: file, then qualified function names.
#: The top of a thread, where an escaping error would be lost, the wrapper
#: around reverts, which must never raise, and the decoder of hostile input.
BROAD_EXCEPT: dict[str, frozenset[str]] = {
    # The top of the thread that starts the worker: a bug there ends it.
    'attachworker/cmd/worker.py': frozenset({'_Main._start'}),
    # The thread that shows steps: without it the command still works.
    'attachworker/cmd/steps.py': frozenset({'StepWatcher._run'}),
    # Code of others, which must not keep the worker from starting.
    'attachworker/connectors/__init__.py': frozenset({'Connectors.__init__'}),
    # The top of each thread of the pool, and of the one for what is late.
    'attachworker/worker/dispatcher.py': frozenset(
        {'Dispatcher._run', 'Dispatcher._end_late'}
    ),
    # The top of an operation: even a bug must end in a result.
    'attachworker/worker/operation.py': frozenset(
        {'Operation.run', 'Operation._break_down'}
    ),
    # Rows that any version, or a broken disk, may have written.
    'attachworker/journal/reading.py': frozenset({'legible'}),
    # The top of a thread; whoever waits for the result has the error.
    'attachworker/casts.py': frozenset({'Casts._attempt'}),
    # The callbacks of the thread that takes messages: oslo.messaging would
    # drop the message without a word.
    'attachworker/bus/server.py': frozenset(
        {'RequestAcceptance.accept', 'JournalingListener.__call__'}
    ),
    # Whatever a stranger has sent, and several libraries make of it; and the
    # top of a thread: whoever waits for it has the error.
    'attachworker/bus/transport.py': frozenset(
        {
            'BusConnection._take',
            'BusConnection._decoded',
            'BusDriver.send.send',
        }
    ),
    # The top of a flow: whatever a task raised becomes its outcome.
    'attachworker/worker/engine.py': frozenset({'run'}),
    # The top of the thread that receives uevents: none may end it.
    'attachworker/host/uevents.py': frozenset({'UeventMonitor._run'}),
    # Hands the error of a thread that may hang to whoever waits for it.
    'attachworker/host/verbs.py': frozenset({'Verbs.call.body'}),
    'attachworker/host/threads.py': frozenset({'Executor.submit.body'}),
    # The top of the sending thread; and whatever a broker may raise.
    'attachworker/bus/replies.py': frozenset(
        {'ReplySender._run', 'ReplySender._ask'}
    ),
    # The thread that sends signs of life: who does not get one has gone.
    'attachworker/bus/signs.py': frozenset({'SignsOfLife._run'}),
    # The thread that sends notifications: one that fails is dropped.
    'attachworker/telemetry/notifications.py': frozenset(
        {'Notifications._notify'}
    ),
    # Who listens is no reason for an operation to fail.
    'attachworker/telemetry/progress.py': frozenset({'_tell'}),
    # A library decodes what anybody may have sent; the text of its errors
    # may quote a secret.
    'attachworker/bus/serializer.py': frozenset({'from_wire'}),
    # One target's thread: its waiter must always get an outcome.
    'attachworker/tasks/attempts.py': frozenset({'Attempts.start.body'}),
    # The revert wrapper.
    'attachworker/tasks/base.py': frozenset({'_collected.wrapper'}),
}

#: The only readers of the configuration; everything else is given values.
CONF_READERS = (
    'attachworker/cmd/',
    'attachworker/conf/',
    'attachworker/worker/service.py',
    'attachworker/connectors/__init__.py',
    # The helper process has no composition root: it sets defaults of
    # oslo.privsep, and reads what the operator allows.
    'attachworker/privileged/__init__.py',
    'attachworker/privileged/encryption.py',
    'attachworker/privileged/process.py',
    'attachworker/privileged/mounts.py',
    'attachworker/privileged/rbd.py',
    'attachworker/privileged/roots.py',
)

#: The only file that relies on what is private to oslo.messaging.
DRIVER_USER = 'attachworker/bus/transport.py'

REVERSION = 'Reversion strategy:'


def _is_broad(node: ast.expr | None) -> bool:
    if isinstance(node, ast.Tuple):
        return any(_is_broad(member) for member in node.elts)
    return node is None or (
        isinstance(node, ast.Name)
        and node.id in ('Exception', 'BaseException')
    )


def handlers(
    node: ast.AST, name: str = ''
) -> Iterator[tuple[str, ast.ExceptHandler]]:
    """Yield each handler with the qualified name of its function."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ExceptHandler):
            yield name, child
        inner = name
        if isinstance(
            child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        ):
            inner = f'{name}.{child.name}' if name else child.name
        yield from handlers(child, inner)


def _swallows(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    return not (isinstance(last, ast.Raise) and last.exc is None)


def check_broad_except(source: Source) -> Iterator[Finding]:
    """AW104: a broad except only at thread tops and around reverts."""
    if not source.in_package:
        return
    allowed = BROAD_EXCEPT.get(str(source.path), frozenset())
    for name, handler in handlers(source.tree):
        if not _is_broad(handler.type) or not _swallows(handler):
            continue
        if name not in allowed:
            yield source.finding(
                handler.lineno,
                'AW104',
                'catch the errors that you expect; a thread top or the '
                'revert wrapper goes into BROAD_EXCEPT',
            )


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Subscript):
        return _last_name(node.value)
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ''


def check_reversion(source: Source) -> Iterator[Finding]:
    """AW105: the docstring of a task says how it is undone."""
    if not source.in_package:
        return
    tasks = set()
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.ClassDef):
            continue
        bases = {_last_name(base) for base in node.bases}
        if not any(base.endswith('Task') or base in tasks for base in bases):
            continue
        tasks.add(node.name)
        if node.name == 'Task':  # the base of them all changes nothing
            continue
        if REVERSION not in (ast.get_docstring(node) or ''):
            yield source.finding(
                node.lineno,
                'AW105',
                f'end the docstring of task {node.name} with "{REVERSION} …"',
            )


def check_name(source: Source) -> Iterator[Finding]:
    """AW107: a file is named after what is in it."""
    for part in source.path.with_suffix('').parts:
        if part in BANNED_NAMES:
            yield source.finding(
                1, 'AW107', f'"{part}" does not say what is inside'
            )


def check_conf(source: Source) -> Iterator[Finding]:
    """AW108: only the composition root and the loader read CONF."""
    if not source.in_package or str(source.path).startswith(CONF_READERS):
        return
    lines = {
        line for line, name in imported(source) if name.endswith('.CONF')
    } | {
        node.lineno
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Attribute) and node.attr == 'CONF'
    }
    for line in sorted(lines):
        yield source.finding(
            line, 'AW108', 'take values as arguments, do not read CONF'
        )


def check_private(source: Source) -> Iterator[Finding]:
    """AW110: the inside of oslo.messaging is used in one file."""
    if not source.in_package or str(source.path) == DRIVER_USER:
        return
    lines = {
        line
        for line, name in imported(source)
        if name.startswith(('oslo_messaging._', 'oslo_messaging.rpc.server'))
    } | {
        node.lineno
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Attribute) and node.attr == '_driver'
    }
    for line in sorted(lines):
        yield source.finding(
            line, 'AW110', f'have {DRIVER_USER} do what needs private names'
        )


def check_backend(source: Source) -> Iterator[Finding]:
    """AW111: threads are chosen before what would choose eventlet."""
    inside = source.module.split('.')[1:]
    if (
        not source.in_package
        or inside == [BACKEND]
        or (inside[0] in CHOOSING and inside[1:] != ['__init__'])
    ):
        return
    lines = sorted(imported(source))
    chosen = min(
        (line for line, name in lines if name == f'{PACKAGE}.{BACKEND}'),
        default=math.inf,
    )
    for line, name in lines:
        if name.split('.')[0] in CHOOSE_EVENTLET and line < chosen:
            yield source.finding(
                line, 'AW111', f'import {PACKAGE}.{BACKEND} before this'
            )


CHECKS: dict[str, Callable[[Source], Iterator[Finding]]] = {
    'AW101': check_layers,
    'AW104': check_broad_except,
    'AW105': check_reversion,
    'AW107': check_name,
    'AW108': check_conf,
    'AW110': check_private,
    'AW111': check_backend,
}


def run(sources: Iterable[Source]) -> list[Finding]:
    """Return what all checks find, sorted by place."""
    return sorted(
        finding
        for source in sources
        for check in CHECKS.values()
        for finding in check(source)
    )
