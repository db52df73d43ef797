# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Takes back what could not be put back in time, and what was in use then."""

from collections.abc import Callable
import contextlib
import threading

from oslo_log import log as logging

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker import objects
from attachworker.journal import AttachmentRecord
from attachworker.journal import Records
from attachworker.tasks.run import Run
from attachworker.tasks.takedown import Takedown
from attachworker.worker import late_paths
from attachworker.worker.dispatcher import Dispatcher
from attachworker.worker.dispatcher import Job

LOG = logging.getLogger(__name__)

#: Seconds before the second attempt; doubled after each.
_FIRST = 1.0
_LONGEST = 60.0
#: Seconds that what an attach of an earlier worker has made may stay, where
#: another one that is undone at the same time is in the way.
_IN_THE_WAY = 5.0
#: In place of an attachment: the links that none holds.
_LINKS = ''


class _Job(Job):
    def __init__(
        self,
        attachment_id: str,
        info: objects.ConnectionInfo | None,
        run: Callable[[], None],
    ) -> None:
        self.concerns(attachment_id, info)
        self._run = run

    def run(self) -> None:
        self._run()


class Cleanup:
    """Tries again with growing pauses until nothing is left.

    Attempts run as jobs of the attachment and its volume, never beside their
    operations, and take a place of its backend. They go by journal and kernel
    alone: nothing is known of how it came there.

    :param make_run: see :class:`attachworker.worker.operation.Operation`
    :param end_links: ends the links that no attachment holds; returns what
        is left of them
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        records: Records,
        make_run: Callable[..., Run],
        end_links: Callable[[], list[str]] = list,
    ) -> None:
        self._dispatcher = dispatcher
        self._records = records
        self._make_run = make_run
        self._end_links = end_links
        self._lock = threading.Lock()
        self._pauses: dict[str, float] = {}

    def later(self, attachment_id: str) -> None:
        """Have an attachment cleaned up, soon and then ever less often."""
        with self._lock:
            known = attachment_id in self._pauses
            self._pauses[attachment_id] = _FIRST
        if not known:  # otherwise it is waiting for its turn already
            self._add(attachment_id, _FIRST)

    def links_later(self) -> None:
        """Have the links of ours ended that no attachment holds, if any.

        What else comes through them may be in use: they go once it is not.
        """
        if self._records.has_unheld_links():
            self.later(_LINKS)

    def after_start(self, known: AttachmentRecord) -> None:
        """Have an attachment of an earlier worker cleaned up, if it needs it.

        Where all that it needs is to be rid of paths that it does without,
        it comes before whatever comes after.

        :raises RecordUnreadable: nobody knows whether it does
        """
        needed = self._is_needed(known)
        if known.state.is_left_over:
            self.later(known.attachment_id)
        elif needed:
            self._dispatcher.add(self._job(known.attachment_id))

    def pending(self) -> int:
        """How many attachments are not clean yet."""
        with self._lock:
            return len(self._pauses)

    def _add(self, attachment_id: str, pause: float) -> None:
        self._dispatcher.add_later(self._job(attachment_id), pause)

    def _job(self, attachment_id: str) -> _Job:
        info = None
        with contextlib.suppress(exception.AttachWorkerError):
            known = self._records.readable(attachment_id)
            info = known.info() if known else None
        return _Job(attachment_id, info, lambda: self._attempt(attachment_id))

    def _attempt(self, attachment_id: str) -> None:
        clean = False
        try:
            clean = self.clean(attachment_id)
        finally:
            self._attempted(attachment_id, clean)

    def _attempted(self, attachment_id: str, clean: bool) -> None:
        with self._lock:
            pause = self._pauses.pop(attachment_id, _FIRST)
            if clean:
                return
            self._pauses[attachment_id] = min(2 * pause, _LONGEST)
        self._add(attachment_id, pause)

    # -- one attempt

    def clean(self, attachment_id: str) -> bool:
        """Put back what an attach has left; True if nothing is.

        That is all that a failed one has made, and what one that has
        succeeded does without.
        """
        known = self._records.readable(attachment_id)
        if known is None and attachment_id != _LINKS:
            return True
        try:
            left = self._clean(known) if known else self._end_links()
        except exception.RecordUnreadable as error:
            LOG.error('%s', error)
            return True
        except (exception.AttachWorkerError, OSError) as error:
            left = [str(error)]
        if left:
            name = attachment_id or 'what is detached'
            LOG.warning('Left over of %s: %s', name, ', '.join(left))
        return not left

    def _clean(self, known: AttachmentRecord) -> list[str]:
        if known.state.has_device:
            return self._release_unused(known)
        if not known.state.is_left_over:
            return []
        left = self.undo(known)
        if not left:
            LOG.info('Nothing is left of %s any more', known.attachment_id)
            self.links_later()
        return left

    def undo(
        self, known: AttachmentRecord, cut_short: bool = False
    ) -> list[str]:
        """Take down what an attach has left on the host, and forget it.

        One that did not get as far as to know its volume may have a path in
        the map of another one. If that is undone as well, each waits for the
        other to let go.

        :param cut_short: see :class:`attachworker.journal.Holdings`
        :returns: what is left
        """
        left: list[str] = []

        def attempt() -> bool | None:
            left[:] = self._undo(known, cut_short)
            return None if left else True

        try:
            host = self._run(known, known.info()).host
            host.uevents.wait_for(
                attempt,
                lambda event: '/block/dm-' in event['DEVPATH'],
                deadlines.Deadline.after(_IN_THE_WAY if cut_short else 0.0),
            )
        except exception.AttachWorkerError as error:
            return [f'{known.attachment_id}: {error}']
        return left

    def _undo(self, known: AttachmentRecord, cut_short: bool) -> list[str]:
        run = self._run(known, known.info(), cut_short)
        with run.held:
            run.lock_known_volume()
            down = self._takedown(run)
            down.lock_unknown_volume()
            left = down.everything()
            # Under the lock: until then another attachment of the volume
            # may leave its paths to this one.
            if not left:
                self._forget(known)
        return left

    def _forget(self, known: AttachmentRecord) -> None:
        after = known.state.when_given_up()
        if after is None:
            self._records.forget_attachment(known.attachment_id)
        else:
            self._records.put_attachment(known.with_state(after))

    def _release_unused(self, known: AttachmentRecord) -> list[str]:
        """Put back paths that an attach tried and did not use."""
        info, device = known.info(), known.device_info()
        assert device is not None  # by its state
        run = self._run(known, info)
        with run.held:
            run.lock_known_volume()
            if device.multipath_id is not None:
                self._find_late_paths(run, device, device.multipath_id)
            self._records.put_attachment(known.with_device(device))
            used = late_paths.connected(device, info.targets)
            keys = {one.key for one in used}
            disk = None if device.multipath_id else late_paths.disk_of(device)
            down = self._takedown(run)
            left: list[str] = []
            for target in info.targets:
                if target.key not in keys:
                    left += down.disconnect(target, disk)
            return left

    @staticmethod
    def _find_late_paths(
        run: Run, device: objects.DeviceInfo, wwid: str
    ) -> None:
        """Note paths that have joined the map of a device unrecorded."""
        found = run.host.multipath.find(wwid)
        for path in device.paths:
            for now in run.connector.paths(late_paths.target_of(path)):
                if found is not None and now.disk in found.disks:
                    path.device = now.disk
                    path.state, path.error = 'connected', None
        device.degraded = late_paths.lacks_paths(device)

    def _is_needed(self, known: AttachmentRecord) -> bool:
        """Whether :meth:`clean` may find something to do."""
        info, device = known.info(), known.device_info()
        if not known.state.has_device or device is None:
            return known.state.is_left_over
        used = late_paths.connected(device, info.targets)
        held = self._run(known, info).holdings.paths(type(info.targets[0]))
        return device.degraded or {one.key for one in held} != {
            one.key for one in used
        }

    def _run(
        self,
        known: AttachmentRecord,
        info: objects.ConnectionInfo,
        cut_short: bool = False,
    ) -> Run:
        return self._make_run(
            known.attachment_id,
            info,
            cut_short=cut_short,
            targets=[],
            expected_wwn=known.wwn,
        )

    @staticmethod
    def _takedown(run: Run) -> Takedown:
        """:raises AttachWorkerError: its protocol cannot be used now"""
        run.targets = run.holdings.paths(run.connector.target_class)
        return run.take_down(deadlines.Deadline.after(run.grace), undo=True)
