# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""The steps of an attach that are the same for every protocol."""

import functools
from typing import Any
from typing import NamedTuple

from oslo_log import log as logging

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker import objects
from attachworker.connectors import base as connectors
from attachworker.host import block
from attachworker.host import multipath
from attachworker.tasks import base
from attachworker.tasks import takedown
from attachworker.tasks.run import Run

LOG = logging.getLogger(__name__)

#: Digits of the shortest identifier, that of NAA 2, 3 or 5.
_SHORTEST_WWN = 16


class GetConnector(base.Task):
    """Find out how this host connects the volume's protocol.

    Reversion strategy: nothing to undo.
    """

    def execute(self) -> None:
        run = self.run
        connector = run.connector
        if run.encryption is not None:
            _check_block_device(run)
        if run.encryption is not None or run.rotation is not None:
            check_cryptsetup(run)
        if (
            not run.enforce_multipath
            or connector.assembler is connectors.Assembler.NONE
        ):
            return
        reason = connector.cannot_assemble()
        if (
            reason is None
            and connector.assembler is connectors.Assembler.MULTIPATHD
        ):
            reason = run.host.multipath.missing(run.deadline)
        if reason is not None:
            raise exception.MultipathFailed(reason=reason)


class DiscoverTargets(base.Task):
    """Ask the storage for the targets that the request does not name.

    Where it does not say, the target that is named has to do, unless several
    paths are a must.

    Reversion strategy: nothing to undo.
    """

    default_provides = 'targets'

    def execute(self) -> list[connectors.Target]:
        run = self.run
        try:
            return self._discover(run.multipath)
        except exception.AttachWorkerError as error:
            if run.enforce_multipath:
                raise
            LOG.warning('%s: discovery: %s', run.name, error)
            run.warnings.append(f'discovery has found no other path: {error}')
        try:
            # Names have to be looked up even so.
            return self._discover(multipath=False)
        except exception.AttachWorkerError:
            return run.info.targets

    def _discover(self, multipath: bool) -> list[connectors.Target]:
        run = self.run
        try:
            return run.connector.discover(run.info, multipath, run.deadline)
        except OSError as error:
            raise exception.HostToolFailed(
                what='Discovery', reason=str(error)
            ) from error


class ConnectTarget(base.Task):
    """Connect one target, or learn that others were quicker.

    That a target cannot be connected is an outcome of its attempt and no
    error: TaskFlow would undo the good ones too. GatherPaths judges.

    Reversion strategy: stop the attempt and disconnect the target, whether
    the attempt had succeeded, failed, or not yet ended.
    """

    def __init__(self, run: Any, target: connectors.Target) -> None:
        super().__init__(run, target)
        self._target = target

    def execute(self) -> None:
        attempts, deadline = self.run.attempts, self.run.deadline
        attempts.start(self._target, self._connect, deadline)
        attempts.wait(self._target, deadline)

    def _connect(self, interest: connectors.Interest) -> connectors.Path:
        """Connect the target.

        Where the host is to have one device only, one that cannot be read
        goes before the next target is tried.
        """
        run, target = self.run, self._target
        claim = connectors.Claim(
            target, run.holdings, run.deadline, run.assembles
        )
        path = run.connector.connect(run.info, claim, interest)
        in_turn = not run.assembles and len(run.targets) > 1
        if in_turn and run.holdings.made_device(target):
            try:
                check_readable(run, path.disk, target)
            except exception.AttachWorkerError:
                # A cancel is no reason to stop in the middle of this.
                grace = deadlines.Deadline.after(run.grace)
                undo = run.take_down(grace, undo=True)
                run.leftovers += undo.collect(
                    functools.partial(undo.disconnect, target), str(target)
                )
                raise
        return path

    def revert(self, **kwargs: Any) -> None:
        self.run.leftovers += self.run.let_go(self._target)


