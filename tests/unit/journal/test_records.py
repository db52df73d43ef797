# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Requests with their one final result, and attachments."""

import concurrent.futures
import dataclasses
import pathlib

import pytest

from attachworker import exception
from attachworker import objects
from attachworker.journal import AttachmentState
from attachworker.journal import Database
from attachworker.journal import Reader
from attachworker.journal import Records
from attachworker.journal import reading
from attachworker.journal import records as journal_records
from tests.unit.journal import rows


@pytest.fixture
def records(database: Database) -> Records:
    return Records(database)


def ids(found: list[object]) -> list[str]:
    return [one.request_id for one in found]


# -- requests


def test_a_request_comes_back_as_it_was(records: Records) -> None:
    given = rows.request(receivers=(rows.REPLY_TO,))
    records.accept(given)
    assert records.request('request') == given
    assert records.request('another') is None


def test_a_request_outlives_the_worker(directory: pathlib.Path) -> None:
    given = rows.request()
    database = Database(directory)
    Records(database).accept(given)
    database.close()
    database = Database(directory)
    assert Records(database).unfinished() == [given]
    database.close()


def test_a_request_is_accepted_once(records: Records) -> None:
    records.accept(rows.request())
    with pytest.raises(exception.JournalUnavailable):
        records.accept(rows.request(digest='other'))
    assert records.request('request').digest == 'digest'


def test_unfinished_requests_oldest_first(records: Records) -> None:
    names = ['c', 'a', 'b']
    for name in names:
        records.accept(rows.request(name))
    assert ids(records.unfinished()) == names
    records.finish('a', {'is': 'done'}, None, None)
    assert ids(records.unfinished()) == ['c', 'b']


def test_there_is_one_final_result(records: Records) -> None:
    # Given a request with a result
    records.accept(rows.request())
    first = {'is': 'the first'}
    assert records.finish('request', first, None, None) is True
    # When somebody comes with another one, and what it would mean
    records.put_attachment(rows.attachment('kept'))
    assert (
        records.finish(
            'request', {'is': 'another'}, rows.attachment('new'), 'kept'
        )
        is False
    )
    # Then nothing changes
    assert records.request('request').result == first
    assert records.attachment('new') is None
    assert records.attachment('kept') is not None


def test_of_many_at_once_one_result_is_final(records: Records) -> None:
    records.accept(rows.request())
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        won = list(
            threads.map(
                lambda n: records.finish('request', {'n': n}, None, None),
                range(8),
            )
        )
    assert won.count(True) == 1
    assert records.request('request').result == {'n': won.index(True)}


def test_no_result_for_a_request_that_was_not_accepted(
    records: Records,
) -> None:
    found = rows.attachment()
    assert records.finish('request', {}, found, None) is False
    assert records.request('request') is None
    assert records.attachments() == []


def test_result_and_attachment_change_together(records: Records) -> None:
    records.accept(rows.request())
    found = rows.attachment(device={'path': '/dev/sda'}, again={'is': 'again'})
    records.finish('request', {'is': 'done'}, found, None)
    assert records.attachment('attachment').device == {'path': '/dev/sda'}
    assert records.attachment('attachment').again == {'is': 'again'}
    records.accept(rows.request('detach'))
    records.finish('detach', {'is': 'done'}, None, 'attachment')
    assert records.attachment('attachment') is None


def test_an_attachment_that_cannot_be_written_takes_the_result_with_it(
    records: Records,
) -> None:
    records.accept(rows.request())
    broken = dataclasses.replace(rows.attachment(), connection_key=None)
    with pytest.raises(exception.JournalUnavailable):
        records.finish('request', {'is': 'done'}, broken, None)
    assert ids(records.unfinished()) == ['request']


# -- delivery


def test_results_that_somebody_waits_for(records: Records) -> None:
    # Given a cast and a call, finished, and a cast that is not
    records.accept(rows.request('cast', receivers=(rows.REPLY_TO,)))
    records.accept(rows.request('call'))
    records.accept(rows.request('running', receivers=(rows.REPLY_TO,)))
    for name in ('cast', 'call'):
        records.finish(name, {'of': name}, None, None)
    # Then one result has to be sent
    (found,) = records.undelivered()
    assert found.request_id == 'cast'
    assert found.result == {'of': 'cast'}
    assert found.receivers == (rows.REPLY_TO,)
    # until it has been
    records.settle('cast', rows.REPLY_TO)
    assert records.undelivered() == []
    assert records.request('cast').result == {'of': 'cast'}


def test_each_receiver_is_owed_the_result_by_itself(
    records: Records,
) -> None:
    # Given a cast that was sent again from elsewhere
    other = {**rows.REPLY_TO, 'server': 'other'}
    records.accept(rows.request(receivers=(rows.REPLY_TO,)))
    records.owe('request', other)
    records.owe('request', other)
    assert records.owed() == 0
    records.finish('request', {'is': 'done'}, None, None)
    assert records.owed() == 2
    # When one of them has the result, whatever the order of its keys
    records.settle('request', dict(reversed(rows.REPLY_TO.items())))
    # Then the other one is owed it still
    (found,) = records.undelivered()
    assert found.receivers == (other,)
    assert records.owed() == 1
    # And it can be wanted again
    records.settle('request', other)
    assert records.undelivered() == []
    records.owe('request', rows.REPLY_TO)
    assert ids(records.undelivered()) == ['request']


