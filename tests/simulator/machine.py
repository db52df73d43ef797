# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The simulated machine: all its parts, and its start."""

from collections.abc import Callable
import pathlib
import threading
from typing import Any
import uuid

from tests.simulator import block
from tests.simulator import crypts
from tests.simulator import disks
from tests.simulator import fabric
from tests.simulator import faults
from tests.simulator import iscsid
from tests.simulator import loops
from tests.simulator import maps
from tests.simulator import mounts
from tests.simulator import multipathd
from tests.simulator import nvme
from tests.simulator import portals
from tests.simulator import processes
from tests.simulator import rbd
from tests.simulator import removals
from tests.simulator import scsi
from tests.simulator import sessions
from tests.simulator import storage
from tests.simulator import tree as trees
from tests.simulator import uevents
from tests.simulator import wire

BOOT_ID = 'proc/sys/kernel/random/boot_id'
#: A tool is there if its file is.
ISCSIADM = 'usr/sbin/iscsiadm'
LOOP_CONTROL = 'dev/loop-control'
CRYPTSETUP = 'usr/sbin/cryptsetup'
INITIATOR_NAME = 'etc/iscsi/initiatorname.iscsi'
NODES = 'etc/iscsi/nodes'
SEND_TARGETS = 'etc/iscsi/send_targets'
LOCKS = 'run/lock/iscsi'

VOLUMES = 'run/volumes'
_CLASSES = (
    'block',
    'fc_host',
    'fc_remote_ports',
    'fc_transport',
    'iscsi_connection',
    'iscsi_host',
    'iscsi_session',
    'nvme',
    'scsi_device',
    'scsi_host',
)


