# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A run of a flow with a connector that does what a test says."""

import collections
from collections.abc import Callable
from collections.abc import Iterable
import dataclasses
import threading
import types
from typing import Any

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker import objects
from attachworker.connectors import base
from attachworker.host import block
from attachworker.host import multipath
from attachworker.host import scsi
from attachworker.host import verbs
from attachworker.tasks.run import Run
from attachworker.worker import engine
from tests.unit.objects import shapes
from tests.unit.tasks import fake_encryption

PATIENCE = 10.0
GOOD = '36001405' + 25 * '0'

ONE = objects.Target('192.0.2.1:3260', 'iqn.2026-01.example:one', 0)
TWO = objects.Target('192.0.2.2:3260', 'iqn.2026-01.example:one', 0)
THREE = objects.Target('192.0.2.3:3260', 'iqn.2026-01.example:one', 0)


class FakeConnector:
    """Connects what it is told to, and notes what it was asked.

    :ivar begun: by target, is set once it may have changed something
    :ivar errors: by target, what connecting it raises
    :ivar before: by target, what an attempt waits for before it has changed
        anything
    :ivar during: by target, what an attempt waits for after that
    :ivar known: what a discovery finds
    :ivar discovery: what it raises instead
    :ivar took_turn: by target, is set once its device may come
    :ivar after_turn: by target, what an attempt waits for after that
    :ivar wwns: by disk, other identifiers than GOOD
    :ivar dead: disks that do not say who they are
    :ivar left: by target, what cannot be taken away
    :ivar cached: by disk, what the kernel remembers of its identifier
    :ivar stuck: disks that cannot be rescanned
    :ivar no_assembly: why its paths do not become one device
    :ivar renamed: by disk, what its address has by now
    :ivar strangers: by disk, paths that no attachment of the run names
    :ivar disconnected: targets that were to be taken away
    :ivar removed: those of them whose device has gone
    """

    device_type = 'block'
    assembler = base.Assembler.MULTIPATHD
    leaves_found = False
    target_class = objects.Target

    def __init__(self) -> None:
        #: Those of the host of the run.
        self.devices: Any = None
        self.users: Any = None
        self.errors: dict[base.Target, BaseException] = {}
        self.before: dict[base.Target, threading.Event] = {}
        self.during: dict[base.Target, threading.Event] = {}
        self.after_turn: dict[base.Target, threading.Event] = {}
        self.took_turn = collections.defaultdict[base.Target, threading.Event](
            threading.Event
        )
        self.wwns: dict[str, str] = {}
        self.dead: set[str] = set()
        self.left: dict[base.Target, list[str]] = {}
        self.stuck: set[str] = set()
        self.cached: dict[str, str] = {}
        self.rescanned: list[str] = []
        self.connected: dict[base.Target, base.Path] = {}
        self.begun = collections.defaultdict[base.Target, threading.Event](
            threading.Event
        )
        self.known: list[base.Target] = []
        self.discovery: BaseException | None = None
        self.began: list[base.Target] = []
        self.disconnected: list[base.Target] = []
        self.removed: list[base.Target] = []
        self.no_assembly: str | None = None
        self.renamed: dict[str, base.Path | None] = {}
        self.strangers: dict[str, base.Path] = {}

    def node(self, disk: str) -> str:
        return f'/dev/{disk}'

    def discover(
        self,
        info: objects.ConnectionInfo,
        multipath: bool,
        deadline: deadlines.Deadline,
    ) -> list[base.Target]:
        if self.discovery is not None:
            raise self.discovery
        return self.known

    def connect(
        self,
        info: objects.ConnectionInfo,
        claim: base.Claim,
        interest: base.Interest,
    ) -> base.Path:
        target = claim.target
        self.began.append(target)
        if target in self.before:
            self.before[target].wait(PATIENCE)
        interest.commit(f'connecting {target}')
        self.begun[target].set()
        if target in self.during:
            self.during[target].wait(PATIENCE)
        interest.take_turn(f'connecting {target}')
        self.took_turn[target].set()
        if target in self.after_turn:
            self.after_turn[target].wait(PATIENCE)
        if target in self.errors:
            raise self.errors[target]
        path = base.Path(target, f'sd{target.portal[8]}', 'address')
        self.connected[target] = path
        return path

    def disconnect(
        self, claim: base.Claim, may_remove: base.MayRemove
    ) -> list[str]:
        target = claim.target
        self.disconnected.append(target)
        if target in self.left:
            return self.left[target]
        reasons: list[str] = []
        for path in self.paths(target):
            goes, more = may_remove(path)
            reasons += more
            if goes:
                self.removed.append(target)
                self.connected.pop(target)
        if not reasons:
            claim.holdings.release(target)
        return reasons

    def cannot_assemble(self) -> str | None:
        return self.no_assembly

    def puts_together(self) -> bool:
        return False

    def current(self, path: base.Path) -> base.Path | None:
        found = self.connected.get(path.target)
        return self.renamed.get(path.disk, found)

    def path_of(self, disk: str) -> base.Path | None:
        known = {path.disk: path for path in self.connected.values()}
        return known.get(disk) or self.strangers.get(disk)

    def paths(self, target: base.Target) -> list[base.Path]:
        return [
            dataclasses.replace(path, wwn=self.cached.get(path.disk))
            for path in [self.connected.get(target)]
            if path is not None
        ]

    def identify(self, path: base.Path, deadline: Any) -> str:
        if path.disk in self.dead:
            raise exception.DeviceNotFound(volume=path.target.label)
        return self.wwns.get(path.disk, GOOD)

    def rescan(self, path: base.Path, deadline: Any) -> None:
        self.rescanned.append(path.disk)
        if path.disk in self.stuck:
            raise OSError(5, 'Input/output error')


