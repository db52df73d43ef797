# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""Journal against kernel: reads only, and each thing once."""

from collections.abc import Iterable
from collections.abc import Iterator
import dataclasses
import itertools
from typing import TypeVar

from attachworker import objects
from attachworker.connectors import Connectors
from attachworker.connectors.base import RUNNING
from attachworker.connectors.base import Link
from attachworker.connectors.base import LinkedDevice
from attachworker.host import Host
from attachworker.host import encryption
from attachworker.host import multipath
from attachworker.journal import AttachmentRecord
from attachworker.journal import AttachmentState
from attachworker.journal import Contents
from attachworker.journal import Records
from attachworker.worker import late_paths

K = TypeVar('K')
V = TypeVar('V')


@dataclasses.dataclass(frozen=True)
class Look:
    """What the journal says, and what the kernel has, at one time."""

    journal: Contents
    links: list[Link]
    maps: list[multipath.Map]
    mappings: list[encryption.Mapping]


def look(records: Records, connectors: Connectors, host: Host) -> Look:
    """Look at both; nothing is changed."""
    # What is ours is in the journal before it is in the kernel, and after it
    # has left that: read before and after, it holds the owner of whatever was
    # seen in between.
    before = records.contents()
    links = connectors.links(before.path_keys)
    maps = host.multipath.maps()
    mappings = host.encryption.mappings()
    return Look(before | records.contents(), links, maps, mappings)


def compare(seen: Look, boot_id: str) -> objects.AuditReport:
    """Compare what the journal says with what the kernel has.

    :param boot_id: of the running kernel
    """
    return _Comparison(seen, boot_id).report()


def report(
    records: Records, connectors: Connectors, host: Host, boot_id: str
) -> objects.AuditReport:
    """The audit: look, compare, and tell of calls that do not return."""
    found = compare(look(records, connectors, host), boot_id)
    found.findings += [
        _finding(
            'stale',
            f'{call.name} of {call.about}',
            f'has not returned for {call.seconds:.0f} s; what needs it is '
            'refused until it has',
        )
        for call in host.verbs.stuck()
    ]
    return found


