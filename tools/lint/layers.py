# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Who may import whom: downward only (AW101).

The table is the one of doc/source/contributor/architecture.rst. A new module
at the top of the package needs a row here; a new edge needs a reason.
"""

import ast
from collections.abc import Iterator

from tools.lint.source import PACKAGE
from tools.lint.source import Finding
from tools.lint.source import Source

#: What every layer but the lowest ones may use.
EVERYWHERE = frozenset(
    {'exception', 'deadline', 'context', 'threading_backend'}
)

#: What both sides of the bus share.
BUS = frozenset({'bus.transport', 'bus.serializer', 'bus.secrets', 'objects'})

#: A layer, and the layers that it may import besides itself and EVERYWHERE.
#: The longest name that fits a module is its layer.
LAYERS: dict[str, frozenset[str]] = {
    # The command line checks its input and prints results by itself.
    'cmd': BUS | {'worker.service', 'rpcapi', 'client', 'conf', 'cmd.options'},
    # Reads the journal, and looks at the host, where no worker runs.
    'cmd.status': frozenset({'cmd', 'conf', 'host', 'journal', 'objects'})
    | {'cmd.check', 'cmd.upgrade'},
    'cmd.upgrade': frozenset({'journal', 'objects', 'cmd.options'}),
    'cmd.check': frozenset({'client', 'cmd.settings', 'connectors', 'host'})
    | {'bus.transport', 'cmd.options'},
    # What a worker may be told, by itself, its connectors and its helper.
    'cmd.options': frozenset({'bus.transport', 'conf', 'connectors'})
    | {'privileged'},
    'cmd.settings': frozenset(),
    # The composition root builds all parts.
    'worker.service': BUS
    | {'conf', 'connectors', 'connectors.base', 'host', 'journal'}
    | {'privileged', 'bus', 'bus.admission', 'rpcapi', 'tasks', 'telemetry'}
    | {'worker'},
    # Callers load the transport and the serializer: their package must load
    # nothing else.
    'bus.__init__': frozenset(),
    'bus': BUS | {'bus.admission', 'journal', 'worker'},
    'bus.serializer': frozenset({'objects', 'bus.secrets'}),
    'bus.secrets': frozenset({'objects'}),
    'bus.transport': frozenset({'objects', 'bus.admission'}),
    'bus.admission': frozenset(),
    # An operation fills a flow with what the run of its tasks shares.
    'worker': frozenset({'flows', 'journal', 'objects'})
    | {'connectors', 'connectors.base', 'host', 'tasks', 'telemetry'},
    'flows': frozenset({'tasks'}),
    'tasks': frozenset({'connectors.base', 'host', 'objects'}),
    # The loader of the plugins.
    'connectors.__init__': frozenset({'connectors.base', 'host', 'conf'}),
    # What a connector does is written down before.
    'connectors.base': frozenset({'host', 'journal', 'objects'}),
    # What those that bring SCSI devices have in common.
    'connectors.scsi': frozenset({'connectors.base', 'host', 'objects'}),
    'connectors': frozenset({'conf', 'connectors.base', 'connectors.scsi'})
    | {'host', 'objects'},
    'telemetry': frozenset({'objects'}),
    'journal': frozenset({'objects'}),
    'host': frozenset({'privileged'}),
    # The caller's side.
    'rpcapi': BUS,
    'client': BUS | {'rpcapi'},
    'casts': BUS | {'rpcapi'},
    # Made without arguments, it takes the bus from the configuration.
    'brick': BUS | {'rpcapi', 'client', 'conf'},
    # The lowest layers.
    'objects': frozenset({'exception', 'threading_backend'}),
    # The helper reads by itself what the operator allows.
    'privileged': frozenset({'conf', 'threading_backend'}),
    'conf': frozenset(),
    'exception': frozenset(),
    'context': frozenset(),
    'threading_backend': frozenset(),
    'deadline': frozenset({'exception'}),
}

#: Layers that EVERYWHERE does not reach: they import what their row says.
LOWEST = frozenset({'objects', 'privileged', 'conf'}) | EVERYWHERE

#: Layers whose members, modules or packages, never import each other.
ISOLATED = frozenset({'connectors'})


def layer_of(name: str) -> str | None:
    """Return the layer of a dotted name below the package, or None."""
    parts = name.split('.')
    for length in range(len(parts), 0, -1):
        layer = '.'.join(parts[:length])
        if layer in LAYERS:
            return layer
    return None


def imported(source: Source) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of whatever the source imports."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ''
            if node.level:
                above = source.module.split('.')[: -node.level]
                base = '.'.join([*above, base] if base else above)
            for alias in node.names:
                yield node.lineno, f'{base}.{alias.name}'


def _member(name: str) -> str:
    return name.split('.')[1]


def _allowed(layer: str, module: str, other: str, target: str) -> bool:
    if other == layer:
        return layer not in ISOLATED or _member(module) == _member(target)
    if other in EVERYWHERE and layer not in LOWEST:
        return True
    return other in LAYERS[layer]


def check_layers(source: Source) -> Iterator[Finding]:
    """AW101: a layer imports only the layers below it."""
    if not source.in_package:
        return
    module = source.module.removeprefix(f'{PACKAGE}.')
    layer = layer_of(module)
    if layer is None and module != '__init__':
        yield source.finding(
            1,
            'AW101',
            f'{module} is in no layer: give it a row in tools/lint/layers.py',
        )
        return
    for line, name in imported(source):
        if not name.startswith(f'{PACKAGE}.'):
            continue
        target = name.removeprefix(f'{PACKAGE}.')
        other = layer_of(target)
        if other is None:
            continue
        if layer is None or not _allowed(layer, module, other, target):
            yield source.finding(
                line, 'AW101', f'{layer or PACKAGE} may not import {target}'
            )
