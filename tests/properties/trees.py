# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A host's sysfs, proc and etc, in which anything may have changed."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import dataclasses
import os
import pathlib
from types import SimpleNamespace
from typing import Self

from hypothesis import strategies as st

from attachworker.connectors.fibre_channel import ports
from attachworker.connectors.iscsi import initiator
from attachworker.connectors.local import loops
from attachworker.connectors.nvmeof import fabrics
from attachworker.connectors.rbd import mappings
from attachworker.host import backends
from attachworker.host import block
from attachworker.host import encryption
from attachworker.host import exports
from attachworker.host import machine
from attachworker.host import memory
from attachworker.host import multipath
from attachworker.host import scsi
from attachworker.host import stacks
from attachworker.host import system
from attachworker.host import uevents
from attachworker.host import verbs
from attachworker.privileged import names
from tests.properties import samples
from tests.unit.host import fake_uevents

_SESSION = 'sys/devices/platform/host2/session1'
_UNIT = f'{_SESSION}/target2:0:0/2:0:0:1'
_CONNECTION = f'{_SESSION}/connection1:0/iscsi_connection/connection1:0'
_PORT = 'sys/devices/pci0000:00/host3/rport-3:0-1'
_REMOTE = f'{_PORT}/fc_remote_ports/rport-3:0-1'
_OF_TARGET = f'{_PORT}/target3:0:0/fc_transport/target3:0:0'
_FC_HOST = 'sys/devices/pci0000:00/host3/fc_host/host3'
_CTL = 'sys/devices/virtual/nvme-fabrics/ctl/nvme0'
_DM = 'sys/devices/virtual/block'
_LIO = 'sys/kernel/config/target/core/fileio_1/one'
_NVMET = 'sys/kernel/config/nvmet/subsystems/nqn.a/namespaces/1'
_MAPPING = f'attachworker-{"0a" * 16}'