class Machine:
    """A host and the storage that it can reach.

    Its attributes named like the groups of verbs are the privileged verbs.

    :param root: an existing directory, resolved
    :param opened: whether a verb has a device open
    """

    def __init__(
        self,
        root: pathlib.Path,
        plan: faults.FaultPlan,
        opened: Callable[[str], bool],
    ) -> None:
        self._lock = threading.RLock()
        changed = threading.Condition(self._lock)
        self.tree = trees.Tree(root)
        self.tree.clear(VOLUMES)
        for directory in (VOLUMES, wire.UEVENTS):
            (root / directory).mkdir(parents=True, exist_ok=True)
        initiator_name = f'iqn.1993-08.org.debian:01:{uuid.uuid4().hex[:12]}'
        events = uevents.Uevents(root / wire.UEVENTS, plan)
        self.portals = portals.Portals()
        self.storage = storage.Storage(root / VOLUMES, self.refresh)
        self.sessions = sessions.Sessions(self.tree, events, initiator_name)
        self._disks = disks.Disks(
            self._lock, self.tree, events, self.storage, opened
        )
        self._maps = maps.Maps(changed, self.tree, events, self._disks)
        self.loop = loops.Loops(self._lock, self.tree, events)
        self.nvme = nvme.NVMe(
            self._lock, self.tree, events, self.portals, root / VOLUMES
        )
        self.rbd = rbd.RBD(
            self._lock, self.tree, events, self.portals, root / VOLUMES
        )
        self.mounts = mounts.Mounts(self._lock, self.tree, self.portals)
        self.block = block.Block(
            changed,
            self.tree,
            self._disks,
            self._maps,
            self.loop,
            self.nvme,
            self.rbd,
        )
        self.processes = processes.Processes(self.tree)
        self.removals = removals.Removals(
            self.tree, self.block, self.processes
        )
        self.encryption = crypts.Crypts(
            self._lock, self.tree, events, self.block
        )
        self.multipath = multipathd.Multipathd(
            self._lock, self.tree, self._disks, self._maps
        )
        self.scsi = scsi.Bus(
            self._lock,
            self.tree,
            events,
            self.storage,
            self.sessions,
            self._disks,
        )
        self.fabric = fabric.Fabric(
            self._lock,
            self.tree,
            events,
            self.storage,
            self.sessions,
            self.scsi,
        )
        self.scsi.others = self.fabric.by_address
        self.iscsi = iscsid.Iscsid(
            self._lock,
            self.storage,
            self.portals,
            self.sessions,
            self.scsi,
            self.refresh,
        )
        self.boot()
        self.tree.write(ISCSIADM, '')
        self.tree.write(LOOP_CONTROL, '')
        self.tree.write(CRYPTSETUP, '')
        self.tree.write(mounts.TOOL, '')
        self.tree.write(INITIATOR_NAME, f'InitiatorName={initiator_name}\n')

    def boot(self) -> None:
        """Start (again): no session, no device, another boot id."""
        with self._lock:
            self.iscsi.clear()
            self.scsi.clear()
            self.fabric.clear()
            self.multipath.clear()
            self.encryption.clear()
            self._maps.clear()
            self.loop.clear()
            self.nvme.clear()
            self.rbd.clear()
            self._disks.clear()
            self.sessions.clear()
            self.tree.clear('sys', 'proc', 'dev', LOCKS)
            directories = [f'sys/class/{name}' for name in _CLASSES]
            directories += ['sys/devices/platform', 'dev']
            directories += [NODES, SEND_TARGETS, LOCKS]
            for directory in directories:
                path = self.tree.root / directory
                path.mkdir(parents=True, exist_ok=True)
            self.nvme.boot()
            self.rbd.boot()
            self.mounts.boot()
            self.tree.write(BOOT_ID, f'{uuid.uuid4()}\n')
            self.tree.write(
                processes.MOUNTS,
                '22 1 259:1 / / rw,relatime - ext4 /dev/root rw\n',
            )
            self.tree.write(block.SWAPS, block.NO_SWAPS)
            self.block.claims.clear()
            self.processes.hidden.clear()
            self.removals.made.clear()
            self.fabric.boot()

    def vanish(self, verb: str, arguments: dict[str, Any]) -> None:
        """Take away, unasked, what a verb was about."""
        if verb == 'iscsi.login':
            portal = portals.key(arguments['address'], arguments['port'])
            with self._lock:
                session = self.sessions.by_portal(
                    arguments['target_name'], portal
                )
                if session is not None:
                    self.iscsi.drop(session)
            return
        if verb == 'scsi.scan':
            names = ('host', 'channel', 'target', 'lun')
            self.scsi.vanish(':'.join(str(arguments[n]) for n in names))
        elif verb == 'scsi.rescan':
            self.scsi.vanish(arguments['hctl'])
        elif verb.startswith('encryption.') and 'name' in arguments:
            self.encryption.vanish(arguments['name'])
        elif verb == 'loop.attach':
            self.loop.vanish(arguments['path'])
        elif verb == 'nvme.connect':
            options = arguments['options']
            portal = portals.key(options['traddr'], int(options['trsvcid']))
            self.nvme.vanish_at(options['nqn'], portal)
        elif verb.startswith('nvme.'):
            self.nvme.vanish_controller(arguments['controller'])
        elif verb.startswith(('mounts.', 'rbd.')):
            part = self.rbd if verb.startswith('rbd.') else self.mounts
            part.vanish(arguments)
        else:
            (device,) = (
                arguments[name]
                for name in ('device', 'disk', 'map_name')
                if name in arguments
            )
            self._vanish(device)

    def _vanish(self, device: str) -> None:
        with self._lock:
            found = self._maps.find(device)
            if found is not None:
                self._maps.remove(found)
                return
            loop = self.loop.find(device)
            if loop is not None:
                self.loop.vanish(loop.path)
                return
            if self.nvme.find(device) is not None:
                self.nvme.vanish(device)
                return
            mapping = self.rbd.find(device)
            if mapping is not None:
                self.rbd.vanish({'number': mapping.number})
                return
        hctl = self.scsi.hctl_of(device)
        if hctl is not None:
            self.scsi.vanish(hctl)

    def refresh(self) -> None:
        """Let I/O find its way again: storage or paths have changed."""
        with self._lock:
            self._disks.refresh()
            self._maps.refresh()
