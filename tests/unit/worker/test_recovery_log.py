# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What the log says of a recovery."""

import logging
import pathlib
from typing import Any

import pytest

from attachworker import objects
from attachworker.journal import Database
from attachworker.journal import Records
from attachworker.worker import recovery
from tests.unit.journal import rows


def test_each_result_that_is_sent_again_is_told(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Given two results that nobody has confirmed
    caplog.set_level(logging.INFO)
    records = Records(Database(tmp_path))
    for name in ('one', 'two'):
        records.accept(rows.request(name, receivers=(rows.REPLY_TO,)))
        result = objects.OperationResult(
            request_id=name,
            attachment_id=f'of-{name}',
            operation='attach',
            status='attached',
        )
        records.finish(name, result.obj_to_primitive(), None, None)
    sent: list[str] = []

    def deliver(request_id: str, *_: Any) -> None:
        sent.append(request_id)

    # When the next worker starts
    nothing: Any = None  # is to be resumed, or to be cleaned up
    recovery.run(records, nothing, nothing, deliver, 'boot', False)
    # Then they are sent again, a line each, and one with the numbers
    assert sent == ['one', 'two']
    lines = [
        one.getMessage()
        for one in caplog.records
        if one.name == 'attachworker.worker.recovery'
    ]
    assert lines == [
        'Result of the attach of of-one (request one) is sent again: attached',
        'Result of the attach of of-two (request two) is sent again: attached',
        'Recovery: 0 requests unfinished, 2 results to be sent, '
        '0 attachments missing, of which 0 are attached again',
    ]
