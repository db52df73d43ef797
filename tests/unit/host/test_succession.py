# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What the helper of one worker was at, as the next worker meets it."""

from collections.abc import Iterator
import pathlib
import threading
import time

import pytest

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker.host import succession
from attachworker.host import verbs
from attachworker.privileged import process
from tests.simulator import client
from tests.unit.simulator import view

PATIENCE = 10.0


class Worker:
    """One of several that follow each other on the same directory."""

    def __init__(self, state: pathlib.Path) -> None:
        self.helper = client.Process()
        self.calls = verbs.Verbs()
        self._state = state
        self._succession = succession.Succession(self.helper.hold, self.calls)

    def start(self, patience: float = 0.0) -> None:
        self._succession.begin(self._state, patience)

    def call(self, verb: object, about: str = 'sda') -> object:
        return self.calls.call(
            verb,
            name='block.flush',
            about=about,
            deadline=deadlines.Deadline.after(PATIENCE),
        )

    def stuck(self) -> list[tuple[str, str]]:
        return [(one.name, one.about) for one in self.calls.stuck()]

    def stop(self) -> None:
        self._succession.end()

    def end_helper(self) -> None:
        assert self.helper.lock is not None
        self.helper.lock.close()


class Killed(Worker):
    """One that is dead, and whose helper is in the kernel with a verb."""

    def __init__(self, state: pathlib.Path, about: str = 'sda') -> None:
        super().__init__(state)
        self.start()
        self._returned, begun = threading.Event(), threading.Event()

        def verb() -> None:
            begun.set()
            self._returned.wait(PATIENCE)

        self._thread = threading.Thread(target=self.call, args=(verb, about))
        self._thread.start()
        assert begun.wait(PATIENCE)

    def end(self) -> None:
        self._returned.set()
        self._thread.join()


def files(state: pathlib.Path) -> list[str]:
    """What is written down, without the locks."""
    return [
        path.read_text()
        for path in state.glob('helpers/*/*')
        if path.name != process.LOCK
    ]


def helpers(state: pathlib.Path) -> int:
    return len(list(state.glob('helpers/*')))


@pytest.fixture
def killed(tmp_path: pathlib.Path) -> Iterator[Killed]:
    made = Killed(tmp_path)
    yield made
    made.end()


def test_a_verb_is_written_down_while_it_runs(tmp_path: pathlib.Path) -> None:
    worker = Worker(tmp_path)
    worker.start()
    (found,) = worker.call(lambda: files(tmp_path))
    assert '["block.flush", "sda", ' in found
    assert files(tmp_path) == []


def test_it_is_not_left_when_the_verb_fails(tmp_path: pathlib.Path) -> None:
    worker = Worker(tmp_path)
    worker.start()

    def verb() -> None:
        raise OSError(5, 'Input/output error')

    with pytest.raises(OSError, match='Input/output error'):
        worker.call(verb)
    assert files(tmp_path) == []


def test_what_could_not_be_quarantined_is_not_written_down(
    tmp_path: pathlib.Path,
) -> None:
    worker = Worker(tmp_path)
    worker.start()
    assert worker.call(lambda: files(tmp_path), about='') == []


def test_what_cannot_be_written_down_is_not_begun(
    tmp_path: pathlib.Path,
) -> None:
    # Given a directory that cannot be written to
    worker, began = Worker(tmp_path), threading.Event()
    worker.start()
    (tmp_path / 'helpers').rename(tmp_path / 'elsewhere')
    # When a verb is called, then no error of it is taken for one of the verb
    with pytest.raises(exception.HostToolFailed, match='No such file'):
        worker.call(began.set)
    assert not began.is_set()
    # And it goes on when it can be
    (tmp_path / 'elsewhere').rename(tmp_path / 'helpers')
    worker.call(began.set)
    assert began.is_set()


def test_what_a_helper_was_at_that_has_ended_means_nothing(
    tmp_path: pathlib.Path, killed: Killed
) -> None:
    killed.end_helper()
    worker = Worker(tmp_path)
    worker.start()
    assert worker.stuck() == []
    assert files(tmp_path) == []
    assert helpers(tmp_path) == 1