class GatherPaths(base.Task):
    """Decide whether enough targets are connected.

    Reversion strategy: nothing to undo.
    """

    default_provides = 'paths'

    def execute(self) -> list[connectors.Path]:
        run = self.run
        found = [run.attempts.outcome(target) for target in run.targets]
        paths = [outcome.path for outcome in found if outcome.path]
        for outcome in found:
            if outcome.error and not paths:
                outcome.error.step = f'ConnectTarget:{outcome.target}'
                raise outcome.error
        # Otherwise a device has one path, however many are connected.
        usable = len(paths) if run.assembles else 1
        if usable < run.min_paths:
            raise exception.NotEnoughPaths(found=usable, wanted=run.min_paths)
        return paths


class FindWwn(base.Task):
    """Learn which volume the paths lead to, and that it is the right one.

    Reversion strategy: give up the path of another attachment, if it is used
    in place of one that was asked for.
    """

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self._shared: connectors.Target | None = None

    def execute(self, paths: list[connectors.Path]) -> None:
        run = self.run
        alive, wwn = self._verified(paths)
        run.lock_volume(wwn)
        others = run.holdings.volume_holders(wwn, run.targets[0])
        check_one_volume(run, alive[0], wwn, others)
        run.expected_wwn = wwn
        run.holdings.identify(wwn)
        for name in others:
            self._share(alive, name)
        if not run.assembles:
            # Those whose turn was over, and that have come after all.
            first, *late = run.attempts.paths()
            for path in late:
                run.leftovers += run.let_go(path.target, first.disk)

    def _verified(
        self, paths: list[connectors.Path]
    ) -> tuple[list[connectors.Path], str]:
        """Those that answer; if none does, one that was about to come."""
        run = self.run
        while True:
            try:
                return verified(run, paths)
            except exception.DeviceNotFound:
                for target in run.targets:
                    run.attempts.wait(target, run.deadline)
                paths = run.attempts.paths()
                if not paths:
                    raise

    def _share(self, paths: list[connectors.Path], name: str) -> None:
        """Use the device that another attachment of the volume has.

        A volume has one device on a host. Where that is no map, a second one
        beside it would be put under a map with it, and both be held.

        :param paths: those of this attachment
        :param name: of the other one
        """
        run = self.run
        theirs = shared_devices(run, name)
        if not theirs:
            return
        disks = {path.disk for path in theirs}
        chosen = next((path for path in paths if path.disk in disks), None)
        if chosen is None:
            LOG.info('%s: %s has the volume already', run.name, name)
            chosen = theirs[0]
            _check_member(run, chosen, run.deadline)
            self._shared = chosen.target
            run.holdings.take(chosen.target)
        for target in run.targets:
            if target != chosen.target:
                run.leftovers += run.let_go(target, chosen.disk)
        run.attempts.adopt(chosen)
        run.targets = [chosen.target]

    def revert(self, **kwargs: Any) -> None:
        if self._shared is not None:
            self.run.leftovers += self.run.let_go(self._shared)


def check_one_volume(
    run: Run, path: connectors.Path, wwn: str, others: list[str]
) -> None:
    """Make sure that others who have this identity mean the same volume.

    Some storage gives one identifier to two volumes, with one unit serial
    number: tgt numbers them by target and LUN, and each host with tgt begins
    at 1. One of them would be given away as the other. What tells them apart
    is what their callers call them, if the storage calls them differently.

    :param others: attachments of the volume with this identity
    :raises IdentityMismatch: another one is meant
    """
    holdings = run.holdings
    wanted = holdings.volume_id()
    same = holdings.name_holders(run.targets)
    for name in others:
        theirs = holdings.volume_id(name)
        if wanted and theirs:
            differ = wanted.lower() != theirs.lower()
        else:
            differ = not objects.is_worldwide(wwn)
        if differ and name not in same:
            raise exception.IdentityMismatch(
                device=path.disk,
                found=f'{wwn}, as is volume {theirs} of attachment {name}: '
                'the storage has one identifier for both',
                expected=f'volume {wanted} alone',
            )


