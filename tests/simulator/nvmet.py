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

"""The storage's side of NVMe: subsystems and their namespaces."""

import dataclasses
import pathlib

_PATTERN = 4096


@dataclasses.dataclass(frozen=True)
class Volume:
    """A namespace on the storage."""

    name: str
    file: pathlib.Path
    uuid: str
    nguid: str

    @property
    def size(self) -> int:
        return self.file.stat().st_size

    def pattern(self) -> bytes:
        """What its first bytes are when it is new."""
        line = f'{self.name} {self.uuid}\n'.encode()
        return (line * _PATTERN)[:_PATTERN]


@dataclasses.dataclass
class Subsystem:
    """On the storage."""

    nqn: str
    portals: tuple[str, ...]
    volumes: dict[int, Volume] = dataclasses.field(default_factory=dict)