class FakeBlock:
    """Block devices without data.

    :ivar busy: by disk, its users
    :ivar looks: whose users were looked for, each time
    :ivar own: by disk, what this host cannot do without
    :ivar broken: by disk, what reading or flushing it raises
    :ivar instances: by disk, others than 0
    """

    def __init__(self) -> None:
        self.bytes: int | None = 4096
        self.sizes: dict[str, int] = {}
        self.protected: set[str] = set()
        self.busy: dict[str, list[str]] = {}
        self.looks: list[list[str]] = []
        self.own: dict[str, list[str]] = {}
        self.broken: dict[str, OSError] = {}
        self.flushed: list[str] = []
        self.instances: dict[str, int] = {}

    def size(self, disk: str) -> int | None:
        return self.sizes.get(disk, self.bytes)

    def read_only(self, disk: str) -> bool:
        return disk in self.protected

    def of(
        self, disks: list[str], deadline: Any, mapping: str = ''
    ) -> dict[str, list[str]]:
        self.looks.append(disks)
        return {disk: self.busy.get(disk, []) for disk in disks}

    def own_file_systems(
        self, disks: list[str], deadline: Any
    ) -> dict[str, list[str]]:
        return {disk: self.own[disk] for disk in disks if disk in self.own}

    def resumes(self, disk: str, deadline: Any) -> bool:
        return True

    def flush(self, disk: str, deadline: Any) -> None:
        if disk in self.broken:
            raise self.broken[disk]
        self.flushed.append(disk)

    def device(self, disk: str) -> block.Device | None:
        if self.bytes is None:
            return None
        return block.Device(disk, self.instances.get(disk, 0))

    def check_readable(self, device: block.Device, deadline: Any) -> None:
        if device.name in self.broken:
            raise self.broken[device.name]


class FakeMultipath:
    """A multipathd that puts under one map whatever it is shown.

    :ivar up: whether it is running
    :ivar makes: whether it makes maps
    :ivar map: the map, if there is one
    :ivar also: disks of others that are in the map
    :ivar alive: its disks that work; None: all
    :ivar ready: whether a map takes I/O
    :ivar stays: whether the map cannot be removed
    """

    def __init__(self) -> None:
        self.up = True
        self.makes = True
        self.map: multipath.Map | None = None
        self.also: tuple[str, ...] = ()
        self.alive: list[str] | None = None
        self.stays = False
        self.ready = True
        self.remembered: list[str] = []
        self.forgotten: list[str] = []
        self.released: list[str] = []
        self.queueing: bool | None = None

    def running(self, deadline: Any) -> bool:
        return self.up

    def missing(self, deadline: Any) -> str | None:
        return None if self.up else 'multipathd is not running; start it'

    def returns(self, deadline: Any) -> bool:
        return self.up

    def of(self, disk: str) -> multipath.Map | None:
        return self.map if self.map and disk in self.map.disks else None

    def of_any(self, disks: Iterable[str]) -> multipath.Map | None:
        return next(filter(None, map(self.of, disks)), None)

    def find(self, wwid: str) -> multipath.Map | None:
        return self.map if self.map and self.map.wwid == wwid else None

    def remember(self, wwid: str, deadline: Any) -> None:
        self.remembered.append(wwid)

    def forget(self, wwid: str, deadline: Any) -> None:
        self.forgotten.append(wwid)

    def wait_for(
        self, wwid: str, disks: list[str], *arguments: Any, **values: Any
    ) -> multipath.Map | None:
        if not self.ready:
            return None
        if self.makes:
            known = self.map.disks if self.map else ()
            both = dict.fromkeys((*known, *disks, *self.also))
            self.map = multipath.Map('dm-0', wwid, tuple(both))
        return self.map

    def release(self, disk: str, wwid: str | None, deadline: Any) -> None:
        self.released.append(disk)

    def working(self, found: multipath.Map, deadline: Any) -> list[str]:
        return list(found.disks) if self.alive is None else self.alive

    def set_queueing(
        self, found: multipath.Map, queue: bool, deadline: Any
    ) -> None:
        self.queueing = queue

    def remove(self, found: multipath.Map, deadline: Any) -> bool:
        if not self.stays:
            self.map = None
        return not self.stays


