# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Who uses a block device, and what of this host's own is on it.

A user is whatever the kernel counts as one: who makes it refuse an exclusive
open, what stands on a part of the device and is no part itself, and who has
it open.
"""

import collections
from collections.abc import Iterable

from attachworker import deadline as deadlines
from attachworker.host import exports
from attachworker.host import machine
from attachworker.host import processes
from attachworker.host import stacks
from attachworker.host import sysfs

#: Seconds that a device on top of another gets to say what it is, and that a
#: tool that only looks at a device gets to let go of it.
_PATIENCE = 1.0
#: How many users are named: thousands may have files of one file system open.
_NAMED = 20

Found = dict[str, list[str]]


class Users(machine.View):
    def __init__(self, host: machine.Machine) -> None:
        super().__init__(host)
        self._processes = processes.Processes(host)

    def of(
        self,
        disks: list[str],
        deadline: deadlines.Deadline,
        mapping: str = '',
    ) -> Found:
        """Who uses each device or a part of it, for people to read.

        Parts are the partitions of a device, its multipath map, the
        partitions of that, and our own mapping.

        :param disks: kernel names
        :param mapping: name of one of dm-crypt that is ours
        :raises OSError: somebody may use one of them, and it cannot be told
        :raises AttachWorkerError: it cannot be told in time
        """
        self._wait_for_holders(disks, deadline)
        stack = stacks.Stack(self._root, mapping)
        parts = {disk: stack.parts(disk) for disk in disks}
        known = {part for found in parts.values() for part in found}
        numbers = stack.numbers(known)
        openable = stack.openable(numbers)
        claimed = self._claimed(openable, numbers, deadline)
        named = self._named(stack, known, bool(claimed), deadline)
        unknown = [
            part
            for part in claimed
            if not any(named.get(one) for one in stack.parts(part))
        ]
        for part in self._still_claimed(unknown, numbers, deadline):
            named[part].append(
                f'whoever has {part} exclusively; lsblk or dmesg may tell who'
            )
        if any(named.values()):
            self._wait_for_holders(disks, deadline)
        if any(stack.parts(disk) != found for disk, found in parts.items()):
            # A map has come, or gone, meanwhile, and may be among the users.
            return self.of(disks, deadline, mapping)
        return {
            disk: _listed(user for part in found for user in named[part])
            for disk, found in parts.items()
        }

    def holders(self, disk: str, deadline: deadlines.Deadline) -> list[str]:
        """The users of a device, if one does more than have it open.

        The device or a part of it is mounted, swapped to, below another
        device, exported, or opened exclusively.

        :param disk: kernel name
        :raises OSError: see :meth:`of`
        :raises AttachWorkerError: see :meth:`of`
        """
        self._wait_for_holders([disk], deadline)
        stack = stacks.Stack(self._root)
        parts = stack.parts(disk)
        numbers = stack.numbers(parts)
        if (
            any(map(stack.users, parts))
            or not exports.users(stack).keys().isdisjoint(parts)
            or self._claimed(stack.openable(numbers), numbers, deadline)
        ):
            return self.of([disk], deadline)[disk]
        return []

    def own_file_systems(
        self, disks: list[str], deadline: deadlines.Deadline
    ) -> Found:
        """What this host cannot do without, for each device that has any.

        :returns: mount points and ``swap``, by kernel name of those devices
            that carry one, however much there is in between
        :raises OSError: nobody knows
        """
        return dict(self._call('removals.carried', deadline, disks, about=''))

    # -- users

    def _named(
        self,
        stack: stacks.Stack,
        parts: set[str],
        claimed: bool,
        deadline: deadlines.Deadline,
    ) -> Found:
        """The users of each part that can be named."""
        above = {part: stack.above(part) for part in parts}
        every = parts.union(*above.values())
        by_kernel = [exports.users(stack)]
        if claimed:
            by_kernel.append(exports.owners(stack))
        numbers = stack.numbers(every)
        by_processes = self._processes.users(
            {number: stack.paths(one) for one, number in numbers.items()},
            deadline,
        )
        users = collections.defaultdict[str, list[str]](list)
        for look in by_kernel:
            for one in every.intersection(look):
                users[one] += look[one]
        for one, number in numbers.items():
            users[one] += by_processes[number]
        return {
            part: [
                *map(stack.title, stack.users(part)),
                *(user for one in (part, *above[part]) for user in users[one]),
            ]
            for part in parts
        }

    def _claimed(
        self,
        parts: list[str],
        numbers: dict[str, str],
        deadline: deadlines.Deadline,
    ) -> list[str]:
        """Those of the parts that the kernel gives to nobody else now."""
        if not parts:
            return []
        return list(
            self._call(
                'block.claimed',
                deadline,
                [(part, numbers[part]) for part in parts],
                about=', '.join(parts),
            )
        )

    def _still_claimed(
        self,
        parts: list[str],
        numbers: dict[str, str],
        deadline: deadlines.Deadline,
    ) -> list[str]:
        """Without those that a tool has let go of: udev starts some."""
        left = parts

        def look() -> bool | None:
            nonlocal left
            left = self._claimed(left, numbers, deadline)
            return None if left else True

        if parts:
            self._wait(look, '/block/', deadline.sooner(_PATIENCE))
        return left

    def _wait_for_holders(
        self, disks: list[str], deadline: deadlines.Deadline
    ) -> None:
        """A new map is seen on its disks before its uuid is, for a moment."""

        def look() -> bool | None:
            holders = {
                holder
                for disk in disks
                for holder in sysfs.names(self._block(disk) / 'holders')
                if holder.startswith('dm-')
            }
            known = all(
                sysfs.exists(self._block(holder) / 'dm/uuid')
                for holder in holders
            )
            return True if known else None

        self._wait(look, '/block/dm-', deadline.sooner(_PATIENCE))


def _listed(users: Iterable[str]) -> list[str]:
    found = list(dict.fromkeys(users))
    more = len(found) - _NAMED
    return [*found[:_NAMED], *([f'{more} more'] if more > 0 else ())]
