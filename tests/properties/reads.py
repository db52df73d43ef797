# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Operations during which one look at the host fails.

Whatever it is: no answer is wrong, and once the trouble is over the operation
can be asked for again, succeeds, and nothing is left in the end.
"""

import contextlib
import time
from typing import Any
import uuid

from tests.contract import bed as beds
from tests.crash import scene
from tests.properties import hosts
from tests.properties.workers import Violation
from tests.properties.workers import WorkerKilled

#: Seconds until what could not be put back must be gone.
PATIENCE = 20.0
_SIZE = 32 << 20
_STEP = 1 << 20
_KEY = 'key-of-a-volume'
_ANOTHER_WWN = '600140500000000000000000deadbeef'

#: Kinds of volumes.
KINDS = (
    *('single', 'two', 'map', 'luks', 'nvmeof', 'rbd', 'nfs', 'local'),
    'fc',
)
#: Two attachments cannot open one encrypted volume.
IMPOSSIBLE = (('luks', 'detach shared'),)
#: What is done while a look fails.
DEEDS = (
    'attach',
    'undo',
    'repeat',
    'extend',
    'detach',
    'detach in use',
    'detach shared',
    'start',
    'recover attach',
    'recover detach',
)


class Scene:
    """One kind of volume, and what is done with it again and again."""

    def __init__(self, host: hosts.Host, kind: str, deed: str) -> None:
        self._host = host
        self._bed = host.bed
        self._kind = kind
        self._deed = deed
        self._volume = self._make_volume()
        self._size = self._volume.size
        self._path = ''
        self._result: dict[str, Any] = {}
        self._other = ''
        self._written = kind != 'luks'
        self._before = self._picture()
        if kind == 'luks':
            self._attach()
            self._bed.write(self._path, self._volume.pattern)
            self._written = True
            self._detach()

        if deed == 'recover attach':
            # Nearly done: there is most to be put back, or found.
            self._kill_at = host.passes(self._attach) - 1
            self._detach()
        if deed == 'recover detach':
            self._attach()
            self._kill_at = host.passes(self._detach) // 2

    def _make_volume(self) -> beds.Volume:
        bed = self._bed
        if self._kind == 'local':
            return bed.create_local_volume()
        if self._kind == 'rbd':
            return bed.create_rbd_volume()
        if self._kind == 'nfs':
            return bed.create_mount_volume()
        if self._kind == 'nvmeof':
            return bed.create_nvme_volume(portals=2)
        if self._kind == 'fc':
            return bed.create_fc_volume(portals=2)
        volume = bed.create_volume(
            portals=2 if self._kind in ('two', 'map') else 1
        )
        if self._kind == 'luks':
            bed.encrypt(volume, 'luks2', _KEY)
        return volume

    def points(self) -> list[str]:
        """All looks of a run in which none fails."""
        return self.strike(None, 0)[1]

    def strike(self, point: str | None, number: int) -> tuple[bool, list[str]]:
        """Do it once, with one look that fails.

        :returns: whether that look was made; all that were
        :raises Violation: then the host is of no use any more
        """
        act, judge = {
            'attach': (self._act_attach, self._judge_attach),
            'undo': (self._act_undo, self._judge_undo),
            'repeat': (self._act_attach, self._judge_repeat),
            'extend': (self._act_extend, self._judge_extend),
            'detach': (self._act_detach, self._judge_detach),
            'detach in use': (self._act_detach_in_use, self._judge_in_use),
            'detach shared': (self._act_detach, self._judge_shared),
            'start': (self._act_start, self._judge_start),
            'recover attach': (self._act_recover, self._judge_attach),
            'recover detach': (self._act_recover, self._judge_detach),
        }[self._deed]
        fatal = (point, number)
        self._refused = False
        try:
            self._prepare()
            if act not in (self._act_start, self._act_recover):
                self._call('reads.begin', fatal)
            act(fatal)
            struck, passed = self._call('reads.end')
            struck = struck or self._refused
            judge()
            self._finish()
        except Violation as error:
            error.add_note(
                f'{self._kind}, {self._deed}: {point} with errno {number}\n'
                f'{self._result}\n'
                + (self._host.state / 'log').read_text()[-2000:]
            )
            raise
        return struck, passed

    # -- before

    def _prepare(self) -> None:
        if self._deed in ('attach', 'undo'):
            return
        if self._deed == 'recover attach':
            self._cut_short('attach', self._attach_request())
            return
        self._attach()
        if self._deed == 'detach shared':
            other = self._ask(
                'attach', {**self._attach_request(), 'attachment_id': 'other'}
            )
            self._must(other['status'] == 'attached', 'test', f'{other}')
            self._other = other['device']['path']
        if self._deed == 'recover detach':
            self._cut_short('detach', {'attachment_id': 'one'})

    def _cut_short(self, method: str, values: dict[str, Any]) -> None:
        """Kill a worker in the middle of a request."""
        self._request = {
            'request_id': str(uuid.uuid4()),
            'deadline_seconds': 60,
            **values,
        }
        worker = self._host.worker
        with contextlib.suppress(WorkerKilled):
            self._host.passes(
                lambda: worker.call(f'{method}_volume', self._request),
                self._kill_at,
            )

    # -- meanwhile

    def _act_attach(self, fatal: object) -> None:
        self._result = self._ask('attach', self._attach_request())

    def _act_undo(self, fatal: object) -> None:
        request = {**self._attach_request(), 'expected_wwn': _ANOTHER_WWN}
        self._result = self._ask('attach', request)

    def _act_extend(self, fatal: object) -> None:
        self._size += _STEP
        self._bed.resize_volume(self._volume, self._size)
        self._result = self._ask('extend', self._extend_request())

    def _act_detach(self, fatal: object) -> None:
        self._result = self._ask('detach', {'attachment_id': 'one'})

    def _act_detach_in_use(self, fatal: object) -> None:
        with self._bed.opened(self._path):
            self._act_detach(fatal)

    def _act_start(self, fatal: tuple[str | None, int]) -> None:
        self._host.worker.kill()
        self._host.worker = self._host.start(fatal)
        try:
            self._host.worker.wait_until_ready()
        except WorkerKilled:
            # It has refused to start; systemd tries again.
            self._refused = True
            self._host.worker = self._host.start((None, 0))
            self._host.worker.wait_until_ready()

    def _act_recover(self, fatal: tuple[str | None, int]) -> None:
        self._act_start(fatal)
        # It joins the request, or is told its result.
        method = self._deed.removeprefix('recover ')
        self._result = self._ask(method, self._request)

    # -- afterwards

    def _judge_attach(self) -> None:
        if self._result['status'] == 'attached':
            self._path = self._result['device']['path']
            self._check_device(self._path)
        else:
            self._check_failure()
            self._must_be_undone()
        self._attach()

    def _judge_undo(self) -> None:
        self._must(
            self._result['status'] == 'failed', 'undo', f'{self._result}'
        )
        self._must_be_undone()
        self._attach()

    def _must_be_undone(self) -> None:
        if not self._result['leftovers']:
            self._must_be('false proof', self._before, 0.0)
        self._must_be('left', self._before, PATIENCE)

    def _judge_repeat(self) -> None:
        if self._result['status'] == 'attached':
            self._must(
                self._result['device']['path'] == self._path,
                'moved',
                f'{self._path} -> {self._result["device"]}',
            )
        else:
            self._check_failure()
        self._check_device(self._path)
        self._attach()

    def _judge_extend(self) -> None:
        self._check_device(self._path)
        if self._result['status'] == 'extended':
            self._check_size(self._result)
        else:
            self._check_failure()
        again = self._ask('extend', self._extend_request())
        self._must(again['status'] == 'extended', 'again', f'{again}')
        self._check_size(again)

    def _judge_detach(self) -> None:
        if self._result['status'] == 'detached':
            self._must_be('false proof', self._before, 0.0)
            self._must(self._listed() == {}, 'listed', f'{self._listed()}')
        else:
            self._check_failure()

    def _judge_in_use(self) -> None:
        self._must(
            self._result['status'] == 'failed', 'in use', f'{self._result}'
        )
        if self._result['error']['code'] != 'in_use':
            self._check_failure()
        self._check_device(self._path)

    def _judge_shared(self) -> None:
        if self._result['status'] == 'failed':
            self._check_failure()
        self._check_device(self._other)
        self._detach()
        self._check_device(self._other)
        again = self._ask('detach', {'attachment_id': 'other'})
        self._must(again['status'] == 'detached', 'again', f'{again}')

    def _judge_start(self) -> None:
        self._check_device(self._path)
        self._must(
            self._listed() == {'one': 'attached'},
            'listed',
            f'{self._listed()}',
        )
        self._attach()

    def _finish(self) -> None:
        """Once the trouble is over, all goes."""
        self._detach()
        self._must_be('left', self._before, PATIENCE)
        self._must(self._listed() == {}, 'listed', f'{self._listed()}')

    # -- what is asked for

    def _attach_request(self) -> dict[str, Any]:
        return {
            'attachment_id': 'one',
            'connection_info': self._volume.connection_info(),
            'multipath': self._kind in ('map', 'nvmeof', 'fc'),
            'encryption': self._encryption(),
        }

    def _extend_request(self) -> dict[str, Any]:
        return {
            'attachment_id': 'one',
            'expected_size': self._size,
            'encryption': self._encryption(),
        }

    def _encryption(self) -> dict[str, str] | None:
        if self._kind != 'luks':
            return None
        return {'provider': 'luks2', 'key': _KEY}

    def _attach(self) -> None:
        result = self._ask('attach', self._attach_request())
        self._must(result['status'] == 'attached', 'again', f'{result}')
        self._path = result['device']['path']
        if self._written:
            self._check_device(self._path)

    def _detach(self) -> None:
        result = self._ask('detach', {'attachment_id': 'one'})
        self._must(result['status'] == 'detached', 'again', f'{result}')

    def _ask(self, method: str, values: dict[str, Any]) -> dict[str, Any]:
        request = {
            'request_id': str(uuid.uuid4()),
            'deadline_seconds': 20,
            **values,
        }
        found: dict[str, Any] = self._call(f'{method}_volume', request)
        return found

    def _call(self, method: str, values: Any = None) -> Any:
        return self._host.worker.call(method, values)

    # -- what must be

    def _check_failure(self) -> None:
        self._must(
            self._result['error']['code'] != 'internal',
            'internal',
            f'{self._result["error"]}',
        )

    def _check_device(self, path: str) -> None:
        try:
            found = self._bed.read(path)
        except OSError as error:
            raise Violation('lost', f'{path}: {error}') from error
        self._must(found == self._volume.pattern, 'hands', f'{found[:60]!r}')

    def _check_size(self, result: dict[str, Any]) -> None:
        size = result['device']['size']
        if self._kind != 'luks':
            self._must(size == self._size, 'size', f'{size} {self._size}')

    def _listed(self) -> dict[str, str]:
        return {
            one['attachment_id']: one['state']
            for one in self._call('list_attachments')
        }

    def _picture(self) -> str:
        return scene.picture(self._bed, self._volume.portals)

    def _must_be(self, kind: str, wanted: str, patience: float) -> None:
        end = time.monotonic() + patience
        while (found := self._picture()) != wanted:
            if time.monotonic() >= end:
                raise Violation(kind, f'{found}\ninstead of\n{wanted}')
            time.sleep(0.02)

    @staticmethod
    def _must(holds: bool, kind: str, text: str) -> None:
        if not holds:
            raise Violation(kind, text)