# -- retention


def test_old_results_are_forgotten_and_nothing_else(
    records: Records,
) -> None:
    # Given a result and a request that has none yet
    records.accept(rows.request('done'))
    records.accept(rows.request('running', attachment_id='other'))
    records.accept(rows.request('owed', receivers=(rows.REPLY_TO,)))
    records.finish('done', {}, rows.attachment(), None)
    records.finish('owed', {}, None, None)
    # When the result is young, then it stays
    assert records.forget_results(60.0, 'boot', 10.0) == 0
    assert records.request('done') is not None
    # When it is old, then it goes, and the rest stays
    assert records.forget_results(-1.0, 'boot', 20.0) == 1
    assert records.request('done') is None
    assert ids(records.unfinished()) == ['running']
    assert records.attachment('attachment') is not None
    # And what is owed goes once it was delivered
    assert ids(records.undelivered()) == ['owed']
    records.settle('owed', rows.REPLY_TO)
    assert records.forget_results(-1.0, 'boot', 20.0) == 1


def test_of_too_many_results_those_go_that_nobody_misses(
    records: Records,
) -> None:
    def finish(name: str, timings: dict[str, float], **more: object) -> None:
        records.accept(rows.request(name, **more))
        result = objects.OperationResult(
            request_id=name,
            operation='detach',
            status='detached',
            warnings=['"timings": {}'],
            timings=timings,
        )
        records.finish(name, result.obj_to_primitive(), None, None)

    # Given results of which most are of detaches of what was not there
    finish('oldest', {'FlushDevice': 0.1})
    finish('owed', {}, receivers=(rows.REPLY_TO,))
    for number in range(10):
        finish(f'nothing-{number}', {})
    finish('last', {'FlushDevice': 0.1})
    # When fewer are to be kept, then the oldest of these go
    assert records.forget_results(60.0, 'boot', 10.0, most=5) == 8
    for name in ('oldest', 'owed', 'nothing-8', 'nothing-9', 'last'):
        assert records.request(name) is not None
    # And then the oldest of the others, but never one that is owed
    assert records.forget_results(60.0, 'boot', 10.0, most=2) == 3
    assert records.forget_results(60.0, 'boot', 10.0, most=0) == 1
    assert ids(records.undelivered()) == ['owed']


def test_results_do_not_pile_up_for_one_receiver(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_records, 'MOST_OWED_TO_ONE', 2)
    monkeypatch.setattr(journal_records, 'MOST_OWED', 3)
    other = rows.REPLY_TO | {'server': 'other'}
    for name in ('first', 'second'):
        assert records.may_owe(name, rows.REPLY_TO, accepted=False)
        records.accept(rows.request(name, receivers=(rows.REPLY_TO,)))
    # When one has as many as it may have, then another one may have some
    assert not records.may_owe('third', rows.REPLY_TO, accepted=False)
    assert records.may_owe('third', other, accepted=False)
    # And what was accepted is owed to others, too
    assert records.may_owe('first', rows.REPLY_TO, accepted=True)
    assert records.may_owe('first', other, accepted=True)
    # Nor may all together have more than there is room for
    records.accept(rows.request('third', receivers=(other,)))
    assert not records.may_owe('fourth', other, accepted=False)
    # And a receipt makes room
    records.settle('first', rows.REPLY_TO)
    assert records.may_owe('fourth', rows.REPLY_TO, accepted=False)


def test_receivers_do_not_pile_up_for_one_result(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_records, 'MOST_RECEIVERS', 2)
    records.accept(rows.request('first', receivers=(rows.REPLY_TO,)))
    others = [rows.REPLY_TO | {'server': name} for name in ('b', 'c')]
    assert records.may_owe('first', others[0], accepted=True)
    records.owe('first', others[0])
    assert not records.may_owe('first', others[1], accepted=True)
    assert records.may_owe('first', others[0], accepted=True)


def test_results_that_an_earlier_request_is_judged_by_are_kept(
    records: Records,
) -> None:
    # Given a request without a result, and a later one of its attachment
    records.accept(rows.request('attach'))
    for name, attachment in (('detach', 'attachment'), ('old', 'other')):
        records.accept(rows.request(name, attachment_id=attachment))
        records.finish(name, {'timings': {}}, None, None)
    # When results go, by age and by number
    assert records.forget_results(-1.0, 'boot', 10.0) == 1
    assert records.forget_results(60.0, 'boot', 20.0, most=0) == 0
    # Then the next start knows that it has been overtaken
    (unfinished,) = records.unfinished()
    assert ids(records.ended_after(unfinished)) == ['detach']
    # And once it has its own, both go
    records.finish('attach', {}, None, None)
    assert records.forget_results(60.0, 'boot', 20.0, most=0) == 2


