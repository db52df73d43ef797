# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""dm-crypt on top of a volume: the last to come and the first to go."""

import errno

from attachworker import exception
from attachworker import objects
from attachworker.host import block
from attachworker.host import multipath
from attachworker.host.encryption import Mapping
from attachworker.tasks import attach
from attachworker.tasks import base
from attachworker.tasks.run import Run

#: The largest sectors that a mapping has; its size is a multiple; bytes.
_LARGEST_SECTOR = 4096


class OpenEncryption(base.Task):
    """Open the device with its key, and describe what comes of it.

    Reversion strategy: close the mapping, unless it was there before.
    """

    default_provides = 'opened'

    def execute(self, map: multipath.Map | None) -> objects.DeviceInfo:
        run = self.run
        wanted = run.encryption
        assert wanted is not None  # else it is not part of the flow
        encryption = run.host.encryption
        run.host.verbs.check(run.mapping)
        path = attach.path_of_device(run, map)
        disk = map.name if map else path.disk
        found = encryption.find(run.mapping)
        if found is not None and found.disks == (disk,) and run.kept:
            return attach.describe(run, disk, map)
        # one that an earlier attempt has left, with whatever key
        self._close_left()
        # Looked up before it is identified: nothing else is opened then.
        device = run.host.block.device(disk)
        if device is None:
            raise exception.DeviceNotFound(volume=path.target.label)
        attach.check_still(run, path, map)
        try:
            asked = 0
            if wanted.provider != 'plain':
                asked = self._check_header(device, map)
            run.opened = True
            read_only = run.host.block.read_only(disk)
            encryption.open(
                device,
                run.mapping,
                wanted.provider,
                wanted.key,
                read_only or run.info.access_mode == 'ro',
                asked,
                run.deadline,
            )
        except OSError as error:
            reason = error.strerror or str(error)
            if error.errno == errno.EACCES:
                reason = 'the key does not open it'
            raise exception.EncryptionFailed(
                device=disk, reason=reason
            ) from error
        attach.check_still(run, path, map)
        return attach.describe(run, disk, map)

    def revert(self, **kwargs: object) -> None:
        self.run.leftovers += close_opened(self.run)

    def _close_left(self) -> None:
        run = self.run
        left = run.host.encryption.close(run.mapping, run.deadline)
        if left:
            raise exception.EncryptionFailed(
                device=run.mapping, reason='; '.join(left)
            )

    def _check_header(
        self, device: block.Device, map: multipath.Map | None
    ) -> int:
        """Make sure that there is one, on an empty volume if it may be.

        :returns: bytes of memory that it asks for to be opened
        :raises OSError: it is not possible
        """
        run, wanted = self.run, self.run.encryption
        assert wanted is not None
        encryption = run.host.encryption
        asked = encryption.read_header(device, wanted.provider, run.deadline)
        if asked is not None:
            return asked
        if not wanted.may_format:
            raise exception.EncryptionFailed(
                device=device.name,
                reason=f'it has no header of format {wanted.provider}, and '
                'the request does not allow to format it',
            )
        # Nothing is written that a path takes to another volume.
        paths, _ = attach.verified(run, run.attempts.paths())
        if map is not None:
            attach.check_members(run, map, paths)
        encryption.format(device, wanted.provider, wanted.key, run.deadline)
        asked = encryption.read_header(device, wanted.provider, run.deadline)
        if asked is None:
            raise OSError(errno.EIO, 'it has no header after it was formatted')
        return asked


class CloseEncryption(base.Task):
    """Close the mapping, if there is one, before anything below it goes.

    Reversion strategy: nothing to undo; a detach is finished, not undone.
    """

    def execute(self) -> None:
        run = self.run
        if run.host.encryption.find(run.mapping) is None:
            return
        attach.check_cryptsetup(run)
        left = run.host.encryption.close(run.mapping, run.deadline)
        if left and not run.force:
            raise exception.EncryptionFailed(
                device=run.mapping, reason='; '.join(left)
            )
        run.warnings += [f'{one} outlived what is below it' for one in left]


class ResizeEncryption(base.Task):
    """Give the mapping, if there is one, the size of what is below it.

    Reversion strategy: nothing to undo: it is the size that the volume has.
    """

    default_provides = 'sizes'

    def execute(
        self, old_size: int | None, size: int
    ) -> tuple[int | None, int]:
        run = self.run
        encryption = run.host.encryption
        found = encryption.find(run.mapping)
        if found is None:
            if run.encryption is None and not run.opened:
                return old_size, size
            raise exception.EncryptionFailed(
                device=run.name, reason='it has no mapping that is open'
            )
        attach.check_cryptsetup(run)
        key = run.encryption.key if run.encryption else None
        before = run.host.block.size(found.device)
        if found.integrity:
            raise exception.EncryptionFailed(
                device=found.device,
                reason='it has integrity, and cryptsetup cannot grow that',
            )
        try:
            wanted = size - encryption.offset(found.name, run.deadline)
            if before != wanted:
                self._resize(found, key)
        except OSError as error:
            reason = error.strerror or str(error)
            if error.errno == errno.EACCES:
                reason = 'the key does not open it'
            elif found.provider == 'luks2' and key is None:
                reason = 'luks2 takes the key for that; send it, too'
            raise exception.EncryptionFailed(
                device=found.device, reason=reason
            ) from error
        after = run.host.block.size(found.device) or 0
        if not 0 <= wanted - after < _LARGEST_SECTOR:
            raise exception.ExtendFailed(
                device=found.device,
                reason=f'it has {after} bytes, not {wanted}',
            )
        return before, after

    def _resize(self, mapping: Mapping, key: str | None) -> None:
        """Have the header below obeyed, as it is by now.

        :raises OSError: it cannot be read, or the size stays
        """
        host, deadline = self.run.host, self.run.deadline
        device = host.block.device(mapping.disks[0])
        if device is None:
            raise OSError(errno.ENODEV, f'{mapping.disks[0]} is gone')
        asked = 0
        if mapping.provider != 'plain':
            asked = (
                host.encryption.read_header(device, mapping.provider, deadline)
                or 0
            )
        host.encryption.resize(device, mapping, key, asked, deadline)


def close_opened(run: Run) -> list[str]:
    """Close what this run has opened.

    :returns: what is left of it
    """
    return run.undo.close_mapping() if run.opened else []
