# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

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
    """

    name: str
    path: pathlib.Path
    wwn: str
    serial: str
    size: int

    def pattern(self) -> bytes:
        """What its first bytes are when it is new."""
        line = f'{self.name} {self.wwn}\n'.encode()
        return (line * PATTERN_LENGTH)[:PATTERN_LENGTH]


@dataclasses.dataclass
class Target:
    name: str
    portals: tuple[str, ...]
    chap: tuple[str, str] | None
    luns: dict[int, Volume] = dataclasses.field(default_factory=dict)


class Storage:
    """All targets; hosts are not told when a mapping changes.

    :param directory: where the volumes' files are
    :param on_change: called with (target name, LUN) after a change
    """

    def __init__(
        self,
        directory: pathlib.Path,
        on_change: Callable[[str, int], None],
    ) -> None:
        self._directory = directory
        self._on_change = on_change
        self._lock = threading.Lock()
        self._targets: dict[str, Target] = {}

    def target(self, name: str) -> Target | None:
        with self._lock:
            return self._targets.get(name)

    def volume(self, target_name: str, lun: int) -> Volume | None:
        """What is behind a LUN at this moment."""
        with self._lock:
            target = self._targets.get(target_name)
            return target.luns.get(lun) if target else None

    def luns(self, target_name: str) -> list[int]:
        with self._lock:
            target = self._targets.get(target_name)
            return sorted(target.luns) if target else []

    def create_target(
        self, portals: tuple[str, ...], chap: tuple[str, str] | None
    ) -> Target:
        name = f'iqn.2010-10.org.openstack:volume-{uuid.uuid4()}'
        target = Target(name, portals, chap)
        with self._lock:
            self._targets[name] = target
        return target

    def create_volume(
        self, target: Target, lun: int | None, size: int
    ) -> tuple[Volume, int]:
        """Make a volume and map it; None as LUN: the lowest free one.

        :raises ValueError: the LUN is in use
        """
        serial = str(uuid.uuid4())
        name = f'volume-{serial}'
        # LIO makes the identifier of its own prefix and the serial's digits
        wwn = '6001405' + serial.replace('-', '')[:25]
        volume = Volume(name, self._directory / name, wwn, serial, size)
        with open(volume.path, 'xb') as file:
            file.write(volume.pattern()[:size])
            file.truncate(size)
        with self._lock:
            if lun is None:
                lun = next(
                    n for n in itertools.count() if n not in target.luns
                )
            if lun in target.luns:
                os.unlink(volume.path)
                raise ValueError(f'LUN {lun} is in use')
            target.luns[lun] = volume
        self._on_change(target.name, lun)
        return volume, lun

    def remove_volume(self, target_name: str, lun: int) -> None:
        with self._lock:
            volume = self._targets[target_name].luns.pop(lun)
        self._on_change(target_name, lun)
        os.unlink(volume.path)
