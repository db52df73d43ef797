# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Connectors that are installed by somebody else, sound or not."""

from collections.abc import Callable
import pathlib
import sys
import textwrap
from typing import Any

from oslo_config import cfg
import pytest
from stevedore import extension

from attachworker import connectors
from attachworker import exception
from tests.unit.on_files import on_files

SOUND = """
from oslo_config import cfg
class Connector:
    def __init__(self, host, settings):
        self.host, self.settings = host, settings
    @classmethod
    def options(cls):
        return [cfg.IntOpt('patience', default=7)]
    def unavailable(self):
        return None
    def properties(self):
        return {'sound': self.settings.patience}
"""
MISSING = SOUND.replace('return None', "return 'a tool is missing; get it'")
BROKEN = {
    'import': 'import no_such_module_anywhere\n',
    'syntax': 'def\n',
    'name': 'Other = None\n',
    'options': SOUND.replace('return [', 'raise OSError("no")\n        ['),
    'constructor': SOUND.replace('self.host, self', 'raise OSError("no") #'),
    'no connector': 'Connector = 5\n',
}

THIS_HOST = {
    'etc/iscsi/initiatorname.iscsi': 'InitiatorName=iqn.this\n',
    'etc/nvme/hostnqn': 'nqn.this\n',
    'etc/nvme/hostid': 'id\n',
    'dev/nvme-fabrics': '',
    'sys/module/nvme_core/parameters/multipath': 'Y\n',
    'sys/bus/rbd/add': '',
    'sys/class/fc_host/host1/port_name': '0x2100000e1e000001\n',
    'sys/class/fc_host/host1/port_state': 'Online\n',
}

Load = Callable[[dict[str, str]], connectors.Connectors]


@pytest.fixture
def load(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Install packages with one connector each, and load them all.

    The packages are real ones on the path: entry points and modules.
    """

    def install(sources: dict[str, str]) -> connectors.Connectors:
        lines = []
        for number, (name, source) in enumerate(sources.items()):
            module = f'{tmp_path.name.replace("-", "_")}_{number}'
            file = tmp_path / f'{module}.py'
            file.write_text(textwrap.dedent(source))
            lines.append(f'{name} = {module}:Connector\n')
        metadata = tmp_path / 'plugins-1.0.dist-info'
        metadata.mkdir()
        (metadata / 'METADATA').write_text('Name: plugins\nVersion: 1.0\n')
        (metadata / 'entry_points.txt').write_text(
            f'[{connectors.NAMESPACE}]\n' + ''.join(lines)
        )
        # stevedore keeps what it finds by path, in memory and on the disk
        monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
        monkeypatch.setattr(
            extension.ExtensionManager, 'ENTRY_POINT_CACHE', {}
        )
        monkeypatch.setattr(sys, 'path', [str(tmp_path), *sys.path])
        conf = cfg.ConfigOpts()
        conf(args=[], default_config_files=[], default_config_dirs=[])
        for name, text in THIS_HOST.items():
            file = tmp_path / 'root' / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        host: Any = on_files(tmp_path / 'root')
        host.tool = lambda name: pathlib.Path('/usr/sbin') / name
        return connectors.Connectors(host, conf)

    return install


def test_a_connector_of_somebody_else(load: Load) -> None:
    found = load({'sound': SOUND})
    connector = found.get('sound')
    assert connector.settings.patience == 7
    assert found.availability() == {
        'fibre_channel': None,
        'iscsi': None,
        'local': 'the option local_roots of group [local] is empty',
        'nfs': 'the option mount_point_base of group [nfs] is not set',
        'nvmeof': None,
        'rbd': None,
        'sound': None,
    }
    assert found.properties() == {
        'initiator': 'iqn.this',
        'nqn': 'nqn.this',
        'nvme_hostid': 'id',
        'nvme_native_multipath': True,
        'wwpns': ['2100000e1e000001'],
        'sound': 7,
    }
    assert found.get('iscsi') is not connector


def test_what_keeps_a_protocol_from_putting_paths_together(
    load: Load, tmp_path: pathlib.Path
) -> None:
    found = load({'sound': SOUND, 'broken': BROKEN['import']})
    assert found.cannot_assemble('nvmeof') is None
    parameter = tmp_path / 'root/sys/module/nvme_core/parameters/multipath'
    parameter.write_text('N')
    assert 'nvme_core.multipath=N' in str(found.cannot_assemble('nvmeof'))
    # What cannot be used cannot put anything together either
    assert 'no connector' in str(found.cannot_assemble('morse'))
    assert 'cannot be loaded' in str(found.cannot_assemble('broken'))


@pytest.mark.parametrize('kind', BROKEN)
def test_a_broken_connector_stops_none(load: Load, kind: str) -> None:
    # Given a connector that is broken, and one that is not
    found = load({'broken': BROKEN[kind], 'sound': SOUND})
    # Then the others work
    assert found.get('iscsi').unavailable() is None
    assert found.get('sound').unavailable() is None
    assert found.properties()['sound'] == 7
    # And who asks for the broken one is told why it is not there
    with pytest.raises(exception.UnsupportedProtocol) as caught:
        found.get('broken')
    assert 'cannot be loaded' in str(caught.value)
    reason = found.availability()['broken']
    assert reason is not None
    assert 'cannot be loaded' in reason


def test_a_connector_that_lacks_something(load: Load) -> None:
    found = load({'lacking': MISSING})
    with pytest.raises(exception.HostToolMissing, match='get it'):
        found.get('lacking')
    assert found.availability()['lacking'] == 'a tool is missing; get it'


def test_a_protocol_that_nobody_serves(load: Load) -> None:
    with pytest.raises(exception.UnsupportedProtocol, match='no connector'):
        load({}).get('aoe')