FILES: dict[str, bytes] = {
    f'{_UNIT}/state': b'running\n',
    f'{_UNIT}/vendor': b'ACME    \n',
    f'{_UNIT}/model': b'BigDisk \n',
    f'{_UNIT}/wwid': b'naa.6001405a1b2c3d4e\n',
    f'{_UNIT}/vpd_pg83': samples.PAGES[0],
    f'{_UNIT}/vpd_pg80': samples.PAGES[1],
    f'{_UNIT}/block/sda/size': b'2048\n',
    f'{_UNIT}/block/sda/ro': b'0\n',
    f'{_UNIT}/block/sda/dev': b'8:0\n',
    f'{_UNIT}/block/sda/sda1/partition': b'1\n',
    f'{_UNIT}/block/sda/sda1/dev': b'8:1\n',
    f'{_SESSION}/iscsi_session/session1/targetname': b'iqn.2026-01.a:b\n',
    f'{_SESSION}/iscsi_session/session1/state': b'LOGGED_IN\n',
    f'{_SESSION}/iscsi_session/session1/target_id': b'0\n',
    f'{_SESSION}/iscsi_session/session1/ifacename': b'default\n',
    f'{_SESSION}/iscsi_session/session1/initiatorname': b'iqn.2026-01.h:h\n',
    f'{_CONNECTION}/persistent_address': b'192.0.2.1\n',
    f'{_CONNECTION}/persistent_port': b'3260\n',
    f'{_CONNECTION}/address': b'2001:db8::1\n',
    f'{_CONNECTION}/port': b'3260\n',
    f'{_FC_HOST}/port_name': b'0x2100000e1e000001\n',
    f'{_FC_HOST}/node_name': b'0x2000000e1e000001\n',
    f'{_FC_HOST}/port_state': b'Online\n',
    f'{_FC_HOST}/port_type': b'NPIV VPORT\n',
    f'{_REMOTE}/port_name': b'0x5000001000000001\n',
    f'{_REMOTE}/port_state': b'Online\n',
    f'{_REMOTE}/scsi_target_id': b'0\n',
    f'{_OF_TARGET}/port_name': b'0x5000001000000001\n',
    f'{_PORT}/target3:0:0/3:0:0:1/block/sdb/size': b'2048\n',
    'sys/class/scsi_host/host3/proc_name': b'zfcp\n',
    'sys/module/zfcp/parameters/allow_lun_scan': b'Y\n',
    f'{_DM}/dm-0/dm/uuid': b'mpath-36001405a1b2c3d4e\n',
    f'{_DM}/dm-0/dm/name': b'mpatha\n',
    f'{_DM}/dm-0/dm/suspended': b'0\n',
    f'{_DM}/dm-0/size': b'2048\n',
    f'{_DM}/dm-0/dev': b'253:0\n',
    f'{_DM}/dm-1/dm/uuid': b'CRYPT-LUKS2-0a0a-x\n',
    f'{_DM}/dm-1/dm/name': f'{_MAPPING}\n'.encode(),
    f'{_DM}/dm-1/dev': b'253:1\n',
    f'{_DM}/loop0/loop/backing_file': b'/dev/sda (deleted)\n',
    f'{_DM}/loop0/dev': b'7:0\n',
    f'{_CTL}/address': b'traddr=192.0.2.1,trsvcid=4420\n',
    f'{_CTL}/state': b'live\n',
    f'{_CTL}/subsysnqn': b'nqn.a\n',
    f'{_CTL}/hostnqn': b'nqn.h\n',
    f'{_CTL}/hostid': b'c12f3848-f951-49d1-984c-1d99049282d7\n',
    f'{_CTL}/nvme0c0n1/nsid': b'1\n',
    f'{_CTL}/nvme0c0n1/uuid': b'c12f3848-f951-49d1-984c-1d99049282d7\n',
    f'{_CTL}/nvme0c0n1/nguid': b'00112233445566778899aabbccddeeff\n',
    f'{_CTL}/nvme0c0n1/ana_state': b'optimized\n',
    'sys/devices/rbd/0/cluster_fsid': b'c12f3848\n',
    'sys/devices/rbd/0/pool': b'volumes\n',
    'sys/devices/rbd/0/pool_id': b'2\n',
    'sys/devices/rbd/0/pool_ns': b'\n',
    'sys/devices/rbd/0/name': b'one\n',
    'sys/devices/rbd/0/image_id': b'1a2b\n',
    'sys/devices/rbd/0/current_snap': b'-\n',
    'sys/devices/rbd/0/size': b'1048576\n',
    'sys/fs/btrfs/c12f3848/devices/sda/x': b'',
    f'{_LIO}/info': b'Status: ACTIVATED\n  File: /dev/sda  Size: 1\n',
    f'{_NVMET}/enable': b'1\n',
    f'{_NVMET}/device_path': b'/dev/sda\n',
    'proc/swaps': samples.SWAPS.encode(),
    'proc/meminfo': b'MemTotal: 1 kB\nMemAvailable:    204800 kB\n',
    'etc/iscsi/initiatorname.iscsi': b'InitiatorName=iqn.2026-01.h:h\n',
    'etc/nvme/hostnqn': b'nqn.2014-08.org.nvmexpress:uuid:c12f3848\n',
    'etc/nvme/hostid': b'c12f3848-f951-49d1-984c-1d99049282d7\n',
    'etc/nvme/exclusions.conf': samples.EXCLUSIONS.encode(),
    'dev/sda': b'',
    'dev/sda2': b'',
    'dev/dm-0': b'',
    'data/swap file': b'',
}
LINKS = {
    'sys/class/block/sda': f'{_UNIT}/block/sda',
    'sys/class/block/sda1': f'{_UNIT}/block/sda/sda1',
    'sys/class/block/sda2': f'{_UNIT}/block/sda/sda1',
    f'{_UNIT}/block/sda/device': _UNIT,
    f'{_UNIT}/block/sda/holders/dm-0': f'{_DM}/dm-0',
    f'{_DM}/dm-0/slaves/sda': f'{_UNIT}/block/sda',
    f'{_DM}/dm-0/holders/dm-1': f'{_DM}/dm-1',
    f'{_DM}/dm-1/slaves/dm-0': f'{_DM}/dm-0',
    'sys/class/block/dm-0': f'{_DM}/dm-0',
    'sys/class/block/dm-1': f'{_DM}/dm-1',
    'sys/class/block/loop0': f'{_DM}/loop0',
    'sys/dev/block/8:0': f'{_UNIT}/block/sda',
    'sys/class/scsi_device/2:0:0:1/device': _UNIT,
    'sys/class/iscsi_session/session1': (f'{_SESSION}/iscsi_session/session1'),
    f'{_SESSION}/iscsi_session/session1/device': _SESSION,
    'sys/class/iscsi_connection/connection1:0': _CONNECTION,
    'sys/class/fc_host/host3': _FC_HOST,
    'sys/class/fc_remote_ports/rport-3:0-1': _REMOTE,
    f'{_REMOTE}/device': _PORT,
    'sys/class/fc_transport/target3:0:0': _OF_TARGET,
    'sys/class/block/sdb': f'{_PORT}/target3:0:0/3:0:0:1/block/sdb',
    f'{_PORT}/target3:0:0/3:0:0:1/block/sdb/device': (
        f'{_PORT}/target3:0:0/3:0:0:1'
    ),
    'sys/class/nvme/nvme0': _CTL,
    'sys/bus/rbd/devices/0': 'sys/devices/rbd/0',
}