def test_results_are_kept_by_seconds_that_were_counted(
    records: Records,
) -> None:
    # Given results of this boot, of which the clock may say whatever it wants
    def finish(name: str) -> None:
        records.accept(rows.request(name))
        records.finish(name, {}, None, None)

    finish('first')
    assert records.forget_results(100.0, 'boot', 1000.0) == 0
    # When half of the time has passed
    assert records.forget_results(100.0, 'boot', 1060.0) == 0
    finish('second')
    # And the host was started again, for however long it was off
    assert records.forget_results(100.0, 'next', 5.0) == 0
    assert records.forget_results(100.0, 'next', 60.0) == 0
    # Then the one goes when its time is over, and the other stays
    assert records.forget_results(100.0, 'next', 61.0) == 1
    assert records.request('first') is None
    assert records.request('second') is not None
    # And a clock that has gone back counts for nothing
    assert records.forget_results(100.0, 'next', 1.0) == 0
    assert records.forget_results(100.0, 'next', 2.0) == 0
    assert records.request('second') is not None


# -- attachments


def test_an_attachment_comes_back_as_it_was(records: Records) -> None:
    given = rows.attachment(wwn='36001', device={'path': '/dev/sda'})
    records.put_attachment(given)
    found = records.attachment('attachment')
    assert found == dataclasses.replace(
        given, created_at=found.created_at, updated_at=found.updated_at
    )
    assert found.created_at
    assert records.attachment('another') is None


def test_a_change_keeps_when_it_was_made(records: Records) -> None:
    records.put_attachment(rows.attachment())
    first = records.attachment('attachment')
    for changed in (
        rows.attachment(
            state=AttachmentState.ATTACH_FAILED, boot_id='another', wwn='36001'
        ),
        rows.attachment(volume_id=None, connection={}),
    ):
        records.put_attachment(changed)
        found = records.attachment('attachment')
        assert found.created_at == first.created_at
        assert found.updated_at > first.updated_at
        assert found == dataclasses.replace(
            changed, created_at=found.created_at, updated_at=found.updated_at
        )


def test_attachments_oldest_first(records: Records) -> None:
    for name in ('c', 'a', 'b', 'c'):
        records.put_attachment(rows.attachment(name))
    found = [one.attachment_id for one in records.attachments()]
    assert found == ['c', 'a', 'b']


# -- cancelled


def test_a_cancelled_attach_can_only_end_as_cancelled(
    records: Records,
) -> None:
    # Given an attach that is cancelled while it runs
    records.accept(rows.request())
    assert records.cancel('request') is True
    assert records.request('request').cancelled is True
    # When it succeeds, or fails of something else
    for result in ({'is': 'a success'}, {'is': 'a failure'}):
        found = rows.attachment('new')
        assert records.finish('request', result, found, None) is False
    # Then that is not its result, and means nothing
    assert records.request('request').result is None
    assert records.attachment('new') is None
    # And the one that it can have is final
    assert records.finish('request', {'is': 'it'}, None, None, cancelled=True)
    assert records.request('request').result == {'is': 'it'}


def test_only_an_undecided_attach_can_be_cancelled(records: Records) -> None:
    records.accept(rows.request('done'))
    assert records.finish('done', {'is': 'done'}, None, None)
    records.accept(rows.request('detach', operation='detach'))
    for name in ('done', 'detach', 'unknown'):
        assert records.cancel(name) is False
    assert records.finish('detach', {'is': 'done'}, None, None)


def test_nobody_is_told_cancelled_without_having_cancelled(
    records: Records,
) -> None:
    records.accept(rows.request())
    assert not records.finish('request', {}, None, None, cancelled=True)


def test_a_rotation_is_known_to_be_about_to_add_its_key(
    database: Database, records: Records
) -> None:
    records.accept(rows.request(operation='rotate'))
    assert records.request('request').adds_key is False
    records.intend_key('request')
    # Also by who reads it without a worker
    for read in (records, Records(Reader(database.path.parent))):
        assert read.request('request').adds_key is True
    assert records.unfinished()[0].adds_key is True


def test_a_mark_that_makes_no_sense_is_one(records: Records) -> None:
    records.accept(rows.request(cancelled=-1))
    assert records.request('request').cancelled is True
    assert records.finish('request', {}, None, None, cancelled=True)


def test_a_result_needs_no_clock(database: Database, records: Records) -> None:
    database.write('DELETE FROM clock')
    records.accept(rows.request())
    assert records.finish('request', {'is': 'done'}, None, None)


def test_result_and_cancel_at_once(records: Records) -> None:
    """Exactly one of them wins."""
    for n in range(20):
        name = f'request {n}'
        records.accept(rows.request(name))
        with concurrent.futures.ThreadPoolExecutor(2) as threads:
            won = [
                threads.submit(records.cancel, name),
                threads.submit(records.finish, name, {}, None, None),
            ]
        assert sum(one.result() for one in won) == 1


def test_what_could_not_be_read_is_not_illegible() -> None:
    """A detach that an earlier worker began would be given up for good."""
    passing = exception.JournalUnavailable(path='journal', reason='EIO')
    with pytest.raises(exception.JournalUnavailable), reading.legible('a'):
        raise passing
