# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""No secret is ever written to the journal."""

from collections.abc import Callable
import pathlib
from typing import Any

import pytest

from attachworker import objects
from attachworker.journal import Database
from attachworker.journal import Records
from attachworker.journal import without_secrets
from tests.unit.journal import rows
from tests.unit.objects import shapes


def request(info: dict[str, Any]) -> objects.AttachRequest:
    made = objects.AttachRequest(
        request_id='request',
        attachment_id='attachment',
        connection_info=info,
        encryption={'provider': 'luks2', 'key': shapes.CANARY},
    )
    made.validate()
    return made


def mutual() -> dict[str, Any]:
    return shapes.lio(
        auth_username_in='them',
        auth_password_in=shapes.CANARY,
        discovery_auth_method='CHAP',
        discovery_auth_username='d',
        discovery_auth_password=shapes.CANARY,
    )


@pytest.mark.parametrize(
    'shape', [*shapes.ALL, mutual], ids=lambda one: one.__name__
)
def test_the_canary_is_in_no_file(
    directory: pathlib.Path,
    database: Database,
    shape: Callable[[], dict[str, Any]],
) -> None:
    # Given a request with secrets
    given = request(shape())
    assert shapes.CANARY in str(given.obj_to_primitive())
    # When it and its attachment are written down
    records = Records(database)
    records.accept(rows.request(body=without_secrets(given)))
    records.put_attachment(
        rows.attachment(connection=without_secrets(given.connection_info))
    )
    # Then no byte of them is in any file, while it runs and after
    looked = [path.name for path in directory.iterdir()]
    assert 'journal.sqlite-wal' in looked
    for path in directory.iterdir():
        assert shapes.CANARY.encode() not in path.read_bytes(), path.name
    database.rows('PRAGMA wal_checkpoint(TRUNCATE)')
    for path in directory.iterdir():
        assert shapes.CANARY.encode() not in path.read_bytes(), path.name


def test_the_request_itself_keeps_them() -> None:
    given = request(mutual())
    before = given.obj_to_primitive()
    without_secrets(given)
    assert given.obj_to_primitive() == before


def test_the_rest_can_be_read_again() -> None:
    """Enough to find out what was asked for, and to undo it."""
    given = request(mutual())
    found = objects.AttachWorkerObject.obj_from_primitive(
        without_secrets(given)
    )
    assert isinstance(found, objects.AttachRequest)
    assert found.connection_info.targets == given.connection_info.targets
    assert found.connection_info.auth_username == 'u'
    assert found.connection_key == given.connection_key
    assert found.content_digest() == given.content_digest()
    for name in ('auth_password', 'auth_password_in'):
        assert getattr(found.connection_info, name, None) is None
