# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The states of an attachment, and which may follow which."""

import itertools
import pathlib

import pytest

from attachworker import exception
from attachworker import objects
from attachworker.journal import AttachmentState
from attachworker.journal import Database
from attachworker.journal import Holdings
from attachworker.journal import Records
from attachworker.journal import attachments
from attachworker.objects import fields
from tests.unit.journal import rows

TARGET = objects.Target('192.0.2.1:3260', 'iqn.2026-01.example:one', 1)
ALL = (None, *AttachmentState)


@pytest.fixture
def records(database: Database) -> Records:
    return Records(database)


def bring(records: Records, state: AttachmentState | None) -> None:
    if state is not None:
        rows.put(records, rows.attachment(state=state))


def change(records: Records, state: AttachmentState | None) -> None:
    if state is None:
        records.forget_attachment('attachment')
    else:
        records.put_attachment(rows.attachment(state=state))


def state_of(records: Records, name: str = 'attachment') -> str | None:
    found = records.attachment(name)
    return found and found.state


def test_the_table_has_every_state_and_no_dead_end() -> None:
    assert attachments.CHANGES.keys() == set(ALL)
    for state in AttachmentState:
        # Each can come about, and each attachment can be gone at last.
        assert rows.way_to(state)
        seen = [state]
        for one in seen:  # grows
            seen += [
                after
                for after in attachments.CHANGES[one]
                if after not in seen
            ]
        assert None in seen, state


@pytest.mark.parametrize(
    ('before', 'after'),
    [pair for pair in itertools.product(ALL, ALL) if pair != (None, None)],
)
def test_each_write_is_checked(
    records: Records,
    before: AttachmentState | None,
    after: AttachmentState | None,
) -> None:
    bring(records, before)
    if after is before or after in attachments.CHANGES[before]:
        change(records, after)
        assert state_of(records) == after
        return
    with pytest.raises(exception.IllegalStateChange, match='attachment'):
        change(records, after)
    assert state_of(records) == before


def test_a_result_with_an_illegal_state_is_not_written(
    records: Records,
) -> None:
    records.accept(rows.request())
    bring(records, AttachmentState.ATTACHED)
    with pytest.raises(exception.IllegalStateChange):
        records.finish('request', {}, None, 'attachment')
    assert records.request('request').result is None
    assert state_of(records) == 'attached'


def test_callers_are_told_states_that_they_know() -> None:
    for state in AttachmentState:
        assert state.shown in fields.ATTACHMENT_STATES


def test_the_methods_of_a_state_keep_the_table() -> None:
    for state in AttachmentState:
        after = [state.when_detach_failed(), state.when_left_over()]
        if (
            not state.may_have_device
            and state is not AttachmentState.DETACHING
        ):
            after.append(state.when_being_made())
        if not state.is_being_made:
            after.append(state.when_taken_down())
        if state.is_being_made or state.is_left_over:
            after.append(state.when_given_up())
        for one in after:
            attachments.check_change('attachment', state, one)


def test_what_is_missing_is_missing_again_when_its_attach_is_undone() -> None:
    missing = rows.attachment(
        state=AttachmentState.MISSING,
        wwn='36001',
        device={'path': '/dev/sda'},
        again={'is': 'again'},
    )
    record = rows.attachment().in_place_of(missing)
    assert record == missing.with_state(AttachmentState.REATTACHING)
    assert record.state.when_given_up() is AttachmentState.MISSING


def test_what_is_being_detached_is_not_attached_again_by_itself() -> None:
    record = rows.attachment(
        state=AttachmentState.ATTACHED, again={'is': 'again'}
    ).being_taken_down()
    assert (record.state, record.again) == (AttachmentState.DETACHING, None)


def test_the_last_request_is_the_one_that_ended_last(
    records: Records,
) -> None:
    # Given an attachment
    records.accept(rows.request('attach'))
    attached = rows.attachment(last_request='attach')
    records.put_attachment(attached)
    attached = attached.with_state(AttachmentState.ATTACHED)
    records.finish('attach', {'is': 'attached'}, attached, None)
    # When a detach fails that changes nothing, then it is the last
    records.accept(rows.request('detach', operation='detach'))
    assert records.attachment('attachment').last_request == 'attach'
    records.finish('detach', {'is': 'failed'}, None, None)
    assert records.attachment('attachment').last_request == 'detach'
    # And what ends of another attachment is not
    records.accept(rows.request('other', attachment_id='other'))
    records.finish('other', {'is': 'attached'}, None, None)
    assert records.attachment('attachment').last_request == 'detach'


@pytest.mark.parametrize('state', list(AttachmentState))
def test_a_reboot(
    database: Database, records: Records, state: AttachmentState
) -> None:
    # Given an attachment of an earlier boot, and one of this boot
    rows.put(records, rows.attachment('old', state=state, boot_id='before'))
    rows.put(records, rows.attachment('new', state=state))
    for name, boot_id in (('old', 'before'), ('new', 'boot')):
        Holdings(database, name, boot_id).take(TARGET)
    holdings = Holdings(database, 'old', 'before')
    holdings.intend_link(TARGET, 2)
    # When this boot begins
    for _ in range(2):
        records.begin_boot('boot')
        # Then what the caller had is missing, and nothing of it is ours
        wanted = (
            state
            if state.is_being_made or state.is_left_over
            else AttachmentState.MISSING
        )
        assert state_of(records, 'old') == wanted
        assert records.attachment('old').boot_id == 'boot'
        assert holdings.paths(objects.Target) == []
        assert not holdings.owns_link(TARGET, 3)
        # And nothing has happened to the other one
        assert state_of(records, 'new') == state
        assert Holdings(database, 'new', 'boot').paths(objects.Target) == [
            TARGET
        ]


@pytest.mark.parametrize(
    ('columns', 'state'),
    [
        ({'state': 'attached', 'device': '{}'}, 'attached'),
        ({'state': 'degraded', 'device': '{}'}, 'degraded'),
        ({'state': 'attached', 'wwn': 'w', 'boot_id': ''}, 'missing'),
        ({'state': 'attaching'}, 'attaching'),
        ({'state': 'attaching', 'wwn': 'w'}, 'reattaching'),
        ({'state': 'failed'}, 'attach_failed'),
        ({'state': 'failed', 'wwn': 'w'}, 'reattach_failed'),
        ({'state': 'failed', 'wwn': 'w', 'device': '{}'}, 'detach_failed'),
        ({'state': 'detaching', 'wwn': 'w', 'device': '{}'}, 'detaching'),
        ({'state': 'detaching'}, 'attach_failed'),
    ],
)
def test_states_of_version_4(
    directory: pathlib.Path, columns: dict[str, str], state: str
) -> None:
    """They were read from several fields."""
    old = rows.old_journal(directory, 4)
    given = {
        'attachment_id': 'attachment',
        'connection_key': 'key',
        'connection': '{}',
        'last_request': 'request',
        'boot_id': 'boot',
        'again': '{}',
        'created_at': '',
        'updated_at': '',
        **columns,
    }
    names = ', '.join(given)
    values = ', '.join(f':{name}' for name in given)
    old.execute(f'INSERT INTO attachments ({names}) VALUES ({values})', given)
    old.commit()
    old.close()
    # When this version opens it, then the state says it
    database = Database(directory)
    assert state_of(Records(database)) == state
    # And what is being detached is not attached again
    again = Records(database).attachment('attachment').again
    assert (again is None) == (columns['state'] in ('detaching', 'failed'))
    database.close()
