# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""One request on a bed, cut short by kill -9 again and again.

After each kill the next worker must bring it to its one end, and the host to
what that end means.
"""

from collections.abc import Callable
from collections.abc import Collection
import contextlib
import dataclasses
import functools
import json
import pathlib
import time
from typing import Any
import uuid

from attachworker import exception
from attachworker import objects
from attachworker.host import encryption
from tests import harness
from tests.contract import bed as beds
from tests.crash import victim

_PATIENCE = 30.0
_ANOTHER_WWN = '600140500000000000000000deadbeef'
_STEP = 1024 * 1024
_KEY = 'key-of-a-volume'
_ANOTHER_KEY = 'another-key-of-it'
#: What a request that has succeeded says.
_DONE = {
    'attach': 'attached',
    'detach': 'detached',
    'extend': 'extended',
    'rotate': 'rotated',
}
#: Of what is killed when it is accepted, nobody needs to ask twice.
_ACCEPTED = 'journal Records.accept after commit #1'


@dataclasses.dataclass(frozen=True)
class Ask:
    """Sends a request and waits for its result; goes to another process."""

    kind: str
    make_request: Callable[[], Any]

    @property
    def request_id(self) -> str:
        found: str = self.make_request().request_id
        return found

    def __call__(self, worker: harness.Harness) -> objects.OperationResult:
        call = getattr(worker.api, objects.METHODS[self.kind])
        result: objects.OperationResult = call(
            {}, worker.name, self.make_request()
        )
        return result


@dataclasses.dataclass(frozen=True)
class Await:
    """Waits until all accepted requests have their result; it does not ask."""

    state: pathlib.Path

    def __call__(self, worker: object = None) -> None:
        query = 'SELECT request_id FROM requests WHERE result IS NULL'
        _until(lambda: (victim.journal(self.state, query), []))


@dataclasses.dataclass(frozen=True)
class Scenario:
    """What is asked for, and of what.

    :ivar kind: attach, detach, extend or rotate
    :ivar portals: of the volume's target
    :ivar multipath: whether a map is wanted
    :ivar shared: whether a neighbour uses the same target
    :ivar fails: the step at which the request fails, and is undone
    :ivar protocol: of the volume
    :ivar encryption: its format; None: it is attached as it is
    """

    kind: str
    portals: int = 1
    multipath: bool = False
    shared: bool = False
    fails: str = ''
    protocol: str = 'iscsi'
    encryption: str | None = None

    def __str__(self) -> str:
        words = [self.kind]
        words += [self.protocol] if self.protocol != 'iscsi' else []
        words += [f'{self.portals}'] if self.portals else []
        words += ['map'] if self.multipath else []
        words += ['shared'] if self.shared else []
        words += ['fails'] if self.fails else []
        words += [self.encryption] if self.encryption else []
        return '-'.join(words)


class Scene:
    """A bed with a neighbour that must not be harmed, and one volume.

    :param machine: of the bed, see :mod:`tests.crash.machines`
    :param state: directory of all its workers
    """

    def __init__(
        self,
        bed: beds.Bed,
        machine: Any,
        state: pathlib.Path,
        scenario: Scenario,
    ) -> None:
        self._bed = bed
        self._machine = machine
        self._state = state
        self._scenario = scenario
        self._neighbour, self._volume = self._volumes()
        self._names = {self._volume.target: 'target'}
        for number, portal in enumerate(self._volume.portals):
            self._names[portal] = f'portal {number}'
        self._size = self._volume.size
        #: That opens the volume, and the one that it is rotated to.
        self._key, self._next_key = _KEY, _ANOTHER_KEY
        with self._worker() as worker:
            attached = worker.attach(
                self._neighbour, multipath=scenario.multipath
            )
            assert attached.status == 'attached', attached.as_dict()
            self._neighbour_path = attached.device.path
        self._before = self._picture()
        with self._worker() as worker:
            path = self._attach(worker)
            if scenario.encryption:
                self._bed.write(path, self._volume.pattern)
        self._attached = self._picture()
        if scenario.kind == 'attach':
            with self._worker() as worker:
                self._detach(worker)

    def _volumes(self) -> tuple[beds.Volume, beds.Volume]:
        bed, scenario = self._bed, self._scenario
        if scenario.protocol == 'local':
            return bed.create_local_volume(), bed.create_local_volume()
        if scenario.protocol == 'nvmeof':
            first = bed.create_nvme_volume(portals=scenario.portals)
            return first, bed.create_nvme_volume(
                on=first if scenario.shared else None,
                portals=scenario.portals,
            )
        if scenario.protocol == 'fibre_channel':
            first = bed.create_fc_volume(portals=scenario.portals)
            return first, bed.create_fc_volume(
                on=first if scenario.shared else None,
                portals=scenario.portals,
            )
        if scenario.protocol == 'rbd':
            return bed.create_rbd_volume(), bed.create_rbd_volume()
        if scenario.protocol == 'nfs':
            first = bed.create_mount_volume()
            on = first if scenario.shared else None
            return first, bed.create_mount_volume(on=on)
        neighbour = bed.create_volume(portals=scenario.portals)
        volume = bed.create_volume(
            on=neighbour if scenario.shared else None,
            portals=scenario.portals,
            chap=None if scenario.shared else ('user', 'password-of-it'),
            resizable=scenario.kind == 'extend',
        )
        if scenario.encryption:
            bed.encrypt(volume, scenario.encryption, _KEY)
        return neighbour, volume

    def close(self) -> None:
        """Detach what a test has left."""
        with self._worker() as worker:
            for attachment in worker.attachments():
                worker.detach(attachment.partition(' ')[0], force=True)
            assert worker.attachments() == []

    # -- one request

    def _make_ask(self) -> Ask:
        """A new request, to be sent to a worker that may be killed."""
        volume, kind = self._volume, self._scenario.kind
        values: dict[str, Any] = {'request_id': str(uuid.uuid4())}
        if kind == 'attach':
            values['multipath'] = self._scenario.multipath
            values['encryption'] = self._encryption
            if self._scenario.fails == 'FindWwn':
                values['expected_wwn'] = _ANOTHER_WWN
            make = functools.partial(harness.attach_request, volume, **values)
        elif kind == 'detach':
            make = functools.partial(
                harness.detach_request, volume.name, **values
            )
        elif kind == 'rotate':
            make = functools.partial(
                objects.RotateKeyRequest,
                attachment_id=volume.name,
                old_key=self._key,
                new_key=self._next_key,
                **values,
            )
        else:
            self._size += _STEP
            self._bed.resize_volume(volume, self._size)
            make = functools.partial(
                objects.ExtendRequest,
                attachment_id=volume.name,
                expected_size=self._size,
                encryption=self._encryption,
                **values,
            )
        return Ask(kind, make)

    def points(self, first: str | None = None) -> list[str]:
        """What a request passes that is not cut short.

        :param first: where a worker before is killed; what the next one
            passes that starts on what it has left
        """
        return self._run(None, first)[1]

    def strike(self, point: str, first: str | None = None) -> bool:
        """Kill a worker there; the next one must bring it to its one end.

        :param first: see :meth:`points`
        :returns: whether it came there again; if not, it ended by itself
        :raises AssertionError: that is not how it ended
        """
        try:
            return self._run(point, first)[0]
        except Exception as error:
            raise AssertionError(
                f'{self._scenario}, killed at {point}'
                + (f' after {first}' if first else '')
            ) from error

    def _run(
        self, point: str | None, first: str | None
    ) -> tuple[bool, list[str]]:
        ask = self._make_ask()
        order = victim.Order(
            self._machine, self._state, ask, names=self._names
        )
        killed, passed = victim.run(order, first or point)
        accepted = _ACCEPTED in passed
        self._machine.settle()
        if first is not None:
            assert killed, f'{first} was not passed'
            again = dataclasses.replace(
                order, act=Await(self._state), recovers=True
            )
            killed, passed = victim.run(again, point)
            self._machine.settle()
        self._recover(ask, accepted)
        return killed, passed

    def _recover(self, ask: Ask, accepted: bool) -> None:
        """Start a worker on what another one left, and look at the end."""
        with self._worker() as worker:
            result = self._result(worker, ask, accepted)
            self._check_end(worker, result)
            if self._scenario.kind != 'detach':
                self._detach(worker)
            self._until(self._before)
            assert worker.attachments() == [f'{self._neighbour.name} attached']
            if self._scenario.kind != 'attach':
                self._attach(worker)
        self._check_journal()

    def _result(
        self, worker: harness.Harness, ask: Ask, accepted: bool
    ) -> objects.OperationResult:
        """The one result: however often and by whichever way it is asked."""
        request_id = ask.request_id
        if accepted:
            Await(self._state)()
            result = worker.api.get_result({}, worker.name, request_id)
            again = ask(worker)
        else:
            with contextlib.suppress(exception.RequestNotFound):
                found = worker.api.get_result({}, worker.name, request_id)
                raise AssertionError(f'it was not accepted: {found}')
            result = ask(worker)
            again = worker.api.get_result({}, worker.name, request_id)
        assert again.as_dict() == result.as_dict()
        return result

    def _check_end(
        self,
        worker: harness.Harness,
        result: objects.OperationResult,
    ) -> None:
        scenario, volume = self._scenario, self._volume
        wanted = 'failed' if scenario.fails else _DONE[scenario.kind]
        if scenario.kind == 'rotate':
            # It may be done before anybody knows why it should not be.
            if result.status == 'rotated':
                self._key, self._next_key = self._next_key, self._key
                wanted = 'rotated'
            self._check_key()
        assert result.status == wanted, result.as_dict()
        assert result.leftovers == [], result.as_dict()
        there = scenario.kind in ('extend', 'rotate') or (
            scenario.kind == 'attach' and not scenario.fails
        )
        attached = [f'{self._neighbour.name} attached']
        attached += [f'{volume.name} attached'] * there
        self._until(self._attached if there else self._before)
        _until(
            lambda: (worker.attachments(), sorted(attached)),
            lambda: [
                one.as_dict()
                for one in worker.api.list_attachments({}, worker.name)
            ],
        )
        read = self._bed.read
        assert read(self._neighbour_path) == self._neighbour.pattern
        if there and result.device:
            assert read(result.device.path) == volume.pattern
        if scenario.kind == 'extend' and not scenario.encryption:
            assert result.device.size == self._size
            assert result.old_size == self._size - _STEP

    def _check_key(self) -> None:
        """The volume opens by one key, and that is the one of the result."""
        name = encryption.name_of(self._volume.name)
        device = (self._bed.root / 'dev/mapper' / name).resolve().name
        slaves = self._bed.root / f'sys/class/block/{device}/slaves'
        (disk,) = (one.name for one in slaves.iterdir())
        opening = [
            key
            for key in (self._key, self._next_key)
            if self._bed.verbs.encryption.has_key(
                disk,
                self._bed.instance(disk),
                self._scenario.encryption,
                key,
                2 << 30,
                60.0,
            )
        ]
        assert opening == [self._key]

    # -- the bed

    def _worker(self) -> harness.Harness:
        return victim.make_worker(self._bed.host(), self._state)

    def _attach(self, worker: harness.Harness) -> str:
        attached = worker.attach(
            self._volume,
            multipath=self._scenario.multipath,
            encryption=self._encryption,
        )
        assert attached.status == 'attached', attached.as_dict()
        return str(attached.device.path)

    @property
    def _encryption(self) -> dict[str, str] | None:
        provider = self._scenario.encryption
        return {'provider': provider, 'key': self._key} if provider else None

    def _detach(self, worker: harness.Harness) -> None:
        detached = worker.detach(self._volume.name)
        assert detached.status == 'detached', detached.as_dict()

    def _picture(self) -> str:
        """The host, whichever of several ways a volume without a map took."""
        portals = {*self._neighbour.portals, *self._volume.portals}
        return picture(
            self._bed, set() if self._scenario.multipath else portals
        )

    def _until(self, wanted: str) -> None:
        # What the answer did not need goes after it.
        _until(lambda: (self._picture(), wanted))

    def _check_journal(self) -> None:
        """No worker has left work, or a holding of what is gone."""
        for query in (
            'SELECT request_id FROM requests WHERE result IS NULL',
            'SELECT request_id FROM requests WHERE sealed IS NOT NULL',
            'SELECT message_id FROM calls',
            'SELECT attachment_id FROM holdings WHERE attachment_id NOT IN'
            ' (SELECT attachment_id FROM attachments)',
            'SELECT link FROM links WHERE link NOT IN'
            ' (SELECT link FROM holdings)',
        ):
            assert victim.journal(self._state, query) == [], query


def picture(bed: beds.Bed, portals: Collection[str]) -> str:
    """What is on the host, whichever of these portals it goes through."""
    found = {}
    for kind, things in bed.snapshot().items():
        words = [json.dumps(thing, sort_keys=True) for thing in things]
        for portal in portals:
            words = [word.replace(portal, 'a portal') for word in words]
        # Sorted anew: they were sorted with their portals.
        found[kind] = sorted(words)
    return json.dumps(found, sort_keys=True)


def _until(
    look: Callable[[], tuple[Any, Any]],
    tell: Callable[[], Any] = lambda: '',
) -> None:
    """Until both of what a look gives are the same.

    :param tell: more, for who reads that they never were
    """
    limit = time.monotonic() + _PATIENCE
    while True:
        found, wanted = look()
        if found == wanted:
            return
        assert time.monotonic() < limit, (
            f'{found}\ninstead of\n{wanted}\n{tell()}'
        )
        time.sleep(0.01)