def prefer_shared(run: Run) -> None:
    """Take the way that another attachment of the volume has taken.

    Without a map a second device would come to the host; see FindWwn. Here it
    is known by what the storage calls the volume.
    """
    try:
        for name in run.holdings.name_holders(run.targets):
            theirs = [path.target for path in shared_devices(run, name)]
            keys = {target.key for target in theirs}
            if theirs:
                ours = [one for one in run.targets if one.key in keys]
                run.targets = ours or theirs[:1]
                return
    except (exception.AttachWorkerError, OSError) as error:
        LOG.debug('%s: no look at what others have: %s', run.name, error)


def shared_devices(run: Run, name: str) -> list[connectors.Path]:
    """The devices that another attachment was given without a map."""
    connector = run.connector
    if connector.puts_together() or run.holdings.has_map(name) is not False:
        return []
    return [
        path
        for target in run.holdings.paths(connector.target_class, name)
        for path in connector.paths(target)
    ]


class VerifyDevice(base.Task):
    """Read from the device and describe it.

    Reversion strategy: nothing to undo.
    """

    default_provides = 'device'

    def execute(self, map: multipath.Map | None) -> objects.DeviceInfo:
        run = self.run
        path = path_of_device(run, map)
        disk = map.name if map else path.disk
        device = check_readable(run, disk, path.target)
        _check_access(run, disk, path)
        check_still(run, path, map)
        if run.connector.devices.device(disk) != device:
            # its name is another one's by now
            raise exception.DeviceNotFound(volume=path.target.label)
        return describe(run, disk, map)


def _check_access(run: Run, disk: str, path: connectors.Path) -> None:
    """Make sure that a device that is to be written to can be.

    Storage may know better, and is believed. What the host makes of an image
    or a file is as the first who attached it wanted it.

    :raises DeviceInUse: somebody has it read-only
    """
    read_only = run.connector.devices.read_only(disk)
    one_path = run.connector.assembler is connectors.Assembler.NONE
    if one_path and not path.lasting:
        if read_only and not run.info.read_only:
            raise exception.DeviceInUse(
                device=disk,
                users='whoever has attached or mapped it read-only, and it '
                'is to be written to',
            )
        if run.info.read_only and not read_only:
            run.warnings.append(
                f'{disk} can be written to: somebody else has it so'
            )
    elif read_only and not run.info.read_only:
        run.warnings.append(f'{disk} is read-only on the storage')


def path_of_device(run: Run, map: multipath.Map | None) -> connectors.Path:
    """A path of what the caller gets.

    multipathd may yet have to take others into the map.
    """
    paths = run.attempts.paths()
    joined = [one for one in paths if map and one.disk in map.disks]
    return (joined or paths)[0]


def check_readable(
    run: Run, disk: str, target: connectors.Target
) -> block.Device:
    """Make sure that a device can be read.

    A port in standby answers for its volume, but does not let it be read; an
    unavailable one does not even tell its size (ALUA).

    :raises DeviceNotFound: it has gone
    :raises HostToolFailed: it cannot be read
    """
    devices = run.connector.devices
    device, size = devices.device(disk), devices.size(disk)
    if device is None or size is None:
        raise exception.DeviceNotFound(volume=target.label)
    try:
        if size:
            devices.check_readable(device, run.deadline)
            return device
        reason = 'its size is 0'
    except OSError as error:
        reason = str(error)
    raise exception.HostToolFailed(
        what=f'Reading {disk}',
        reason=f'{reason}; its port may be in standby, or unavailable',
    )


def reject_unreadable(run: Run) -> None:
    """Leave only paths that can be read: one is used without the others.

    :raises HostToolFailed: there is none
    """
    errors = []
    for path in run.attempts.paths():
        try:
            check_readable(run, path.disk, path.target)
        except exception.AttachWorkerError as error:
            run.attempts.reject(path, error)
            errors.append(error)
    if errors and not run.attempts.paths():
        raise errors[0]