def test_what_a_helper_is_at_still_is_stuck_until_it_ends(
    tmp_path: pathlib.Path, killed: Killed, caplog: pytest.LogCaptureFixture
) -> None:
    # When a worker starts whose predecessor's helper is in the kernel
    worker = Worker(tmp_path)
    worker.start()
    # Then it starts all the same, and the log says what is not done there
    assert worker.stuck() == [('block.flush', 'sda')]
    assert 'block.flush of sda' in caplog.text
    with pytest.raises(exception.TargetQuarantined):
        worker.calls.check('sda')
    worker.calls.check('sdb')
    assert worker.call(lambda: 'done', about='sdb') == 'done'
    # And so does the one after it
    worker.end_helper()
    third = Worker(tmp_path)
    third.start()
    assert third.stuck() == [('block.flush', 'sda')]
    # Until the helper has ended
    killed.end_helper()
    view.until(lambda: not third.stuck())
    third.calls.check('sda')
    assert third.call(lambda: 'done') == 'done'
    view.until(lambda: helpers(tmp_path) == 1)


def test_a_helper_that_ends_soon_is_waited_for(
    tmp_path: pathlib.Path, killed: Killed
) -> None:
    # Given a helper that ends while the next worker waits
    worker = Worker(tmp_path)
    starting = threading.Thread(target=worker.start, args=(PATIENCE,))
    starting.start()
    view.until(lambda: worker.stuck() != [])
    assert starting.is_alive()
    killed.end_helper()
    # Then nothing is stuck when it has started
    starting.join()
    assert worker.stuck() == []


def test_a_worker_that_was_stopped_leaves_nothing_to_wait_for(
    tmp_path: pathlib.Path,
) -> None:
    # Given a worker that has stopped, and whose helper has not ended yet
    earlier = Worker(tmp_path)
    earlier.start()
    earlier.call(lambda: None)
    earlier.stop()
    # When the next one starts, then it does not wait
    began = time.monotonic()
    Worker(tmp_path).start(PATIENCE)
    assert time.monotonic() - began < PATIENCE
    # And the one before begins nothing any more
    with pytest.raises(exception.HostToolFailed):
        earlier.call(lambda: pytest.fail('it was called'))


def test_a_worker_that_was_stopped_leaves_what_still_runs(
    tmp_path: pathlib.Path, killed: Killed
) -> None:
    killed.stop()
    following = Worker(tmp_path)
    following.start()
    assert following.stuck() == [('block.flush', 'sda')]


def test_several_helpers_are_told_from_each_other(
    tmp_path: pathlib.Path, killed: Killed
) -> None:
    other = Killed(tmp_path, 'sdb')
    worker = Worker(tmp_path)
    worker.start()
    assert sorted(worker.stuck()) == [
        ('block.flush', 'sda'),
        ('block.flush', 'sdb'),
    ]
    other.end_helper()
    view.until(lambda: worker.stuck() == [('block.flush', 'sda')])
    other.end()


@pytest.mark.parametrize('text', ['', '["block.flu', '1', '[]', 'null'])
def test_a_file_that_makes_no_sense_stops_no_worker(
    tmp_path: pathlib.Path, killed: Killed, text: str
) -> None:
    (directory,) = tmp_path.glob('helpers/*')
    (directory / 'torn').write_text(text)
    worker = Worker(tmp_path)
    worker.start()
    assert worker.stuck() == [('block.flush', 'sda')]


def test_a_worker_that_was_killed_before_it_had_a_helper_left_nothing(
    tmp_path: pathlib.Path,
) -> None:
    (tmp_path / 'helpers/without-a-lock').mkdir(parents=True)
    worker = Worker(tmp_path)
    worker.start()
    assert helpers(tmp_path) == 1


def test_a_place_that_cannot_be_used_is_told(tmp_path: pathlib.Path) -> None:
    (tmp_path / 'helpers').write_text('')
    with pytest.raises(exception.HostToolFailed, match='helpers'):
        Worker(tmp_path).start()