@dataclasses.dataclass(frozen=True)
class View:
    """What is read of the host.

    :ivar read: what it finds
    :ivar places: what the paths begin with that it reads
    """

    name: str
    read: Callable[[machine.Machine], object]
    places: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Change:
    """Another content of a file, or another name of it or its directory.

    :ivar depth: how far above the file what gets the name is
    """

    path: str
    content: bytes = b''
    name: bytes = b''
    depth: int = 0


_names = st.one_of(
    st.binary(min_size=1, max_size=40).filter(
        lambda name: (
            not set(name) & {0, ord('/')} and name not in (b'.', b'..')
        )
    ),
    st.builds(
        lambda start, end: (start + end).encode(),
        st.sampled_from(
            'session host nvme nvme0n dm- sd loop connection1: target'.split()
            + ['1:2:3:', '', 'part']
        ),
        st.sampled_from(['x', '', '\xb2', '\u0663', '9' * 60, '-1', '1:2:3']),
    ).filter(bool),
)


def changes(places: tuple[str, ...]) -> st.SearchStrategy[list[Change]]:
    """Some changes below some directories."""
    paths = st.sampled_from(
        [path for path in FILES if path.startswith(places)]
    )
    texts = st.sampled_from(
        [*FILES.values(), b'', b'\0', b'/dev/\0', b'\xff\xfe', b'-', b'\n\n']
        + [b'9' * 4096, b' ' * 4096, '\xb2\n'.encode(), '\u0663'.encode()]
        + [b'../../..', b'/dev/' + b'a' * 4000]
    )
    content = st.one_of(
        texts,
        st.binary(max_size=80),
        st.builds(bytes.__add__, texts, st.binary(max_size=8)),
    )
    return st.lists(
        st.one_of(
            st.builds(Change, paths, content),
            st.builds(Change, paths, name=_names, depth=st.integers(0, 3)),
        ),
        min_size=1,
        max_size=3,
    )