def check_still(
    run: Run, path: connectors.Path, map: multipath.Map | None
) -> None:
    """Make sure that a device is what it was when it was identified.

    A kernel name may have gone to another device meanwhile: right before a
    device is given away it is looked up from its address, and asked again.

    :raises IdentityMismatch: it is another one
    :raises DeviceNotFound: it is gone
    """
    now = run.connector.current(path)
    if now is None or now.disk != path.disk:
        raise exception.DeviceNotFound(volume=path.target.label)
    verified(run, [now])
    held = run.host.multipath.of(path.disk)
    if map is not None:
        if held is None or (held.name, held.wwid) != (map.name, map.wwid):
            raise exception.DeviceNotFound(volume=path.target.label)
    elif held is not None:
        check_members(run, held, [path])


def verified(
    run: Run, paths: list[connectors.Path]
) -> tuple[list[connectors.Path], str]:
    """The paths that answer, and the volume that all of them lead to.

    :raises IdentityMismatch: one leads to another volume
    :raises DeviceNotFound: none answers
    """
    alive: dict[connectors.Path, str] = {}
    silent: list[exception.AttachWorkerError] = []
    expected = run.expected_wwn
    for path in paths:
        try:
            found = run.connector.identify(path, run.deadline)
        except exception.DeviceNotFound as error:
            # it died meanwhile; another may do
            run.attempts.reject(path, error)
            silent.append(error)
            continue
        expected = expected or found
        takedown.check_identity(path, found, expected)
        alive[path] = found
    if not alive:
        raise silent[0]
    return list(alive), next(iter(alive.values()))


def describe(
    run: Run, disk: str, found: multipath.Map | None
) -> objects.DeviceInfo:
    """What the caller is told of the device, or of the mapping on it.

    :param disk: the device: the map, or a disk where there is no map
    """
    disks = found.disks if found else (disk,)
    paths = [
        _path_info(run.attempts.outcome(one), disks) for one in run.targets
    ]
    connector = run.connector
    scsi = connector.assembler is connectors.Assembler.MULTIPATHD
    mapped = bool(found) or (
        run.multipath
        and not scsi
        and (run.assembles or connector.assembler is connectors.Assembler.NONE)
    )
    if not mapped:
        # the others are let go
        paths = [
            one
            for one in paths
            if one.state != 'connecting'
            and one.error != exception.OperationCancelled.code
        ]
    opened = run.encryption and run.host.encryption.find(run.mapping)
    return objects.DeviceInfo(
        type=connector.device_type,
        path=opened.path if opened else connector.node(disk),
        scsi_wwn=run.expected_wwn if scsi else None,
        multipath_id=found.wwid if found else None,
        size=connector.devices.size(opened.device if opened else disk),
        degraded=run.multipath
        and (not mapped or any(one.state != 'connected' for one in paths)),
        paths=paths,
    )


def _check_block_device(run: Run) -> None:
    """:raises UnsupportedProtocol: dm-crypt cannot stand on the volume"""
    if run.connector.device_type == 'file':
        raise exception.UnsupportedProtocol(
            protocol=run.info.protocol,
            reason='with a key: it is a file, which whoever uses it opens '
            'with the key himself, as QEMU does; attach it without',
        )


def check_cryptsetup(run: Run) -> None:
    """:raises HostToolMissing: this host cannot open or close anything"""
    if run.host.tool('cryptsetup') is None:
        raise exception.HostToolMissing(
            tool='cryptsetup', reason='install it, as cryptsetup-bin perhaps'
        )


def _path_info(
    outcome: connectors.PathOutcome, disks: tuple[str, ...]
) -> objects.PathInfo:
    disk = outcome.path.disk if outcome.path else None
    connected = disk in disks
    return objects.PathInfo(
        device=disk if connected else None,
        state='connected'
        if connected
        else 'failed'
        if outcome.error
        else 'connecting',
        error=outcome.error.code if outcome.error else None,
        **outcome.target.as_info(),
    )


