# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

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
    #: Which identifiers its namespaces have; NVMe 1.2 has no uuid, and no
    #: list of identifiers, NVMe 1.0 has none at all.
    version: str = '1.3'
    volumes: dict[int, Volume] = dataclasses.field(default_factory=dict)
