# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What must be while schedules run, at rest, and in the end."""

from collections.abc import Callable
from collections.abc import Iterator
import dataclasses
import os
import pathlib
import threading
import time
from typing import Any
from typing import NoReturn

from tests.contract import bed as beds
from tests.crash import victim
from tests.properties import schedule as schedules
from tests.properties.workers import Violation
from tests.simulator.bed import SimulatedBed

#: Seconds until what goes on after the last answer must have ended.
PATIENCE = 15.0
#: Where attachments write, behind the pattern of the volume.
_PLACE = 8192


@dataclasses.dataclass
class Actor:
    """An attachment, and what its caller knows of it.

    :ivar name: of the attachment
    :ivar volume: as the attachment names it
    :ivar path: its device, while nobody may take it away
    :ivar told: its device, of the last answer
    :ivar guest: a descriptor of the device, while a guest has it open
    :ivar opened: what the guest has opened
    :ivar forces: whether a forced detach of it goes on
    :ivar request: the id of what was asked for last
    :ivar cancelled: those that a cancel was sent for
    """

    letter: str
    name: str
    plan: schedules.Attachment
    volume: beds.Volume
    path: str | None = None
    told: str | None = None
    guest: int | None = None
    opened: str | None = None
    request: str = ''
    running: bool = False
    cancelled: set[str] = dataclasses.field(default_factory=set)
    was_open: bool = False
    forces: bool = False


class Checks:
    """Compares the host, and what the worker says of it, with the actors.

    :param call: asks the worker
    :param lock: held while an actor changes
    :param maps: whether one of them wants a map
    :param state: directory of the worker
    """

    def __init__(
        self,
        bed: SimulatedBed,
        call: Callable[..., Any],
        actors: list[Actor],
        lock: threading.RLock,
        maps: bool,
        state: pathlib.Path,
    ) -> None:
        self._bed = bed
        self._call = call
        self._actors = actors
        self._lock = lock
        self._maps = maps
        self._state = state
        self._aliases = len({one.volume.target for one in actors}) > 1

    def look(self) -> None:
        """Everybody who is attached has what they were told."""
        with self._lock:
            for actor in self._actors:
                self.data(actor)
                self.guest(actor)

    def data(self, actor: Actor) -> None:
        with self._lock:
            if actor.path is None:
                return
            try:
                found = self._bed.read(actor.path)
            except OSError as error:
                _fail('lost', f'{actor.letter}: {actor.path}: {error}')
            if found != actor.volume.pattern:
                _fail('hands', f'{actor.letter}: {actor.path} {found[:60]!r}')
            # multipathd makes one of the disks of two names of a volume, and
            # it goes with one of them.
            wrong = '' if self._aliases else self._mapped(actor)
            if wrong:
                _fail('mapped', wrong)

    def _mapped(self, actor: Actor) -> str:
        """Nobody wants a map: there is none."""
        if self._maps or actor.path is None:
            return ''
        name = actor.path.rpartition('/')[2]
        block = self._bed.root / 'sys/class/block'
        held = os.listdir(block / name / 'holders')
        return f'{actor.letter}: {name} is in {held}' if held else ''

    def guest(self, actor: Actor) -> None:
        if actor.guest is None or actor.opened is None:
            return
        try:
            there = os.stat(self._bed.node(actor.opened))
        except FileNotFoundError:
            _fail('open', f'{actor.letter}: {actor.opened} is gone')
        if there.st_ino != os.fstat(actor.guest).st_ino:
            _fail('open', f'{actor.letter}: {actor.opened} is another')

    def at_rest(self) -> None:
        """Nothing goes on: what has been answered has come to be."""
        wrong = ''
        for wrong in self._tries(self._wrong_at_rest):
            if not wrong:
                return self._exchange()
        _fail('rest', wrong)

    def _exchange(self) -> None:
        """What one writes, all others of the same volume read."""
        attached = [one for one in self._actors if one.path is not None]
        for writer in attached:
            text = f'written by {writer.name}'.encode()
            self._bed.write(writer.path, text, _PLACE)
            for reader in attached:
                found = self._bed.read(reader.path, len(text), _PLACE)
                if (found == text) != (
                    reader.plan.volume == writer.plan.volume
                ):
                    _fail('data', f'{writer.name}, {reader.name}: {found!r}')

    def _wrong_at_rest(self) -> str:
        disks: dict[str, list[str]] = {}
        for directory in (self._bed.root / 'sys/class/block').iterdir():
            try:
                wwid = (directory / 'device/wwid').read_text().strip()
                held = any((directory / 'holders').iterdir())
            except OSError:
                continue
            if not held:
                disks.setdefault(wwid, []).append(directory.name)
        for wwid, names in disks.items():
            if len(names) > 1:
                return f'{names} are all {wwid}, and in no map'
        listed = {
            one['attachment_id']: one for one in self._call('list_attachments')
        }
        for actor in self._actors:
            known = listed.get(actor.name)
            if (known is not None) != (actor.path is not None):
                return f'{actor.letter} at {actor.path} is listed as {known}'
            if known is not None:
                path = (known['device'] or {}).get('path')
                if path != actor.path:
                    return f'{actor.letter} at {actor.path}: {known}'
        return next(filter(None, map(self._mapped, self._actors)), '')

    def results(self, told: dict[str, dict[str, Any]]) -> None:
        """Whoever asks again is told the same."""
        for request_id, result in told.items():
            again = self._call('get_result', request_id)
            if again != result:
                _fail('results', f'{result}\n{again}')

    def end(self, before: dict[str, Any]) -> None:
        wrong: Any = ''
        for wrong in self._tries(lambda: self._wrong_at_end(before)):
            if not wrong:
                return
        _fail('left', str(wrong))

    def _wrong_at_end(self, before: dict[str, Any]) -> Any:
        after = self._bed.snapshot()
        wrong = {
            key: value for key, value in after.items() if value != before[key]
        }
        listed = self._call('list_attachments')
        if listed:
            wrong['listed'] = listed
        for table in ('holdings', 'lines', 'links'):
            # What nobody has would make others believe that it is shared.
            rows = victim.journal(self._state, f'SELECT * FROM {table}')
            if rows:
                wrong[table] = rows
        if not wrong:
            findings = self._call('audit')['findings']
            if findings:
                wrong['findings'] = findings
        return wrong

    @staticmethod
    def _tries(look: Callable[[], Any]) -> Iterator[Any]:
        end = time.monotonic() + PATIENCE
        while True:
            yield look()
            if time.monotonic() > end:
                return
            time.sleep(0.02)


def _fail(kind: str, text: str) -> NoReturn:
    raise Violation(kind, text)
