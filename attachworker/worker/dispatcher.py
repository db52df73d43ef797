# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Decides which operation runs next, and how many run at once."""

import collections
import functools
import heapq
import itertools
import math
import threading

from oslo_log import log as logging

from attachworker import context as contexts
from attachworker import deadline as deadlines
from attachworker import exception
from attachworker import objects
from attachworker.host import threads

LOG = logging.getLogger(__name__)

#: Seconds in which there is a thread for a job, on a busy host too.
_PROMPT = 10.0
#: Seconds after which a thread that could not be started is tried again.
_THREAD_PAUSE = 1.0
#: Seconds until what could not be ended is tried again: it doubles.
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 10.0
#: How many jobs may go on without a place, for each that may have one.
_MORE = 4


class Job:
    """Something to run.

    :ivar attachment_id: what it is about, for the log
    :ivar keys: two jobs that have one of these in common run one after
        another, in the order in which they came
    :ivar backend: of jobs with the same one, only so many run at once
    :ivar context: whose request it is, for the log
    :ivar knows_volume: whether keys and backend are those of its volume; what
        comes behind the attach that makes its attachment has them of that
    """

    attachment_id: str
    keys: frozenset[str]
    backend: str
    knows_volume: bool
    context: contexts.Context = contexts.NOBODYS

    def concerns(
        self, attachment_id: str, info: objects.ConnectionInfo | None
    ) -> None:
        """Take the keys and the backend of what is done with an attachment.

        Operations on one volume, as the storage calls it, run one after
        another; where it has several names, the volume's lock sees to it.

        :param info: what it is connected to; None if nobody knows
        """
        self.attachment_id = attachment_id
        names = {one.volume_name for one in info.targets} if info else set()
        self.keys = frozenset(
            {attachment_id, *(f'volume {name}' for name in names)}
        )
        self.backend = str(info.targets[0].backend) if info else ''
        self.knows_volume = info is not None

    @property
    def expires(self) -> float:
        """When it is not begun any more, in seconds since boot."""
        return math.inf

    def run(self) -> None:
        raise NotImplementedError

    def expire(self) -> bool:
        """End it: its time was over before it was its turn.

        It must not wait for what may not come: others wait for their ends.

        :returns: False if that is to be tried again later
        """
        return True

    def wrap_up(self) -> None:
        """Somebody waits for the end of this job: do only what must be."""


