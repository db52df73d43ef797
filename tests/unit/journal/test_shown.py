# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What is shown of attachments, from the journal."""

from typing import Any

import pytest

from attachworker import exception
from attachworker import objects
from attachworker.journal import AttachmentState
from attachworker.journal import Database
from attachworker.journal import Records
from tests.unit.journal import rows

DEVICE = objects.DeviceInfo(
    path='/dev/sda',
    size=512,
    paths=[
        objects.PathInfo(
            device='sda',
            portal='192.0.2.1:3260',
            target='iqn.2026-01.example:one',
            lun=1,
            state='connected',
        )
    ],
)


@pytest.fixture
def records(database: Database) -> Records:
    return Records(database)


def attach(records: Records, name: str, **values: Any) -> None:
    """An attachment with the result of its attach."""
    result = objects.OperationResult(
        request_id=f'request-{name}',
        attachment_id=name,
        operation='attach',
        status='attached',
        device=DEVICE,
        timings={'FindWwn': 0.5},
    )
    records.accept(rows.request(result.request_id, attachment_id=name))
    rows.put(
        records,
        rows.attachment(
            name,
            last_request=result.request_id,
            state=AttachmentState.ATTACHED,
            device=DEVICE.obj_to_primitive(),
            **values,
        ),
    )
    records.finish(result.request_id, result.obj_to_primitive(), None, None)


def alone(records: Records, name: str) -> objects.Attachment:
    found = records.shown_one(name)
    return objects.Attachment.obj_from_primitive(found)


def listed(records: Records) -> list[objects.Attachment]:
    return [
        objects.Attachment.obj_from_primitive(one) for one in records.shown()
    ]


def test_the_list_shows_each_attachment_as_it_is_shown_alone(
    records: Records,
) -> None:
    attach(records, 'first', volume_id=None)
    attach(records, 'second')
    records.put_attachment(rows.attachment('third', last_request='none'))
    found = listed(records)
    names = ['first', 'second', 'third']
    assert [one.attachment_id for one in found] == names
    assert found == [alone(records, name) for name in names]
    assert [one.last_result is None for one in found] == [False, False, True]


def test_the_list_is_one_query(database: Database) -> None:
    records = Records(database)
    for name in ('first', 'second', 'third'):
        attach(records, name)
    queries = []

    class Journal:
        path = database.path

        def rows(self, query: str, *values: object) -> list[Any]:
            queries.append(query)
            return database.rows(query, *values)

    journal: Any = Journal()
    assert len(listed(Records(journal))) == 3
    assert len(queries) == 1


def test_one_that_makes_no_sense_is_not_listed_and_its_neighbours_are(
    records: Records, database: Database
) -> None:
    # Given three, of which one cannot be read, nor the result of another
    for name in ('first', 'second', 'third'):
        attach(records, name)
    wrong = DEVICE.obj_to_primitive()
    wrong['versioned_object.data']['size'] = 'much'
    records.put_attachment(
        rows.attachment('second', state=AttachmentState.DEGRADED, device=wrong)
    )
    with database.transaction() as connection:
        connection.execute(
            "UPDATE requests SET result = '{}' WHERE attachment_id = 'third'"
        )
    # Then two are listed, as they are shown alone
    found = listed(records)
    assert found == [alone(records, name) for name in ('first', 'third')]
    assert [one.last_result is None for one in found] == [False, True]
    # And it is told of the other one
    assert list(records.contents().unreadable) == ['second']
    with pytest.raises(exception.RecordUnreadable, match='second'):
        records.shown_one('second')