class Tree:
    """Such a tree, and a machine whose root it is.

    :param place: an empty directory
    """

    def __init__(self, place: pathlib.Path) -> None:
        self._place = place
        self.root = place / 'root'
        for path, content in FILES.items():
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).write_bytes(content)
        for path, target in LINKS.items():
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).symlink_to(self.root / target)
        self._monitor = uevents.UeventMonitor(fake_uevents.FakeSource())
        self.machine = machine.Machine(
            self.root, SimpleNamespace(), verbs.Verbs(), self._monitor
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._monitor.close()

    @contextlib.contextmanager
    def changed(self, wanted: list[Change]) -> Iterator[None]:
        undo = contextlib.ExitStack()
        with undo:
            for one in wanted:
                self._change(one, undo)
            yield

    def _change(self, one: Change, undo: contextlib.ExitStack) -> None:
        place = self.root / one.path
        if not place.exists():
            return
        if not one.name:
            before = place.read_bytes()
            place.write_bytes(one.content)
            undo.callback(place.write_bytes, before)
            return
        for _ in range(one.depth):
            place = place.parent
        if place == self.root:
            return
        new = os.path.join(os.fsencode(place.parent), one.name)
        if os.path.lexists(new):
            return
        os.rename(place, new)
        undo.callback(os.rename, new, place)


def _scsi(host: machine.Machine) -> object:
    view = scsi.SCSI(host)
    session = host.root / _SESSION
    found = view.devices(session)
    for device in found:
        assert device.lun >= 0
        assert device.disk is None or names.scsi_disk(device.disk)
        view.state(device.hctl)
        wwn = view.cached_wwn(device.hctl)
        assert wwn is None or wwn.isprintable()
    view.find(session, 1)
    assert view.of_disk('sda').lun >= 0
    return found


def _block(host: machine.Machine) -> object:
    view = block.Block(host)
    for disk in ('sda', 'sda1', 'dm-0', 'loop0'):
        view.device(disk)
        assert (view.size(disk) or 0) < 2**63
        view.read_only(disk)
        view.of_node(f'/dev/{disk}')
        found = view.identifier(disk)
        assert found is None or found.isprintable()
        if found:
            block.lasting(found)
    return view.identifier('sda')


def _multipath(host: machine.Machine) -> object:
    view = multipath.Multipath(host)
    view.of('sda')
    view.find('36001405a1b2c3d4e')
    for one in view.maps():
        view.ready(one, True)
    return view.maps()


def _encryption(host: machine.Machine) -> object:
    return encryption.Encryption(host).mappings()


def _initiator(host: machine.Machine) -> object:
    view = initiator.Initiator(host)
    view.name()
    view.last_sid()
    view.session_of('sda')
    view.sessions('iqn.2026-01.a:b', '192.0.2.1', 3260)
    return view.everything()


def _ports(host: machine.Machine) -> object:
    view = ports.Ports(host)
    for one in view.hosts():
        assert len(one.wwpn) == 16
        view.seen(one.wwpn, '5000001000000001')
        view.takes_no_scan(one.number)
    view.of_disk('sdb')
    found = view.remote()
    assert all(-1 <= one.target_id < 2**32 - 1 for one in found)
    return found


def _fabrics(host: machine.Machine) -> object:
    view = fabrics.Fabrics(host)
    view.stored_identity()
    view.excluded({'nqn': 'nqn.a'})
    view.controllers()
    return view.namespaces('nvme0')


def _mappings(host: machine.Machine) -> object:
    found = mappings.Mappings(host).mappings()
    for one in found:
        assert one.spec + one.identifier + one.disk
    return found


def _loops(host: machine.Machine) -> object:
    view = loops.Loops(host)
    view.devices('/dev/sda')
    return view.backing_files()


def _exports(host: machine.Machine) -> object:
    stack = stacks.Stack(host.root)
    exports.swaps(host.root)
    exports.owners(stack)
    return exports.users(stack)


def _stacks(host: machine.Machine) -> object:
    stack = stacks.Stack(host.root, _MAPPING)
    for device in ('sda', 'sda1', 'dm-0', 'dm-1', 'loop0'):
        stack.above(device)
        stack.paths(device)
        stack.title(device)
        stack.numbers([device])
    return stack.openable(stack.parts('sda'))


def _backends(host: machine.Machine) -> object:
    view = backends.Backends(host.root)
    abouts = ['session1', 'host2', '2:0:0:1', 'sda', 'dm-0', '192.0.2.1:3260']
    abouts += ['host3', '3:0:0:1', 'sdb']
    return [view.of(one) for one in abouts]


def _memory(host: machine.Machine) -> object:
    return memory.Memory(host.root, lambda name: False).spare()


def _system(host: machine.Machine) -> object:
    return system.read(host.root, 'initiator')


#: What was found so, or would have been: by view.
FOUND = [
    # a CD-ROM, which no verb for disks takes
    ('scsi.SCSI', Change(f'{_UNIT}/block/sda/size', name=b'sr0', depth=1)),
    ('scsi.SCSI', Change(f'{_UNIT}/state', name=b'a:b:c:d', depth=1)),
    ('block.Block', Change(f'{_UNIT}/block/sda/size', b'9' * 19)),
    ('ports.Ports', Change(f'{_REMOTE}/scsi_target_id', b'9' * 40)),
    # digits, but no number
    ('initiator.Initiator', Change(f'{_CONNECTION}/port', '\xb2'.encode())),
    ('mappings.Mappings', Change('sys/devices/rbd/0/size', b'9' * 5000)),
    (
        'memory.Memory',
        Change('proc/meminfo', b'MemAvailable: %s kB' % (b'9' * 5000)),
    ),
    ('exports.users', Change('proc/swaps', b'Filename\n/dev/\\000 1\n \n')),
    ('exports.users', Change(f'{_NVMET}/device_path', b'/dev/\0')),
    ('loops.Loops', Change(f'{_DM}/loop0/loop/backing_file', b'\xff\0')),
]

VIEWS = [
    View('scsi.SCSI', _scsi, (_UNIT, _SESSION)),
    View('block.Block', _block, (_UNIT, _DM)),
    View('multipath.Multipath', _multipath, (_UNIT, _DM)),
    View('encryption.Encryption', _encryption, (_DM,)),
    View('initiator.Initiator', _initiator, (_SESSION, 'etc/iscsi')),
    View('fabrics.Fabrics', _fabrics, (_CTL, 'etc/nvme')),
    View('mappings.Mappings', _mappings, ('sys/devices/rbd',)),
    View('loops.Loops', _loops, (_DM,)),
    View(
        'exports.users',
        _exports,
        ('sys/kernel', 'sys/fs', 'proc/swaps', 'dev'),
    ),
    View('stacks.Stack', _stacks, (_UNIT, _DM, 'dev')),
    View('ports.Ports', _ports, (_PORT, _FC_HOST, 'sys/class/scsi_host')),
    View('backends.Backends', _backends, (_SESSION, _DM, _PORT)),
    View('memory.Memory', _memory, ('proc/meminfo',)),
    View('system.read', _system, ('etc/iscsi',)),
]
