# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""dm-crypt that does what a test says."""

from typing import Any

from attachworker.host import block
from attachworker.host import encryption


class FakeEncryption:
    """Opens whatever it is asked to.

    :ivar mapping: the one that there is
    :ivar format_found: of the header that the device has
    :ivar error: what opening, formatting or resizing raises
    :ivar left: what closing leaves
    :ivar said: what it was asked to do, in order
    :ivar keys: those that open the device
    """

    def __init__(self) -> None:
        self.mapping: encryption.Mapping | None = None
        self.format_found = 'luks2'
        self.error: OSError | None = None
        self.left: list[str] = []
        self.said: list[str] = []
        self.keys = ['key']

    def find(self, name: str) -> encryption.Mapping | None:
        found = self.mapping
        return found if found and found.name == name else None

    def read_header(
        self, device: block.Device, provider: str, deadline: Any
    ) -> int | None:
        return 4096 if self.format_found == provider else None

    def format(
        self, device: block.Device, provider: str, key: str, deadline: Any
    ) -> None:
        self._say(f'format {device.name} {provider}')
        self.format_found = provider

    def open(
        self,
        device: block.Device,
        name: str,
        provider: str,
        key: str,
        read_only: bool,
        asked: int,
        deadline: Any,
    ) -> None:
        self.mapping = encryption.Mapping(
            name, 'dm-1', (device.name,), 'luks2'
        )
        self._say(f'open {device.name}')

    def close(self, name: str, deadline: Any) -> list[str]:
        if self.find(name) and not self.left:
            self.mapping = None
            self.said.append('close')
        return self.left

    def offset(self, name: str, deadline: Any) -> int:
        return 1024

    def resize(
        self,
        device: block.Device,
        mapping: encryption.Mapping,
        key: str | None,
        asked: int,
        deadline: Any,
    ) -> None:
        self._say(f'resize with {key}')

    def has_key(
        self,
        device: block.Device,
        provider: str,
        key: str,
        asked: int,
        deadline: Any,
    ) -> bool:
        assert (provider, asked) == (self.format_found, 4096)
        return key in self.keys

    def add_key(
        self,
        device: block.Device,
        mapping: encryption.Mapping,
        key: str,
        new_key: str,
        asked: int,
        deadline: Any,
    ) -> None:
        assert key in self.keys
        self.keys.append(new_key)
        self._say(f'add {new_key} to {device.name}')

    def remove_key(
        self,
        device: block.Device,
        mapping: encryption.Mapping,
        key: str,
        kept_key: str,
        asked: int,
        deadline: Any,
    ) -> None:
        assert kept_key in self.keys
        self.keys.remove(key)
        self._say(f'remove {key} from {device.name}')

    def _say(self, what: str) -> None:
        self.said.append(what)
        if self.error is not None:
            raise self.error