def check_members(
    run: Run,
    found: multipath.Map,
    paths: list[connectors.Path],
    deadline: deadlines.Deadline | None = None,
) -> None:
    """Make sure that a map has only paths to our volume.

    Two storage systems that give the same identifier to two volumes would
    otherwise be merged without a word. A path that another attachment holds,
    or whose target this one names, is known; of all others the unit serial
    number must be the same. A size of 0 (a path in standby) is unknown.

    :param deadline: None: that of the run
    :raises IdentityMismatch: a stranger is in it, or it is another volume's
    """
    host = run.host
    until = deadline or run.deadline
    first = paths[0].disk
    if not is_map_of(run, found, first, until):
        raise exception.IdentityMismatch(
            device=first,
            found=f'a path of {found.name}, the map of {found.wwid}',
            expected=run.wwn,
        )
    ours = {path.disk for path in paths}
    size, serial = host.block.size(first), _serial(run, first, until)
    like = _Like(found, first, size, serial)
    for disk in found.disks:
        if disk == first:
            continue
        try:
            _check_disk(run, disk, disk in ours, like, until)
        except exception.IdentityMismatch:
            # Another attachment may have taken its own path away meanwhile:
            # what it has left of a disk that is gone is nothing to compare.
            now = host.multipath.of(disk)
            if now is not None and now.name == found.name:
                raise


class _Like(NamedTuple):
    """A disk of a map that is the volume, to compare the others with."""

    map: multipath.Map
    disk: str
    size: int | None
    serial: str | None


def _check_disk(
    run: Run, disk: str, ours: bool, like: _Like, until: deadlines.Deadline
) -> None:
    """Make sure that another disk of the map is a path to our volume.

    :param ours: whether this request has found it
    :raises IdentityMismatch: nothing says that it is
    """
    other = None if ours else run.connector.path_of(disk)
    if other is not None:
        _check_member(run, other, until)
    size = run.host.block.size(disk)
    if like.size and size and like.size != size:
        raise exception.IdentityMismatch(
            device=disk,
            found=f'of size {size}',
            expected=f'size {like.size} of {like.disk}',
        )
    serial = _serial(run, disk, until)
    if None not in (like.serial, serial) and like.serial != serial:
        raise exception.IdentityMismatch(
            device=disk,
            found=f'of unit serial number {serial}',
            expected=f'unit serial number {like.serial} of {like.disk}',
        )
    proves = serial is not None and objects.is_worldwide(run.wwn)
    if not (ours or proves or _is_known(run, other)):
        raise exception.IdentityMismatch(
            device=like.map.name,
            found=f'a map with {disk} in it, which no attachment names',
            expected='map of ' + ', '.join(map(str, run.targets)),
        )


def is_map_of(
    run: Run,
    found: multipath.Map,
    disk: str,
    deadline: deadlines.Deadline | None = None,
) -> bool:
    """Whether the name of a map is one of the volume's.

    What multipathd calls a volume can be configured (uid_attribute): ID_WWN
    is the beginning of the identifier, others have the unit serial number in
    them. A LUN may have been given to another volume below a live map.
    """
    name = objects.normalise_wwn(found.wwid)
    wwn = objects.normalise_wwn(run.wwn)
    if len(name) >= _SHORTEST_WWN and wwn.startswith(name):
        return True
    serial = _serial(run, disk, deadline or run.deadline)
    return bool(serial) and str(serial).lower().replace(' ', '_') in name


def _check_member(
    run: Run, path: connectors.Path, deadline: deadlines.Deadline
) -> None:
    """:raises IdentityMismatch: it leads elsewhere; a dead one may not"""
    try:
        found = run.connector.identify(path, deadline)
    except exception.DeviceNotFound:
        return
    takedown.check_identity(path, found, run.wwn)


def _is_known(run: Run, path: connectors.Path | None) -> bool:
    if path is None:
        return False
    names = {target.volume_name for target in run.targets}
    return path.target.volume_name in names or bool(
        run.holdings.path_holders(path.target)
    )


def _serial(run: Run, disk: str, deadline: deadlines.Deadline) -> str | None:
    try:
        device = run.host.scsi.of_disk(disk)
        return run.host.scsi.serial(device, deadline)
    except OSError as error:
        if error.errno not in block.NO_ANSWER:
            raise
        return None  # not every volume has one, not every path is alive
