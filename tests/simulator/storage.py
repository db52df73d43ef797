# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The storage backend: volumes, and the targets that export them."""

from collections.abc import Callable
import dataclasses
import itertools
import os
import pathlib
import threading
import uuid

PATTERN_LENGTH = 4096


@dataclasses.dataclass(frozen=True)
class Volume:
    """A volume in its file.

    :ivar wwn: NAA identifier, hexadecimal
    :ivar serial: unit serial number
    :ivar size: bytes
    :ivar block_size: the logical one, bytes
    """

    name: str
    path: pathlib.Path
    wwn: str
    serial: str
    size: int
    block_size: int

    def pattern(self) -> bytes:
        """What its first bytes are when it is new."""
        line = f'{self.name} {self.wwn}\n'.encode()
        return (line * PATTERN_LENGTH)[:PATTERN_LENGTH]


@dataclasses.dataclass
class Target:
    """A target.

    :ivar luns: LUN -> name of a volume
    :ivar exceptions: the same for what a portal shows otherwise
    """

    name: str
    portals: tuple[str, ...]
    chap: tuple[str, str] | None
    luns: dict[int, str] = dataclasses.field(default_factory=dict)
    exceptions: dict[tuple[str, int], str] = dataclasses.field(
        default_factory=dict
    )


class Storage:
    """All targets; hosts are not told when a mapping changes.

    :param directory: where the volumes' files are
    :param on_change: called after a change
    """

    def __init__(
        self, directory: pathlib.Path, on_change: Callable[[], None]
    ) -> None:
        self._directory = directory
        self._on_change = on_change
        self._lock = threading.Lock()
        self._targets: dict[str, Target] = {}
        self._volumes: dict[str, Volume] = {}
        #: (target, LUN, portal) -> how a port answers that does not serve.
        self._access: dict[tuple[str, int, str], str] = {}
        #: What the discovery of targets demands.
        self.discovery_chap: tuple[str, str] | None = None

    def target(self, name: str) -> Target | None:
        with self._lock:
            return self._targets.get(name)

    def targets_at(self, portal: str) -> list[Target]:
        with self._lock:
            return [t for t in self._targets.values() if portal in t.portals]

    def volume(self, target_name: str, lun: int, portal: str) -> Volume | None:
        """What is behind a LUN at this moment."""
        with self._lock:
            target = self._targets.get(target_name)
            if target is None:
                return None
            name = target.exceptions.get((portal, lun), target.luns.get(lun))
            return self._volumes[name] if name else None

    def set_access(
        self, target_name: str, lun: int, portal: str, state: str
    ) -> None:
        """Have a portal answer as a port in this state of ALUA does."""
        with self._lock:
            self._access[target_name, lun, portal] = state
        self._on_change()

    def access(self, target_name: str, lun: int, portal: str) -> str:
        with self._lock:
            key = target_name, lun, portal
            return self._access.get(key, 'optimized')

    def by_name(self, name: str) -> Volume | None:
        with self._lock:
            return self._volumes.get(name)

    def luns(self, target_name: str) -> list[int]:
        with self._lock:
            target = self._targets.get(target_name)
            return sorted(target.luns) if target else []

    def create_target(
        self,
        portals: tuple[str, ...],
        chap: tuple[str, str] | None,
        name: str | None = None,
    ) -> Target:
        name = name or f'iqn.2010-10.org.openstack:volume-{uuid.uuid4()}'
        target = Target(name, portals, chap)
        with self._lock:
            self._targets[name] = target
        return target

    def create_volume(
        self,
        target: Target,
        lun: int | None,
        size: int,
        mapped: bool,
        block_size: int,
        like: str | None = None,
        company: str = '001405',
    ) -> tuple[Volume, int]:
        """Make a volume and map it; None as LUN: the lowest free one.

        :param like: name of one whose identifier and serial number it has

        :raises ValueError: the LUN is in use
        """
        serial = str(uuid.uuid4())
        name = f'volume-{serial}'
        if like is not None:
            serial = self._volumes[like].serial
        # LIO makes the identifier of its own prefix and the serial's digits
        wwn = f'6{company}' + serial.replace('-', '')[:25]
        volume = Volume(
            name, self._directory / name, wwn, serial, size, block_size
        )
        with open(volume.path, 'xb') as file:
            file.write(volume.pattern()[:size])
            file.truncate(size)
        with self._lock:
            if lun is None:
                lun = next(
                    n for n in itertools.count() if n not in target.luns
                )
            if mapped and lun in target.luns:
                os.unlink(volume.path)
                raise ValueError(f'LUN {lun} is in use')
            self._volumes[name] = volume
            if mapped:
                target.luns[lun] = name
        self._on_change()
        return volume, lun

    def resize_volume(self, name: str, size: int) -> None:
        """:param size: bytes"""
        with self._lock:
            volume = self._volumes[name]
            os.truncate(volume.path, size)
            self._volumes[name] = dataclasses.replace(volume, size=size)
        self._on_change()

    def remap(
        self, target_name: str, lun: int, name: str, portal: str
    ) -> None:
        """Have a LUN lead to another volume.

        :param portal: change only what this one shows; empty: all
        """
        with self._lock:
            target = self._targets[target_name]
            if portal:
                target.exceptions[portal, lun] = name
            else:
                target.luns[lun] = name
                target.exceptions = {
                    key: other
                    for key, other in target.exceptions.items()
                    if key[1] != lun
                }
        self._on_change()

    def export(self, name: str, target: Target) -> int:
        """Map a volume that exists on one more target, at a free LUN."""
        with self._lock:
            lun = next(n for n in itertools.count() if n not in target.luns)
            target.luns[lun] = name
        self._on_change()
        return lun

    def remove_volume(self, target_name: str, lun: int) -> None:
        """Unmap a volume from all targets, and forget its data."""
        with self._lock:
            name = self._targets[target_name].luns[lun]
            volume = self._volumes.pop(name)
            for target in self._targets.values():
                target.luns = {
                    number: other
                    for number, other in target.luns.items()
                    if other != name
                }
        self._on_change()
        os.unlink(volume.path)
