# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Privileged verbs that return late, or never."""

from collections.abc import Callable
from collections.abc import Iterator
import threading
import time

import pytest

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker.host import verbs

PATIENCE = 10.0


def call(calls: verbs.Verbs, verb: object, *values: object) -> object:
    return calls.call(
        verb,
        *values,
        name='block.flush',
        about='sda',
        deadline=deadlines.Deadline.after(PATIENCE),
    )


class PassesMeanwhile(deadlines.Deadline):
    """A deadline that passes once the verb has begun, however late."""

    def __init__(self) -> None:
        super().__init__(deadlines.now() + PATIENCE)
        self.begun = threading.Event()

    def extended(self, seconds: float) -> deadlines.Deadline:
        return self

    def remaining(self) -> float:
        assert self.begun.wait(PATIENCE)
        return 0.0

    def of(self, verb: Callable[[], object]) -> Callable[[], object]:
        def body() -> object:
            self.begun.set()
            return verb()

        return body


def waiting(holds: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_result_of_the_verb() -> None:
    assert call(verbs.Verbs(), lambda one, two: one + two, 1, 2) == 3


def test_error_of_the_verb() -> None:
    error = OSError(5, 'Input/output error')

    def verb() -> None:
        raise error

    with pytest.raises(OSError, match='Input/output') as caught:
        call(verbs.Verbs(), verb)
    assert caught.value is error


def test_a_verb_that_hangs_costs_no_more_than_the_deadline() -> None:
    # Given a verb that is stuck in the kernel
    calls = verbs.Verbs()
    release, ended = threading.Event(), threading.Event()

    def verb() -> None:
        release.wait(PATIENCE)
        ended.set()

    # When it is called
    deadline = PassesMeanwhile()
    with pytest.raises(exception.DeadlineExceeded) as caught:
        calls.call(
            deadline.of(verb),
            name='block.flush',
            about='sda',
            deadline=deadline,
        )
    # Then the error says what hangs, and it is known to go on
    assert 'block.flush of sda' in str(caught.value)
    assert calls.unfinished('sda') == ['block.flush']
    assert calls.unfinished('sdb') == []
    # And others can be called meanwhile
    other = calls.call(
        lambda: 'done',
        name='scsi.delete',
        about='sda',
        deadline=deadlines.Deadline.after(PATIENCE),
    )
    assert other == 'done'
    # And once it has returned, nothing goes on
    release.set()
    assert ended.wait(PATIENCE)
    waiting(lambda: not calls.unfinished('sda'))


def test_what_is_stuck_costs_one_thread(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Given a verb that its caller has given up
    calls, release = verbs.Verbs(), threading.Event()
    deadline = PassesMeanwhile()
    with pytest.raises(exception.DeadlineExceeded):
        calls.call(
            deadline.of(release.wait),
            name='block.flush',
            about='sda',
            deadline=deadline,
        )
    # Then it is told once, with its name
    [line] = [one.getMessage() for one in caplog.records]
    assert 'block.flush of sda has not returned' in line
    [stuck] = calls.stuck()
    assert (stuck.name, stuck.about) == ('block.flush', 'sda')
    # And what needs the same thing is refused, with the reason and a remedy
    with pytest.raises(exception.TargetQuarantined) as caught:
        calls.check('target', 'sda')
    assert caught.value.retryable
    assert 'block.flush of sda' in str(caught.value)
    assert 'state D' in str(caught.value)
    calls.check('target', 'sdb')
    # And it is not called a second time
    with pytest.raises(exception.TargetQuarantined):
        calls.call(
            lambda: pytest.fail('it was called'),
            name='block.flush',
            about='sda',
            deadline=deadlines.Deadline.after(PATIENCE),
        )
    # When it returns, then it can be called again
    release.set()
    assert call(calls, lambda: 'done') == 'done'
    # And nothing is refused any more
    calls.check('sda')
    assert calls.stuck() == []
    assert 'has returned' in caplog.text


def test_what_is_about_nothing_quarantines_nothing() -> None:
    calls, release = verbs.Verbs(), threading.Event()
    deadline = PassesMeanwhile()
    with pytest.raises(exception.DeadlineExceeded):
        calls.call(
            deadline.of(release.wait),
            name='multipath.running',
            about='',
            deadline=deadline,
        )
    assert calls.call(
        lambda: True,
        name='multipath.running',
        about='',
        deadline=deadlines.Deadline.after(PATIENCE),
    )
    release.set()


def test_nothing_is_unfinished_once_a_call_has_returned() -> None:
    calls = verbs.Verbs()
    for _ in range(100):
        call(calls, lambda: None)
        assert calls.unfinished('sda') == []


def test_no_verb_starts_after_the_deadline() -> None:
    # Given a deadline that has passed
    began = threading.Event()
    # When a verb is called all the same
    with pytest.raises(exception.DeadlineExceeded):
        verbs.Verbs().call(
            began.set,
            name='iscsi.login',
            about='target',
            deadline=deadlines.Deadline.after(-1.0),
        )
    # Then it has not been started: nobody would undo what it does
    for thread in threading.enumerate():
        if thread.name == 'iscsi.login':
            thread.join(PATIENCE)
    assert not began.is_set()


def test_no_verb_is_started_after_a_cancel() -> None:
    # Given a verb that runs while its operation is cancelled
    calls, cancelled = verbs.Verbs(), threading.Event()
    deadline = deadlines.Deadline(deadlines.now() + PATIENCE, cancelled)

    def verb() -> str:
        cancelled.set()
        return 'its result'

    def run() -> object:
        return calls.call(verb, name='v', about='sda', deadline=deadline)

    # Then it is waited for, and the next one is not started
    assert run() == 'its result'
    with pytest.raises(exception.OperationCancelled, match='v of sda'):
        run()


class SetWhenSeen(threading.Event):
    """A cancel that comes right after somebody has looked for it."""

    def is_set(self) -> bool:
        seen = super().is_set()
        self.set()
        return seen


def test_a_verb_that_was_just_started_is_waited_for() -> None:
    # Given a cancel that comes as the verb begins
    calls = verbs.Verbs()
    deadline = deadlines.Deadline(deadlines.now() + PATIENCE, SetWhenSeen())

    def verb() -> str:
        threading.Event().wait(0.2)
        return 'done'

    # Then it is not given up as stuck
    found = calls.call(
        verb, name='iscsi.login', about='portal', deadline=deadline
    )
    assert found == 'done'
    assert calls.stuck() == []
    assert deadline.cancelled


# -- a share for each storage


def stick(
    calls: verbs.Verbs,
    release: threading.Event,
    about: str,
    name: str = 'flush',
) -> None:
    """A verb that its caller has given up."""
    with pytest.raises(exception.DeadlineExceeded):
        calls.call(
            release.wait,
            name=name,
            about=about,
            deadline=deadlines.Deadline.after(0.02),
        )


def backend_of(about: str) -> str:
    return about.partition('-')[0]


@pytest.fixture
def release() -> Iterator[threading.Event]:
    made = threading.Event()
    yield made
    made.set()


def test_what_is_stuck_at_one_storage_leaves_threads_for_the_others(
    release: threading.Event,
) -> None:
    # Given a storage at which as much is stuck as may be
    calls = verbs.Verbs(backend_of, threads=80, share=4)
    for number in range(4):
        stick(calls, release, f'dead-{number}')
    # Then nothing else is begun there, at once and with the reason
    began = time.monotonic()
    with pytest.raises(exception.TargetQuarantined, match='dead-0'):
        calls.call(
            lambda: pytest.fail('it was called'),
            name='flush',
            about='dead-9',
            deadline=deadlines.Deadline.after(PATIENCE),
        )
    assert time.monotonic() - began < PATIENCE / 2
    # And another storage notices nothing
    deadline = deadlines.Deadline.after(PATIENCE)
    found = calls.call(
        lambda: 'done', name='flush', about='well-0', deadline=deadline
    )
    assert found == 'done'
    # And once they have returned, all goes on there, too
    release.set()
    waiting(lambda: not calls.stuck())
    found = calls.call(
        lambda: 'done', name='flush', about='dead-9', deadline=deadline
    )
    assert found == 'done'


def test_the_last_threads_are_for_those_that_have_none(
    release: threading.Event,
) -> None:
    # Given several storages that together have all but the last threads
    calls = verbs.Verbs(backend_of, threads=70, share=4)
    for number in range(3):
        stick(calls, release, f'one-{number}')
        stick(calls, release, f'two-{number}')
    # Then one of them gets no further one, and a third one does
    with pytest.raises(exception.DeadlineExceeded):
        calls.call(
            lambda: pytest.fail('it was called'),
            name='flush',
            about='one-9',
            deadline=deadlines.Deadline.after(0.05),
        )
    assert (
        calls.call(
            lambda: 'done',
            name='flush',
            about='three-0',
            deadline=deadlines.Deadline.after(PATIENCE),
        )
        == 'done'
    )


def test_threads_stay_for_the_next_verb() -> None:
    calls = verbs.Verbs()
    used = {call(calls, threading.get_ident) for _ in range(20)}
    assert len(used) <= 2


def test_a_thread_that_is_stuck_is_replaced(release: threading.Event) -> None:
    calls = verbs.Verbs()
    stick(calls, release, 'sdb')
    assert call(calls, lambda: 'done') == 'done'
