# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Samples of notifications, from the code, for the documentation.

``python -m tools.samples`` writes them; a test sees that they are fresh.
"""

import json
import pathlib
from typing import Any

from attachworker import objects
from attachworker.tasks import attach
from attachworker.tasks import detach
from attachworker.tasks import extend
from attachworker.tasks import rotate

DIRECTORY = (
    pathlib.Path(__file__).resolve().parents[1]
    / 'doc/source/reference/notification_samples'
)

_HOST = 'compute-1'
_TARGET = '192.0.2.1:3260,iqn.2010-10.org.openstack:volume-1,1'
#: By operation: its result, a step that ends, one that fails, and with what.
_OPERATIONS = {
    'attach': (
        'attached',
        f'{attach.ConnectTarget.__name__}:{_TARGET}',
        attach.FindWwn.__name__,
        'identity_mismatch',
    ),
    'detach': (
        'detached',
        detach.FlushDevice.__name__,
        detach.CheckUnused.__name__,
        'in_use',
    ),
    'extend': (
        'extended',
        extend.RescanPaths.__name__,
        extend.VerifySize.__name__,
        'extend_failed',
    ),
    'rotate': (
        'rotated',
        rotate.AddKey.__name__,
        rotate.CheckKeys.__name__,
        'encryption_failed',
    ),
}


def samples() -> dict[str, dict[str, Any]]:
    """One notification of each event type, as a consumer sees it."""
    found = {}
    for operation, (status, step, failed, error) in _OPERATIONS.items():
        for event, values in (
            ('start', {'elapsed': 0.0}),
            ('step', {'elapsed': 0.2, 'step': step}),
            ('end', {'elapsed': 0.4, 'status': status}),
            (
                'error',
                {
                    'elapsed': 0.3,
                    'status': 'failed',
                    'step': failed,
                    'error': error,
                },
            ),
        ):
            payload = objects.NotificationPayload(
                request_id='6f70656e-7374-4163-8b21-000000000001',
                attachment_id='6f70656e-7374-4163-8b21-000000000002',
                host=_HOST,
                **values,
            )
            found[f'{operation}.{event}'] = {
                'event_type': f'{operation}.{event}',
                'payload': payload.as_dict(),
                'priority': 'INFO',
                'publisher_id': f'attachworker.{_HOST}',
            }
    return found


def texts() -> dict[str, str]:
    """What the files have, by name."""
    return {
        f'{name}.json': json.dumps(sample, indent=4) + '\n'
        for name, sample in samples().items()
    }


def main() -> None:
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    for name, text in texts().items():
        (DIRECTORY / name).write_text(text)


if __name__ == '__main__':
    main()