class Dispatcher:
    """A bounded pool of threads with a bounded queue.

    The oldest job that may run is next: one whose keys are free and whose
    backend has a place. Up to a quarter of all places is only for backends
    that have none, so that a few dead ones delay only their own volumes.

    :param max_running: how many jobs run at once
    :param max_running_per_backend: of these, for one backend
    :param max_queued: jobs that may wait
    """

    def __init__(
        self, max_running: int, max_running_per_backend: int, max_queued: int
    ) -> None:
        self._max_running = max_running
        self._max_queued = max_queued
        self._lock = threading.RLock()
        self._share(max_running_per_backend)
        self._running = False
        #: Set once no more jobs are begun, for good.
        self.stopping = threading.Event()
        self._queue: list[Job] = []
        self._later: list[tuple[float, int, Job]] = []
        #: Those whose time was over.
        self._late: list[Job] = []
        self._order = itertools.count()
        #: Those that run, oldest first, and those of them that take a place.
        self._jobs: list[Job] = []
        self._places: list[Job] = []
        self._threads = threads.Threads()
        #: Since when a job that may run has no thread; None: none lacks one.
        self._lacking: float | None = None
        self._ended = threading.Condition(self._lock)
        #: Told when something is to be done at a time.
        self._timetable = threading.Condition(self._lock)
        #: Told when something is late.
        self._lateness = threading.Condition(self._lock)

    def _share(self, max_running_per_backend: int) -> None:
        most = self._max_running
        self._max_running_per_backend = max_running_per_backend
        # One backend alone may have as many as it may have beside others.
        self._reserved = min(most // 4, max(0, most - max_running_per_backend))

    def share(self, max_running_per_backend: int) -> None:
        """Change how many jobs run for one backend; those that run go on."""
        with self._lock:
            self._share(max_running_per_backend)
            self._start_jobs()

    def start(self) -> None:
        """Begin to run jobs; some may have been added before."""
        with self._lock:
            self._running = True
            threading.Thread(
                target=self._watch, name='timer', daemon=True
            ).start()
            threading.Thread(
                target=self._end_late, name='late', daemon=True
            ).start()
            self._start_jobs()

    def check_room(self) -> None:
        """Raise if the queue is full.

        :raises WorkerBusy: nothing was taken
        """
        with self._lock:
            if not self._running or len(self._queue) >= self._max_queued:
                raise exception.WorkerBusy()

    def add(self, job: Job) -> None:
        """Queue a job; it was accepted, so it is never refused here."""
        with self._lock:
            earlier = (*self._jobs, *self._queue)
            if not job.knows_volume:
                for one in earlier:
                    if one.knows_volume and (
                        one.attachment_id == job.attachment_id
                    ):
                        job.keys |= one.keys
                        job.backend, job.knows_volume = one.backend, True
            before = [one for one in earlier if one.keys & job.keys]
            self._queue.append(job)
            self._start_jobs()
            if job in self._queue:
                self._timetable.notify()
        for one in before:
            one.wrap_up()

    def add_later(self, job: Job, pause: float) -> None:
        """Queue a job in so many seconds."""
        with self._lock:
            due = deadlines.now() + pause
            heapq.heappush(self._later, (due, next(self._order), job))
            self._timetable.notify()

    def remove(self, job: Job) -> bool:
        """Take a job out of the queue; False if it is not there any more."""
        with self._lock:
            if job not in self._queue:
                return False
            self._queue.remove(job)
            # Those behind it with keys in common may run now.
            self._start_jobs()
            return True

    def give_up_place(self, job: Job) -> None:
        """What a job still does takes no place, but keeps its keys.

        Where many do so, the first one of the backend with most is asked to
        wrap up.
        """
        with self._lock:
            if job not in self._places:
                return
            self._places.remove(job)
            more = [one for one in self._jobs if one not in self._places]
            [(backend, most)] = collections.Counter(
                one.backend for one in more
            ).most_common(1)
            first = next(one for one in more if one.backend == backend)
            self._start_jobs()
        if (
            most > self._max_running_per_backend
            or len(more) > _MORE * self._max_running
        ):
            first.wrap_up()

    def jobs(self) -> tuple[list[Job], list[Job]]:
        """Those that wait, and those that run."""
        with self._lock:
            return list(self._queue), list(self._jobs)

    def stop(self, timeout: float) -> bool:
        """Start no more jobs, and wait for those that run.

        :param timeout: seconds
        :returns: True if none runs any more
        """
        self.stopping.set()
        with self._lock:
            self._running = False
            self._timetable.notify_all()
            self._lateness.notify_all()
            running = list(self._jobs)
        for job in running:
            job.wrap_up()
        with self._lock:
            return self._ended.wait_for(lambda: not self._jobs, timeout)

    def works(self, timeout: float = _PROMPT) -> bool:
        """Whether jobs are begun, at all; not how long they take.

        :param timeout: seconds in which there has to be a thread for one
        """
        if not self._lock.acquire(timeout=timeout):
            return False
        try:
            since = self._lacking
            return since is None or deadlines.now() - since <= timeout
        finally:
            self._lock.release()

    # -- which job

    def _start_jobs(self) -> None:
        """Begin those that may run now, each in a thread."""
        if not self._running:
            return
        since, self._lacking = self._lacking, None
        backends = collections.Counter(one.backend for one in self._places)
        taken = {key for one in self._jobs for key in one.keys}
        for job in list(self._queue):
            if len(self._places) >= self._max_running:
                break
            # Who comes later does not overtake, whatever hinders this one.
            if taken.isdisjoint(job.keys) and self._has_place(
                backends[job.backend]
            ):
                try:
                    self._threads.run(
                        functools.partial(self._run, job), 'operation'
                    )
                except (RuntimeError, MemoryError) as error:
                    # The timer tries again, or a job that ends.
                    LOG.error(
                        '%d operations wait: %s', len(self._queue), error
                    )
                    self._lacking = since or deadlines.now()
                    self._timetable.notify()
                    return
                self._queue.remove(job)
                self._jobs.append(job)
                self._places.append(job)
                backends[job.backend] += 1
            taken.update(job.keys)

    def _has_place(self, running: int) -> bool:
        """Whether a backend may have a place more than it has."""
        if running >= self._max_running_per_backend:
            return False
        reserved = self._reserved if running else 0
        return len(self._places) < self._max_running - reserved

    def _run(self, job: Job) -> None:
        with contexts.use(job.context):
            try:
                job.run()
            except BaseException:
                LOG.exception('Operation on %s', job.attachment_id)
        with self._lock:
            self._jobs.remove(job)
            if job in self._places:
                self._places.remove(job)
            self._start_jobs()
            if not self._jobs:
                self._ended.notify_all()

    # -- what is due

    def _watch(self) -> None:
        """Do what is to be done at a time; wait for nothing else."""
        while True:
            with self._lock:
                if not self._running:
                    return
                now = deadlines.now()
                late = [job for job in self._queue if job.expires <= now]
                for job in late:
                    self._queue.remove(job)
                due = []
                while self._later and self._later[0][0] <= now:
                    due.append(heapq.heappop(self._later)[2])
                if late:
                    self._late += late
                    self._lateness.notify()
                if late or self._lacking is not None:
                    self._start_jobs()
                if not late and not due:
                    pause = max(self._due() - now, 0.0)
                    self._timetable.wait(min(pause, threading.TIMEOUT_MAX))
            for job in due:
                self.add(job)

    def _end_late(self) -> None:
        """End what is late, apart from the timer: the disk may hang.

        One that cannot be ended, because the disk is full perhaps, does not
        keep the others from being told.
        """
        pause = _FIRST_PAUSE
        while True:
            with self._lock:
                while self._running and not self._late:
                    self._lateness.wait()
                if not self._running:
                    return
                late, self._late = self._late, []
            again = []
            for job in late:
                with contexts.use(job.context):
                    try:
                        if not job.expire():
                            again.append(job)
                    except BaseException:
                        LOG.exception('Operation on %s', job.attachment_id)
            pause = min(2 * pause, _LONGEST_PAUSE) if again else _FIRST_PAUSE
            with self._lock:
                self._late += again
                if again:
                    self._lateness.wait(pause)

    def _due(self) -> float:
        """When there is something to do, in seconds since boot."""
        times = [job.expires for job in self._queue]
        times += [due for due, _, _ in self._later[:1]]
        if self._lacking is not None:
            times.append(deadlines.now() + _THREAD_PAUSE)
        return min(times, default=math.inf)
