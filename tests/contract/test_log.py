# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What a request of Nova has caused is found by one search in the log."""

import logging
from typing import Any

from oslo_context import context as oslo_context
import pytest

from tests import harness
from tests.contract import bed as beds

NOVAS = {
    'request_id': 'req-6f70656e-7374-4163-8b21-000000000001',
    'global_request_id': 'req-6f70656e-7374-4163-8b21-000000000002',
    'auth_token': 'CANARY-token',
}


class Lines(logging.Handler):
    """Whose request each line is of that the package logs."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.found: list[tuple[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        context = oslo_context.get_current()
        ids = context and (context.request_id, context.global_request_id)
        self.found.append((record.getMessage(), ids))


def test_each_line_of_an_operation_has_the_request_of_its_caller(
    bed: beds.Bed,
    worker: harness.Harness,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Given a volume that two threads connect, one of them in vain
    volume = bed.create_volume(portals=2)
    bed.stop_portal(volume.portals[1])
    lines = Lines()
    package = logging.getLogger('attachworker')
    caplog.set_level(logging.DEBUG, 'attachworker')
    package.addHandler(lines)
    try:
        # When it is attached for one request, and detached for nobody's
        result = worker.api.attach_volume(
            NOVAS, worker.name, harness.attach_request(volume, 'of-nova')
        )
        assert result.status == 'attached', result.as_dict()
        [attached, detached] = [lines.found, []]
        lines.found = detached
        assert worker.detach('of-nova').status == 'detached'
    finally:
        package.removeHandler(lines)
        bed.start_portal(volume.portals[1])
    # Then all lines about it have that request, in whatever thread
    theirs = (NOVAS['request_id'], NOVAS['global_request_id'])
    about = [ids for text, ids in attached if 'of-nova' in text]
    assert len(about) > 10
    assert set(about) == {theirs}
    assert any('ConnectTarget:' in text for text, _ in attached)
    # And those of the other operation do not
    about = [ids for text, ids in detached if 'of-nova' in text]
    assert len(about) > 2
    assert theirs not in about
    assert 'CANARY' not in caplog.text
