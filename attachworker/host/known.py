# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What does not change about a device for as long as it is there."""

from collections.abc import Callable
import pathlib
import re
from typing import Generic
from typing import TypeVar

from attachworker.host import sysfs

T = TypeVar('T')


class Known(Generic[T]):
    """Facts of what a directory of sysfs holds, each read once.

    With hundreds of sessions or maps on a host, to read all of them again to
    find one of them took longer than all the rest of an attach.

    :param directory: holds a node for each device
    :param prefix: what the kernel puts before the number of each to name it;
        what is called otherwise does not matter
    :param read: the fact of one, by its name; None: it has none yet, and is
        asked again
    """

    def __init__(
        self,
        directory: pathlib.Path,
        prefix: str,
        read: Callable[[str], T | None],
    ) -> None:
        self._directory = directory
        self._name = re.compile(re.escape(prefix) + '[0-9]{1,10}')
        self._read = read
        self._facts: dict[tuple[str, int], T] = {}

    def get(self, name: str) -> T | None:
        """The same of one, without a look at the others.

        :raises OSError: nobody knows
        """
        number = sysfs.node(self._directory / name)
        if number is None:
            return None
        node = (name, number)
        fact = self._fact(node)
        if fact is not None and node not in self._facts:
            self._facts = self._facts | {node: fact}
        return fact

    def all(self) -> dict[str, T]:
        """By name, of those that are there now and have one.

        :raises OSError: nobody knows
        """
        found = {
            node: self._fact(node)
            for node in sysfs.nodes(self._directory).items()
            if self._name.fullmatch(node[0])
        }
        facts = {node: one for node, one in found.items() if one is not None}
        # In one step: others may look at the same time.
        self._facts = facts
        return {name: fact for (name, _), fact in facts.items()}

    def _fact(self, node: tuple[str, int]) -> T | None:
        known = self._facts.get(node)
        return self._read(node[0]) if known is None else known
