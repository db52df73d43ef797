# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The layering check follows its table, however an import is spelled."""

import pathlib

import pytest

from tools import lint
from tools.lint import layers

TOP = pathlib.Path(__file__).parents[3]


def findings(path: str, text: str) -> list[lint.Finding]:
    source = lint.Source.parse(f'attachworker/{path}', text)
    return list(layers.check_layers(source))


@pytest.mark.parametrize(
    ('path', 'text'),
    [
        ('cmd/worker.py', 'from attachworker.worker import service'),
        ('worker/service.py', 'from attachworker.connectors import load'),
        ('bus/server.py', 'from attachworker.bus import replies'),
        ('worker/attach.py', 'from attachworker import flows'),
        ('flows.py', 'from attachworker.tasks import connect'),
        ('tasks/connect.py', 'from attachworker.connectors import base'),
        ('tasks/connect.py', 'from attachworker.connectors.base import A'),
        ('tasks/connect.py', 'from . import base'),
        ('tasks/connect.py', 'from ..connectors.base import Connector'),
        ('connectors/iscsi.py', 'from attachworker.connectors import base'),
        ('connectors/nvme/a.py', 'from attachworker.connectors.nvme import b'),
        ('connectors/iscsi/__init__.py', 'from . import sessions'),
        ('connectors/iscsi.py', 'from attachworker.host import locks'),
        ('host/scsi.py', 'import attachworker.privileged.scsi'),
        ('host/scsi.py', 'from attachworker import deadline'),
        ('objects/base.py', 'from attachworker import exception'),
        ('rpcapi.py', 'from attachworker.bus import transport'),
        ('brick.py', 'from attachworker.bus import transport'),
        ('deadline.py', 'import time'),
    ],
)
def test_downward_imports_are_fine(path: str, text: str) -> None:
    assert findings(path, text) == []


@pytest.mark.parametrize(
    ('path', 'text'),
    [
        ('objects/base.py', 'from attachworker import host'),
        ('objects/base.py', 'from attachworker import deadline'),
        ('privileged/scsi.py', 'from attachworker import exception'),
        ('exception.py', 'from attachworker import objects'),
        ('conf/base.py', 'from attachworker import exception'),
        ('host/scsi.py', 'from attachworker import objects'),
        ('host/scsi.py', 'from attachworker.connectors import base'),
        ('connectors/__init__.py', 'from . import iscsi'),
        ('connectors/iscsi.py', 'from attachworker import tasks'),
        ('connectors/iscsi.py', 'from attachworker.connectors import nvmeof'),
        ('connectors/iscsi.py', 'from . import nvmeof'),
        (
            'connectors/iscsi/a.py',
            'from attachworker.connectors.nvmeof import b',
        ),
        ('connectors/iscsi.py', 'from attachworker.privileged import iscsi'),
        ('tasks/connect.py', 'from attachworker.connectors import iscsi'),
        ('tasks/connect.py', 'from ..connectors.iscsi import ISCSIConnector'),
        ('tasks/connect.py', 'from attachworker import journal'),
        ('bus/__init__.py', 'from attachworker.bus import server'),
        ('bus/transport.py', 'from attachworker.bus import server'),
        ('bus/server.py', 'from attachworker import flows'),
        ('rpcapi.py', 'from attachworker.bus import server'),
        ('rpcapi.py', 'import attachworker.host'),
        ('journal.py', 'from attachworker.worker import dispatcher'),
        ('worker/service.py', 'from attachworker.cmd import worker'),
        ('__init__.py', 'from attachworker.worker import service'),
        ('flows.py', 'def f():\n    import attachworker.host.scsi'),
    ],
)
def test_other_imports_are_found(path: str, text: str) -> None:
    assert [finding.code for finding in findings(path, text)] == ['AW101']


def test_a_module_outside_all_layers_is_found() -> None:
    [finding] = findings('extras.py', '')
    assert 'extras is in no layer' in finding.message


def test_the_table_names_only_layers() -> None:
    for layer, below in layers.LAYERS.items():
        assert below <= layers.LAYERS.keys(), layer
    assert layers.EVERYWHERE <= layers.LAYERS.keys()
    assert layers.LOWEST <= layers.LAYERS.keys()


def test_the_table_has_no_cycle() -> None:
    # Given the layers with everything that each may import
    graph = {
        layer: set(below)
        | (set() if layer in layers.LOWEST else set(layers.EVERYWHERE))
        for layer, below in layers.LAYERS.items()
    }
    # When those that need nothing more are taken away, again and again
    while free := {layer for layer, below in graph.items() if not below}:
        graph = {
            layer: below - free
            for layer, below in graph.items()
            if layer not in free
        }
    # Then none is left
    assert graph == {}


def test_the_architecture_page_names_every_layer() -> None:
    page = TOP / 'doc/source/contributor/architecture.rst'
    text = page.read_text(encoding='utf-8')
    names = {layer.removesuffix('.__init__') for layer in layers.LAYERS}
    assert [name for name in names if f'``{name}``' not in text] == []


def test_the_project_keeps_its_own_rules() -> None:
    sources = [
        lint.Source.parse(
            path.relative_to(TOP).as_posix(), path.read_text(encoding='utf-8')
        )
        for directory in ('attachworker', 'tools')
        for path in sorted((TOP / directory).rglob('*.py'))
    ]
    assert [str(finding) for finding in lint.run(sources)] == []
