# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Decides which operation runs next, and how many run at once."""

import collections
import concurrent.futures
import math
import threading
from typing import Protocol

from oslo_log import log as logging

from attachworker import deadline as deadlines
from attachworker import exception

LOG = logging.getLogger(__name__)

#: Seconds in which a thread that is free begins a job, on a busy host too.
_PROMPT = 10.0


class Job(Protocol):
    """Something to run.

    :ivar attachment_id: jobs with the same one run one after another
    :ivar backend: of jobs with the same one, only so many run at once
    :ivar expires: when it is not begun any more, in seconds since boot
    """

    attachment_id: str
    backend: str

    @property
    def expires(self) -> float: ...

    def run(self) -> None: ...

    def expire(self) -> None:
        """Its time was over before it was its turn."""

    def hurry(self) -> None:
        """Somebody waits for the end of this job: do only what must be."""


class Dispatcher:
    """A bounded pool of threads with a bounded queue.

    The oldest job that may run is next: one whose attachment is free and
    whose backend has a place. So a dead backend delays only its own volumes.

    :param max_running: threads
    :param max_running_per_backend: of these, for one backend
    :param max_queued: jobs that may wait
    """

    def __init__(
        self, max_running: int, max_running_per_backend: int, max_queued: int
    ) -> None:
        self._max_running = max_running
        self._max_running_per_backend = max_running_per_backend
        self._max_queued = max_queued
        self._idle = threading.Condition()
        self._queue: list[Job] = []
        self._attachments: dict[str, Job] = {}
        self._backends: collections.Counter[str] = collections.Counter()
        self._running = False
        self._watcher: threading.Thread | None = None
        #: Attachments whose job no thread has begun yet, and since when.
        self._submitted: dict[str, float] = {}
        self._executor = concurrent.futures.ThreadPoolExecutor(
            max_running, thread_name_prefix='operation'
        )

    def start(self) -> None:
        """Begin to run jobs; some may have been added before."""
        with self._idle:
            self._running = True
            self._start_jobs()
        self._watcher = threading.Thread(
            target=self._watch, name='expiry', daemon=True
        )
        self._watcher.start()

    def check_room(self) -> None:
        """Raise if the queue is full.

        :raises WorkerBusy: nothing was taken
        """
        with self._idle:
            if not self._running or len(self._queue) >= self._max_queued:
                raise exception.WorkerBusy()

    def add(self, job: Job) -> None:
        """Queue a job; it was accepted, so it is never refused here."""
        with self._idle:
            self._queue.append(job)
            self._start_jobs()
            self._idle.notify_all()
            before = self._attachments.get(job.attachment_id)
        if before is not None and before is not job:
            before.hurry()

    def remove(self, job: Job) -> bool:
        """Take a job out of the queue; False if it is not there any more."""
        with self._idle:
            if job not in self._queue:
                return False
            self._queue.remove(job)
            return True

    def jobs(self) -> tuple[list[Job], list[Job]]:
        """Those that wait, and those that run."""
        with self._idle:
            return list(self._queue), list(self._attachments.values())

    def stop(self, timeout: float) -> bool:
        """Start no more jobs, and wait for those that run.

        :param timeout: seconds
        :returns: True if none runs any more
        """
        with self._idle:
            self._running = False
            self._idle.notify_all()
            running = list(self._attachments.values())
        for job in running:
            job.hurry()
        with self._idle:
            done = self._idle.wait_for(lambda: not self._attachments, timeout)
        self._executor.shutdown(wait=False)
        return done

    def _start_jobs(self) -> None:
        while self._running and len(self._attachments) < self._max_running:
            job = next(filter(self._may_run, self._queue), None)
            if job is None:
                return
            self._queue.remove(job)
            self._attachments[job.attachment_id] = job
            self._backends[job.backend] += 1
            self._submitted[job.attachment_id] = deadlines.now()
            self._executor.submit(self._work, job)

    def _may_run(self, job: Job) -> bool:
        return (
            job.attachment_id not in self._attachments
            and self._backends[job.backend] < self._max_running_per_backend
        )

    def works(self, timeout: float = _PROMPT) -> bool:
        """Whether jobs are begun, at all; not how long they take.

        :param timeout: seconds that a thread may take to begin one
        """
        if not self._idle.acquire(timeout=timeout):
            return False
        try:
            now = deadlines.now()
            return all(
                now - since <= timeout for since in self._submitted.values()
            )
        finally:
            self._idle.release()

    def _watch(self) -> None:
        """Have those told in time that wait behind what takes longer."""
        while True:
            with self._idle:
                now = deadlines.now()
                if not self._running:
                    return
                due = [job for job in self._queue if job.expires <= now]
                self._queue = [job for job in self._queue if job not in due]
                if not due:
                    first = min(
                        (job.expires for job in self._queue), default=math.inf
                    )
                    self._idle.wait(min(first - now, threading.TIMEOUT_MAX))
            for job in due:
                try:
                    job.expire()
                except Exception:
                    LOG.exception('Operation on %s', job.attachment_id)

    def _work(self, job: Job) -> None:
        with self._idle:
            self._submitted.pop(job.attachment_id, None)
        try:
            job.run()
        except Exception:
            LOG.exception('Operation on %s', job.attachment_id)
        finally:
            with self._idle:
                del self._attachments[job.attachment_id]
                self._backends[job.backend] -= 1
                self._start_jobs()
                self._idle.notify_all()