class _Comparison:
    def __init__(self, seen: Look, boot_id: str) -> None:
        self._journal = journal = seen.journal
        self._links = links = seen.links
        self._maps = maps = seen.maps
        self._mappings = mappings = seen.mappings
        #: Attachments of which nothing can be said now.
        self._left_out = journal.busy | journal.unreadable.keys()
        self._records = {one.attachment_id: one for one in journal.attachments}
        # Each thing is looked up by what it is known by: to search for all of
        # them among all takes seconds on a host that has a thousand.
        self._opened = {mapping.path for mapping in mappings}
        self._map_of = {one.wwid: one for one in reversed(maps)}
        self._wanted_by = _grouped(
            (one.wwn, one.attachment_id) for one in journal.attachments
        )
        self._holders = _grouped(
            (path, holder) for holder, path, _ in journal.paths
        )
        self._link_holders = _grouped(
            (link, holder) for holder, _, link in journal.paths
        )
        self._logins = _grouped(
            (link, (after, number))
            for link, boot_of_login, after, number in journal.links
            if boot_of_login == boot_id
        )
        self._disks = _grouped(
            (device.disk, (link, device))
            for link in links
            for device in link.devices
        )
        self._there = {
            key: (link, device)
            for link in links
            for device in link.devices
            for key in _keys(link, device)
        }

    def report(self) -> objects.AuditReport:
        records = [
            record
            for record in self._journal.attachments
            if record.attachment_id not in self._left_out
        ]
        findings = [
            *itertools.chain.from_iterable(map(self._of_link, self._links)),
            *itertools.chain.from_iterable(map(self._of_map, self._maps)),
            *self._of_mappings(),
        ]
        findings += [
            _finding(
                'stale',
                f'attachment {record.attachment_id}',
                'of another boot of this host',
            )
            for record in records
            if record.state is AttachmentState.MISSING
        ]
        findings += [
            _finding('stale', f'attachment {name}', str(error))
            for name, error in self._journal.unreadable.items()
        ]
        return objects.AuditReport(
            attachments=[self._attachment(record) for record in records],
            findings=findings,
        )

    # -- attachments

    def _attachment(
        self, record: AttachmentRecord
    ) -> objects.AuditedAttachment:
        state, detail = self._state(record)
        return objects.AuditedAttachment(
            attachment_id=record.attachment_id, state=state, detail=detail
        )

    def _state(self, record: AttachmentRecord) -> tuple[str, str]:
        if record.state is AttachmentState.MISSING:
            return 'missing', 'the host was started again since'
        device = record.device_info()
        if record.state.is_left_over or device is None:
            return 'missing', 'it failed, and what is left is being put back'
        opened = encryption.path_of(encryption.name_of(record.attachment_id))
        if device.path == opened and opened not in self._opened:
            return 'missing', f'there is no {opened}'
        disks, wrong = None, []
        if device.multipath_id is not None:
            found = self._map_of.get(device.multipath_id)
            if found is None:
                return 'missing', f'there is no map of {device.multipath_id}'
            disks = found.disks
        present = 0
        for path in device.paths:
            if disks is None and path.state != 'connected':
                continue  # a device without a map has one path
            seen, trouble = self._path(path, record, disks)
            present += seen
            wrong += [trouble] if trouble else []
        if not present:
            return 'missing', '; '.join(wrong) or 'it has no device'
        if device.degraded and not wrong and disks is None:
            wrong = ['it has no map']
        return ('degraded' if wrong else 'ok'), '; '.join(wrong)

    def _path(
        self,
        path: objects.PathInfo,
        record: AttachmentRecord,
        disks: tuple[str, ...] | None,
    ) -> tuple[bool, str]:
        """Whether a device is there, and what is wrong with it."""
        # Only such a path does not tell what its target may be.
        told = path.lun is not None or path.portal is None
        target = late_paths.target_of(
            path, () if told else record.info().targets
        )
        if target.key not in self._there:
            return False, f'{target} has no device'
        link, device = self._there[target.key]
        if _is_other(device, record):
            return False, f'{device.disk} is another volume, {device.wwn}'
        if disks is not None and device.disk not in disks:
            return False, f'{device.disk} is not in the map'
        if not link.works:
            return True, f'{link.name} is {link.state}'
        if device.state != RUNNING:
            return True, f'{device.disk} is {device.state}'
        return True, ''

    # -- findings

    def _of_link(self, link: Link) -> Iterator[objects.AuditFinding]:
        users = self._users(link)
        where = f'{link.target} at {", ".join(sorted(link.portals))}'
        used = f'; used by {_names(users)}' if users else ''
        if not self._owns(link):
            yield _finding('foreign', link.name, f'{where}{used}')
        elif not users:
            yield _finding('orphan', link.name, where)
        elif not link.works and not users <= self._left_out:
            yield _finding('stale', link.name, f'{link.state}; {where}{used}')
        for device in link.devices:
            yield from self._of_device(link, device)

    def _of_device(
        self, link: Link, device: LinkedDevice
    ) -> Iterator[objects.AuditFinding]:
        what = f'device {device.disk or device.address}'
        portal = min(link.portals)
        volume = objects.Target(portal, link.target, device.lun).label
        where = f'{volume}, {link.name}'
        users = self._holders_of(link, device)
        if not users:
            if self._owns(link):
                yield _finding('orphan', what, where)
            return
        if users & self._left_out:
            return
        records = [self._records[one] for one in users & self._records.keys()]
        if not records:
            yield _finding('orphan', what, where)
        elif all(one.state.is_left_over for one in records):
            yield _finding(
                'stale',
                what,
                f'left of {_names(users)}, which failed; {where}',
            )
        elif any(_is_other(device, one) for one in records):
            yield _finding(
                'stale', what, f'another volume, {device.wwn}, by now; {where}'
            )
        elif device.state != RUNNING:
            yield _finding('stale', what, f'{device.state}; {where}')

    def _of_map(self, found: multipath.Map) -> Iterator[objects.AuditFinding]:
        what = f'map {found.name}'
        holders = set(self._wanted_by.get(found.wwid, ()))
        below = [
            one for disk in found.disks for one in self._disks.get(disk, ())
        ]
        users = {
            user
            for link, device in below
            for user in self._holders_of(link, device)
        }
        if (users | holders) & self._left_out:
            return
        if holders and not found.disks:
            yield _finding(
                'stale', what, f'no path left; of {_names(holders)}'
            )
        elif users:
            return
        elif below and all(self._owns(link) for link, _ in below):
            yield _finding('orphan', what, found.wwid)
        else:
            yield _finding('foreign', what, found.wwid)

    def _of_mappings(self) -> Iterator[objects.AuditFinding]:
        wanted = set(
            map(encryption.name_of, self._records.keys() | self._left_out)
        )
        for found in self._mappings:
            if found.name not in wanted:
                below = ', '.join(found.disks)
                yield _finding('orphan', f'mapping {found.name}', below)

    # -- whose it is

    def _owns(self, link: Link) -> bool:
        if link.number is None:
            return bool(self._users(link))
        return any(
            link.number == number or (number is None and link.number > after)
            for key in _link_keys(link)
            for after, number in self._logins.get(key, ())
        )

    def _users(self, link: Link) -> set[str]:
        if link.number is None:
            return {
                user
                for device in link.devices
                for user in self._holders_of(link, device)
            }
        return {
            user
            for key in _link_keys(link)
            for user in self._link_holders.get(key, ())
        }

    def _holders_of(self, link: Link, device: LinkedDevice) -> set[str]:
        return {
            user
            for key in _keys(link, device)
            for user in self._holders.get(key, ())
        }


def _grouped(pairs: Iterable[tuple[K, V]]) -> dict[K, list[V]]:
    found: dict[K, list[V]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found


def _link_keys(link: Link) -> set[str]:
    return {
        objects.Target(portal, link.target, 0).link_key
        for portal in link.portals
    }


def _keys(link: Link, device: LinkedDevice) -> list[str]:
    """What a device may be held as: by its number, or its identifier."""
    return [
        objects.Target(portal, link.target, lun).key
        for portal in link.portals
        for lun in (device.lun, *device.identifiers)
    ]


def _is_other(device: LinkedDevice, record: AttachmentRecord) -> bool:
    """Whether a device is known not to be the attachment's volume."""
    if device.wwn is None or record.wwn is None or device.wwn == record.wwn:
        return False
    normalise = objects.normalise_wwn
    return bool(normalise(device.wwn) != normalise(record.wwn))


def _finding(kind: str, what: str, detail: str) -> objects.AuditFinding:
    return objects.AuditFinding(kind=kind, what=what, detail=detail)


def _names(attachments: Iterable[str]) -> str:
    return ', '.join(sorted(attachments))
