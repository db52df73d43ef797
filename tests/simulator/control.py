# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What tests may do to the simulated world, beyond the verbs."""

import errno
import os
from typing import Any

from tests.simulator import block
from tests.simulator import faults
from tests.simulator import machine as machines
from tests.simulator import portals
from tests.simulator import processes
from tests.simulator import rbd
from tests.simulator import running
from tests.simulator import storage
from tests.simulator import verbs


class Controls:
    """Every public method is a control command of the server."""

    def __init__(
        self,
        machine: machines.Machine,
        plan: faults.FaultPlan,
        calls: running.Running,
    ) -> None:
        self._machine = machine
        self._plan = plan
        self._armed: list[faults.ArmedFault] = []
        self._running = calls

    # Storage.

    def create_volume(
        self,
        size: int,
        portals: int = 1,
        target: str | None = None,
        chap: list[str] | None = None,
        lun: int | None = None,
        mapped: bool = True,
        block_size: int = 512,
        target_name: str | None = None,
        like: str | None = None,
        company: str = '001405',
    ) -> dict[str, Any]:
        """Make a volume, on a new target unless one is named."""
        if target is None:
            names = [self._machine.portals.create() for _ in range(portals)]
            pair = (chap[0], chap[1]) if chap else None
            found = self._machine.storage.create_target(
                tuple(names), pair, target_name
            )
        else:
            known = self._machine.storage.target(target)
            if known is None:
                raise ValueError(f'no such target: {target}')
            found = known
        volume, number = self._machine.storage.create_volume(
            found, lun, size, mapped, block_size, like, company
        )
        return _told(volume, found, number)

    def export_volume(self, volume: str, target: str) -> dict[str, Any]:
        """Map a volume that exists on one more target."""
        known = self._machine.storage.target(target)
        found = self._machine.storage.by_name(volume)
        if known is None or found is None:
            raise ValueError(f'no such target or volume: {target}, {volume}')
        number = self._machine.storage.export(volume, known)
        return _told(found, known, number)

    def create_fc_volume(
        self,
        size: int,
        portals: int,
        target: str | None,
        mapped: bool,
        lun: int | None,
    ) -> dict[str, Any]:
        """Make a volume, of a new array unless one is named."""
        if target is None:
            array = self._machine.fabric.create_array(portals)
        else:
            known = self._machine.storage.target(target)
            if known is None:
                raise ValueError(f'no such array: {target}')
            array = known
        volume, number = self._machine.storage.create_volume(
            array, lun, size, mapped, 512
        )
        return _told(volume, array, number) | {'protocol': 'fibre_channel'}

    def lose_port(self, portal: str) -> None:
        """The kernel gives up a target port that was cut off."""
        self._machine.fabric.lose(portal)

    def block_port(self, portal: str) -> None:
        """Cut a target port off; what is asked of its devices waits."""
        self._machine.fabric.set_waiting(portal)

    def set_port(self, portal: str, connected: bool) -> None:
        """Cut a target port off, or connect it again."""
        self._machine.fabric.set_connected(portal, connected)
        self._machine.refresh()

    def create_nvme_volume(
        self, size: int, portals: int, target: str | None
    ) -> dict[str, Any]:
        """Make a namespace, of a new subsystem unless one is named."""
        volume, subsystem, nsid = self._machine.nvme.create_volume(
            size, portals, target
        )
        return {
            'name': volume.name,
            'target': subsystem.nqn,
            'portals': subsystem.portals,
            'lun': nsid,
            'wwn': volume.uuid,
            'size': size,
            'pattern': volume.pattern(),
            'chap': None,
            'protocol': 'nvmeof',
        }

    def create_rbd_volume(
        self, size: int, pool: str, image: str
    ) -> dict[str, Any]:
        made, monitors = self._machine.rbd.create_image(size, pool, image)
        return {
            'name': image,
            'target': made.spec,
            'portals': monitors,
            'lun': 0,
            'wwn': made.image_id,
            'size': size,
            'pattern': made.file.read_bytes()[:4096],
            'chap': (rbd.USER, rbd.KEY),
            'protocol': 'rbd',
        }

    def remove_rbd_volume(self, spec: str) -> None:
        self._machine.rbd.remove_image(spec)

    def resize_rbd_volume(self, spec: str, size: int) -> None:
        """Grow an image; the host is not told."""
        self._machine.rbd.resize_image(spec, size)

    def create_mount_volume(
        self, size: int, share: str | None
    ) -> dict[str, Any]:
        """Make a file, on a new share unless one is named."""
        share, portal, file = self._machine.mounts.create_volume(size, share)
        return {
            'name': file.name,
            'target': share,
            'portals': [portal],
            'lun': 0,
            'wwn': '',
            'size': size,
            'pattern': file.read_bytes()[:4096],
            'chap': None,
            'protocol': 'nfs',
        }

    def make_mount(self, share: str, kind: str, options: str) -> None:
        """Have somebody else mount something in the place of a share."""
        self._machine.mounts.make(share, kind, options, ours=False)

    def take_mount_away(self, directory: str) -> None:
        """Have somebody else unmount what is there."""
        self._machine.mounts.take_away(directory)

    def make_loop_device(self, path: str) -> None:
        """Have somebody else make a loop device of a file."""
        self._machine.loop.make(path)

    def remove_loop_device(self, path: str) -> None:
        """Have him take it away again."""
        self._machine.loop.take_away(path)

    def blocklist(self, blocked: bool) -> None:
        """Have the cluster of images refuse this host, or serve it again."""
        self._machine.rbd.blocklist(blocked)

    def halve_mapping(self, mapping: str) -> None:
        """Leave only the lower device of a mapping with integrity."""
        self._machine.encryption.halve(mapping)

    def set_nvme_access(self, portal: str, serves: bool) -> None:
        """Have a portal serve what it shows, or not (ANA)."""
        self._machine.nvme.set_access(portal, serves)

    def set_nvme_version(self, target: str, lun: int, version: str) -> str:
        """Have a subsystem be of an older version of NVMe.

        :param version: 1.3, 1.2 or 1.0
        :returns: the NGUID of a volume, if the version has any
        """
        return self._machine.nvme.set_version(target, lun, version)

    def remove_nvme_volume(self, target: str, lun: int) -> None:
        """Unmap a namespace; the host is told."""
        self._machine.nvme.remove_volume(target, lun)

    def remove_volume(self, target: str, lun: int) -> None:
        """Unmap a volume and forget its data; the host is not told."""
        self._machine.storage.remove_volume(target, lun)

    def resize_volume(self, volume: str, size: int) -> None:
        self._machine.storage.resize_volume(volume, size)

    def remap(self, target: str, lun: int, volume: str, portal: str) -> None:
        """Have a LUN lead to another volume, at one portal or at all."""
        self._machine.storage.remap(target, lun, volume, portal)

    def set_access(
        self, target: str, lun: int, portal: str, state: str
    ) -> None:
        self._machine.storage.set_access(target, lun, portal, state)

    def set_discovery_chap(self, chap: list[str] | None) -> None:
        pair = (chap[0], chap[1]) if chap else None
        self._machine.storage.discovery_chap = pair

    def kill_path(self, portal: str) -> None:
        """Break the connections of a portal, and refuse new ones."""
        self.set_portal(portal, 'stopped')
        self._machine.iscsi.set_connected(portal, False)
        self._machine.nvme.set_connected(portal, False)

    def restore_path(self, portal: str) -> None:
        self.set_portal(portal, 'listening')
        self._machine.iscsi.set_connected(portal, True)
        self._machine.nvme.set_connected(portal, True)

    def set_portal(self, portal: str, state: str) -> None:
        """:param state: ``listening``, ``stopped`` or ``hanging``"""
        self._machine.portals.set(portal, portals.PortalState(state))

    # The host.

    def reboot(self) -> None:
        self._machine.boot()

    def drop_session(self, target: str, portal: str) -> None:
        """Somebody else on the host logs out."""
        session = self._machine.sessions.by_portal(target, portal)
        if session is not None:
            self._machine.iscsi.drop(session)

    def set_multipathd(
        self,
        find_multipaths: str | None,
        user_friendly_names: bool,
        queueing: bool,
        reaction: float,
        uid_attribute: str | None,
        blacklist: bool,
    ) -> None:
        """(Re)start it."""
        self._machine.multipath.start(
            find_multipaths,
            user_friendly_names,
            queueing,
            reaction,
            uid_attribute,
            blacklist,
        )

    def protect_etc(self, protect: bool) -> None:
        self._machine.multipath.read_only = protect
        self._machine.nvme.read_only = protect

    def known_to_multipathd(self) -> list[str]:
        return self._machine.multipath.paths()

    def stop_multipathd(self) -> None:
        self._machine.multipath.stop()

    def mount(self, device: str, directory: str, pid: int = 1) -> None:
        """Show a device as mounted.

        :param pid: of a process in whose namespace it is; 1: the host's own
        """
        tree = self._machine.tree
        number = (
            (tree.root / 'sys/class/block' / device / 'dev')
            .read_text()
            .strip()
        )
        line = f'36 22 {number} / {directory} rw - ext4 /dev/{device} rw\n'
        table = self._mounts(pid)
        path = tree.root / table
        tree.write(table, (path.read_text() if path.exists() else '') + line)

    def unmount(self, directory: str, pid: int = 1) -> None:
        table = self._mounts(pid)
        lines = (self._machine.tree.root / table).read_text()
        kept = [
            line
            for line in lines.splitlines(keepends=True)
            if line.split()[4] != directory
        ]
        self._machine.tree.write(table, ''.join(kept))

    @staticmethod
    def _mounts(pid: int) -> str:
        return processes.MOUNTS if pid == 1 else f'proc/{pid}/mountinfo'

    def swap_on(self, device: str) -> None:
        """Show a device as one that the host swaps to."""
        line = f'/dev/{device} partition 1048576 0 -2\n'
        self._machine.tree.write(block.SWAPS, block.NO_SWAPS + line)

    def swap_off(self) -> None:
        self._machine.tree.write(block.SWAPS, block.NO_SWAPS)

    def claim(self, device: str) -> None:
        """Have a device exclusively, and show it nowhere."""
        self._machine.block.claims.add(device)

    def disclaim(self, device: str) -> None:
        self._machine.block.claims.discard(device)

    def hide(self, pid: int, command: str) -> None:
        """Have the files of a process kept from everybody."""
        self._machine.processes.hidden.append((pid, command))

    def add_holder(self, device: str, holder: str) -> None:
        """Show another block device as one on top of a device."""
        directory = self._machine.block.find(device).directory
        self._machine.tree.symlink(
            f'sys/{directory}/holders/{holder}',
            f'sys/devices/virtual/block/{holder}',
        )

    def remove_holder(self, device: str, holder: str) -> None:
        directory = self._machine.block.find(device).directory
        self._machine.tree.unlink(f'sys/{directory}/holders/{holder}')

    def settle(self) -> None:
        """Wait until multipathd has reacted to what has come and gone."""
        self._machine.multipath.settle()

    def finish(self) -> None:
        """Let everything go that hangs, and wait until all calls have ended.

        Also those of a process that was killed before they were read.
        """
        self._running.wait_for_others(self._plan.release)

    def running(self) -> list[str]:
        """The verbs that run now."""
        return self._running.verbs()

    def children(self) -> list[str]:
        """The iscsiadm processes that run now, by their verb."""
        running = self._running.verbs()
        return [verb for verb in running if verb.startswith('iscsi.')]

    # Faults.

    def arm(
        self,
        kind: str,
        verb: str = '',
        times: int | None = 1,
        match: dict[str, Any] | None = None,
        exit_code: int = verbs.LOGIN_TIMED_OUT,
        seconds: float = 0.0,
        number: int = errno.EIO,
    ) -> int:
        """Arm a fault and return its index for the commands below."""
        fault = self._plan.arm(
            faults.Fault(kind),
            verb,
            times=times,
            match=match,
            exit_code=exit_code,
            seconds=seconds,
            number=number,
        )
        self._armed.append(fault)
        return len(self._armed) - 1

    def fired(self, index: int) -> int:
        return self._armed[index].fired

    def wait_fired(self, index: int, timeout: float) -> bool:
        return self._armed[index].wait(timeout)

    def release(self, index: int | None = None) -> None:
        """Let go what hangs on one fault, or on any."""
        if index is None:
            self._plan.release()
        else:
            self._armed[index].release()

    def clear_faults(self) -> None:
        self._plan.clear()

    def unfired(self) -> list[str]:
        return [
            f'{fault.kind.value} {fault.verb}'.strip()
            for fault in self._plan.unfired()
        ]

    def pid(self) -> int:
        return os.getpid()


def _told(
    volume: storage.Volume, target: storage.Target, lun: int
) -> dict[str, Any]:
    return {
        'name': volume.name,
        'target': target.name,
        'portals': target.portals,
        'lun': lun,
        'wwn': volume.wwn,
        'size': volume.size,
        'pattern': volume.pattern(),
        'chap': target.chap,
    }
