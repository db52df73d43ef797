# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""The steps that exchange the key of a volume that is open.

The mapping keeps what it has: it is the header below that gets another key.
Each step can be run again, whatever an earlier worker has done of it: it looks
which keys open the volume.
"""

from collections.abc import Iterator
import contextlib
import errno

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker.host import block
from attachworker.host import verbs
from attachworker.tasks import attach
from attachworker.tasks import base
from attachworker.tasks.paths import live_paths
from attachworker.tasks.run import Rotation
from attachworker.tasks.run import Run


class CheckKeys(base.Task):
    """See which of the two keys open the volume.

    Reversion strategy: if it has failed itself, take away what an earlier
    worker may have added, as AddKey does otherwise.
    """

    default_provides = ('old_opens', 'new_opens')
    _looked = False

    def execute(self) -> tuple[bool, bool]:
        keys = _Keys(self.run, self.run.deadline)
        old, new = keys.old_opens(), keys.new_opens()
        if not old and not new:
            raise keys.failure('neither the old nor the new key opens it')
        if not old:
            keys.rotation.done = keys.rotation.settled = True
        self._looked = True
        return old, new

    def revert(self, **kwargs: object) -> None:
        rotation = self.run.rotation
        if rotation is not None and rotation.intended and not self._looked:
            take_back(self.run)


class AddKey(base.Task):
    """Have the new key open the volume, too.

    Reversion strategy: take the new key away while the old one opens the
    volume, if this request may have added it.
    """

    def execute(self, new_opens: bool) -> None:
        if not new_opens:
            keys = _Keys(self.run, self.run.deadline)
            keys.rotation.intend()
            keys.add()

    def revert(self, **kwargs: object) -> None:
        take_back(self.run)


class RemoveKey(base.Task):
    """Have the old key not open the volume any more.

    Reversion strategy: nothing to undo: AddKey sees which key opens it.
    """

    def execute(self, old_opens: bool) -> None:
        if old_opens:
            keys = _Keys(self.run, self.run.deadline)
            rotation = keys.rotation
            keys.remove(rotation.old_key, kept=rotation.new_key)


class VerifyKeys(base.Task):
    """Make sure that the new key alone opens the volume.

    Reversion strategy: nothing to undo.
    """

    def execute(self, old_opens: bool) -> None:
        if not old_opens:
            return  # so it was before
        keys = _Keys(self.run, self.run.deadline)
        if keys.old_opens():
            raise keys.failure('the old key opens it still')
        if not keys.new_opens():
            raise keys.failure('the new key does not open it')
        keys.rotation.done = keys.rotation.settled = True


def take_back(run: Run) -> None:
    """Have the old key alone open the volume, while it does.

    What this request has not added stays: another keyslot may have had the
    new key before. If the old key is gone already, the new one is what there
    is, and the rotation is done.

    :raises AttachWorkerError: it cannot be done, or nobody knows
    """
    if run.rotation is not None and run.rotation.done:
        return
    keys = _Keys(run, run.undo_deadline)
    rotation = keys.rotation
    if keys.old_opens():
        if rotation.intended and keys.new_opens():
            keys.remove(rotation.new_key, kept=rotation.old_key)
    elif keys.new_opens():
        rotation.done = True
    else:
        raise keys.failure('neither the old nor the new key opens it')
    rotation.settled = True


class _Keys:
    """The keys of an open volume, which was found and identified just now.

    :raises AttachWorkerError: it is not open, or its key cannot be changed
    """

    def __init__(self, run: Run, deadline: deadlines.Deadline) -> None:
        assert run.rotation is not None  # else no such step is in the flow
        self.rotation: Rotation = run.rotation
        self._encryption = run.host.encryption
        self._deadline = deadline
        found = self._encryption.find(run.mapping)
        if found is None:
            raise exception.EncryptionFailed(
                device=run.name,
                reason='it has no mapping that is open; attach it with its '
                'key first',
            )
        self._mapping = found
        if found.provider == 'plain':
            raise self.failure(
                'plain dm-crypt keeps no key on the volume, so there is none '
                'to change; copy the data to a volume that was formatted with '
                'luks2'
            )
        # What an earlier step, or worker, has begun may change the keys yet.
        run.host.verbs.check(*found.disks, patience=verbs.SLOW_RETURN)
        self._device = self._identified(run)
        with self._errors():
            self._asked = self._encryption.read_header(
                self._device, found.provider, deadline
            )
        if self._asked is None:
            raise self.failure(
                f'there is no header of format {found.provider} below it'
            )

    def _identified(self, run: Run) -> block.Device:
        """What is below the mapping, and the volume that is wanted.

        :raises AttachWorkerError: it is not, or cannot be written to
        """
        disks = self._mapping.disks
        # Looked up before it is identified: nothing else is written to then.
        device = run.host.block.device(disks[0]) if disks else None
        run.lock_known_volume()
        found = live_paths(run, self._deadline, exception.EncryptionFailed)
        name = found.map.name if found.map else found.paths[0].disk
        if device is None or disks != (name,):
            raise self.failure(f'it is not on top of {name}')
        if found.map is not None:
            # Nothing is written that a path takes to another volume.
            attach.check_members(run, found.map, found.paths, self._deadline)
        if run.info.access_mode == 'ro' or run.host.block.read_only(name):
            raise self.failure('it is attached read-only')
        return device

    def old_opens(self) -> bool:
        return self._opens(self.rotation.old_key)

    def new_opens(self) -> bool:
        return self._opens(self.rotation.new_key)

    def _opens(self, key: str) -> bool:
        with self._errors():
            return self._encryption.has_key(
                self._device,
                self._mapping.provider,
                key,
                self._asked or 0,
                self._deadline,
            )

    def add(self) -> None:
        """Add the new key."""
        with self._errors():
            self._encryption.add_key(
                self._device,
                self._mapping,
                self.rotation.old_key,
                self.rotation.new_key,
                self._asked or 0,
                self._deadline,
            )

    def remove(self, key: str, kept: str) -> None:
        """Remove a key; the other one stays."""
        with self._errors():
            self._encryption.remove_key(
                self._device,
                self._mapping,
                key,
                kept,
                self._asked or 0,
                self._deadline,
            )

    def failure(self, reason: str) -> exception.EncryptionFailed:
        return exception.EncryptionFailed(
            device=self._mapping.device, reason=reason
        )

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            if error.errno == errno.EACCES:
                reason = 'a key does not open it any more'
            raise self.failure(reason) from error
