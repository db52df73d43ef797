# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The machine, and what a view of one part of it is made of."""

from collections.abc import Callable
import dataclasses
import errno
import pathlib
from typing import Any
from typing import TypeVar

from attachworker import deadline as deadlines
from attachworker.host import network
from attachworker.host import sysfs
from attachworker.host import uevents
from attachworker.host import verbs

T = TypeVar('T')

#: The unit of the ``size`` attribute, whatever the device's own block size.
SECTOR = 512
#: Seconds in which a disk that is shown can be opened.
_PATIENCE = 10.0
#: The states of a device that works, SCSI's and NVMe's; some have none.
_WORKS = ('running', 'live', None)


@dataclasses.dataclass(eq=False)
class Machine:
    """The one seam to the kernel: tests simulate what is behind it.

    :ivar root: the directory that holds sys, proc, dev and etc
    :ivar privileged: the verbs, as in :mod:`attachworker.privileged`
    :ivar verbs: calls them
    :ivar uevents: what happens
    :ivar networks: that portals may be in
    """

    root: pathlib.Path
    privileged: Any
    verbs: verbs.Verbs
    uevents: uevents.UeventMonitor
    networks: network.Networks = dataclasses.field(
        default_factory=network.Networks
    )

    def call(
        self,
        verb: str,
        deadline: deadlines.Deadline,
        *arguments: Any,
        about: str | None = None,
    ) -> Any:
        """Call a privileged verb; see :meth:`Verbs.call`.

        :param verb: for example ``scsi.scan``
        :param about: what it acts on; None: what its first argument says
        """
        group, _, name = verb.partition('.')
        return self.verbs.call(
            getattr(getattr(self.privileged, group), name),
            *arguments,
            name=verb,
            about=arguments[0] if about is None else about,
            deadline=deadline,
        )


class View:
    """One part of the machine: what is seen of it, and what changes it."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._root = machine.root
        self._call = machine.call

    def _block(self, disk: str) -> pathlib.Path:
        """The directory of a block device in sysfs."""
        return self._root / 'sys/class/block' / disk

    def _wait(
        self,
        look: Callable[[], T | None],
        part: str,
        deadline: deadlines.Deadline,
    ) -> T | None:
        """What ``look`` finds; None when the deadline has passed.

        :param part: of the path in sysfs, in the uevents that matter
        """
        return self._machine.uevents.wait_for(
            look, lambda event: part in event['DEVPATH'], deadline
        )

    def _remove(
        self,
        verb: str,
        name: str,
        gone: Callable[[], bool],
        deadline: deadlines.Deadline,
        *arguments: Any,
        about: str | None = None,
    ) -> bool:
        """Have a device removed; True once the kernel no longer has it.

        :param arguments: of the verb, after the name
        :param about: see :meth:`Machine.call`
        :raises OSError: the kernel keeps it
        """
        try:
            self._call(verb, deadline, name, *arguments, about=about)
        except OSError:
            if not gone():
                raise
        return bool(self._wait(lambda: gone() or None, f'/{name}', deadline))

    def _once_open(
        self,
        verb: str,
        deadline: deadlines.Deadline,
        disk: str,
        *arguments: Any,
    ) -> Any:
        """What a verb returns that opens a disk, once the kernel lets it.

        The kernel (6.1, device_add_disk) makes the directory in sysfs and the
        node first, and what open() looks for last; until then it fails with
        ENXIO. The uevent comes after all of that. A third of a second was
        seen between the two on a busy machine.

        :raises OSError: as the verb does. ENXIO: the disk does not work, is
            on its way out, or cannot be opened after ten seconds
        """
        refusal: OSError | None = None

        def look() -> tuple[Any] | None:
            nonlocal refusal
            try:
                return (self._call(verb, deadline, disk, *arguments),)
            except OSError as error:
                if error.errno != errno.ENXIO or not self._works(disk):
                    raise
                refusal = error
                return None

        found = self._machine.uevents.wait_for(
            look,
            lambda event: (
                event.get('SUBSYSTEM') == 'block'
                and event['DEVPATH'].endswith(f'/{disk}')
            ),
            deadline.sooner(_PATIENCE),
        )
        if found is None:
            assert refusal is not None
            raise refusal
        return found[0]

    def _works(self, disk: str) -> bool:
        # The order matters: the whole directory goes after its attributes.
        state = sysfs.read(self._block(disk) / 'device/state')
        return state in _WORKS and sysfs.exists(self._block(disk))