class FakeScsi:
    """
    :ivar serials: by disk
    """

    def __init__(self) -> None:
        self.serials: dict[str, str] = {}

    def of_disk(self, disk: str) -> scsi.ScsiDevice:
        return scsi.ScsiDevice('0:0:0:0', disk)

    def serial(self, device: scsi.ScsiDevice, deadline: Any) -> str | None:
        return self.serials.get(str(device.disk))


class FakeHoldings:
    """Targets in ``others`` are used by other attachments.

    :ivar other_attachments: other attachments of the volume
    :ivar others_have_map: whether these were given a map
    :ivar found: targets whose device was there before
    """

    def __init__(self) -> None:
        self.others: set[base.Target] = set()
        self.other_attachments: list[str] = []
        self.others_have_map = False
        self.found: set[base.Target] = set()
        self.released: list[base.Target] = []
        self.handed_over: list[tuple[base.Target, str]] = []
        self.identified: str | None = None

    def take(self, target: base.Target) -> None:
        pass

    def hand_over(self, target: base.Target, heir: str) -> None:
        self.handed_over.append((target, heir))

    def identify(self, identity: str) -> None:
        self.identified = identity

    def identity(self) -> str | None:
        return self.identified

    def note_line(self, wwid: str) -> None:
        pass

    def was_listed(self, wwid: str) -> bool:
        return False

    def listed_for_us(self) -> set[str]:
        return set()

    def volume_holders(self, identity: str | None, like: Any) -> list[str]:
        return self.other_attachments

    def volume_id(self, attachment_id: str | None = None) -> str | None:
        return None

    def name_holders(self, paths: Any) -> list[str]:
        return self.other_attachments

    def has_map(self, attachment_id: str) -> bool | None:
        return self.others_have_map

    def local_holders(self, identity: str | None, like: Any) -> list[str]:
        return []

    def paths(self, target_class: Any, name: str) -> list[base.Target]:
        return list(self.others)

    def made_device(self, target: base.Target) -> bool:
        return target not in self.found

    def release(self, target: base.Target) -> None:
        self.released.append(target)

    def path_holders(self, target: base.Target) -> list[str]:
        return ['another'] if target in self.others else []


class Watched(Run):
    """Calls what a test has put there, as each step starts and ends."""

    def before(self, step: str) -> None:
        self.hooks.get(('before', step), lambda: None)()
        super().before(step)

    def after(self, step: str) -> None:
        self.hooks.get(('after', step), lambda: None)()
        super().after(step)

    @property
    def hooks(self) -> dict[tuple[str, str], Callable[[], None]]:
        found: dict[tuple[str, str], Callable[[], None]] = (
            self.__dict__.setdefault('_hooks', {})
        )
        return found

    def fails_after(self, step: str, error: BaseException) -> None:
        def fail() -> None:
            raise error

        self.hooks['after', step] = fail


def make(
    *targets: base.Target,
    connector: FakeConnector | None = None,
    seconds: float = PATIENCE,
    **values: Any,
) -> Watched:
    """A run whose parts are all fakes; see the classes above."""
    chosen = connector or FakeConnector()
    disks = chosen.devices = chosen.users = FakeBlock()
    run = Watched(
        info=objects.ConnectionInfo.from_dict(shapes.lio()),
        targets=list(targets) or [ONE],
        host=types.SimpleNamespace(  # type: ignore[arg-type]
            block=disks,
            users=disks,
            encryption=fake_encryption.FakeEncryption(),
            tool=lambda name: f'/sbin/{name}',
            multipath=FakeMultipath(),
            scsi=FakeScsi(),
            check_device=lambda disk, address: None,
            verbs=verbs.Verbs(),
            # nothing changes while somebody waits
            uevents=types.SimpleNamespace(
                wait_for=lambda look, relevant, deadline: look()
            ),
        ),
        get_connector=lambda protocol: chosen,  # type: ignore[arg-type,return-value]
        holdings=FakeHoldings(),  # type: ignore[arg-type]
        deadline=deadlines.Deadline.after(seconds),
        **values,
    )
    run.grace = PATIENCE
    return run


class Steps:
    """Notes each step and how it ended, as the engine tells it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.started: list[str] = []
        self.ended: list[tuple[str, str]] = []

    def step_started(self, step: str) -> None:
        with self._lock:
            self.started.append(step)

    def step_ended(
        self, step: str, elapsed: float, error: BaseException | None
    ) -> None:
        with self._lock:
            self.ended.append((step, type(error).__name__ if error else 'ok'))


def drive(flow: Any, observer: Any = None) -> engine.Outcome:
    """Run a flow as the worker does."""
    return engine.run(flow, observer or Steps(), several=True)
