# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The first guest: requests of every kind in flight, and then no power.

Runs inside. The last line of it is never reached.
"""

import json
import os
import threading
from typing import Any

from attachworker import objects
from attachworker.tasks.run import Run
from tests import harness
from tests.contract import bed as beds
from tests.kernel.bed import KernelBed
from tests.power import READY
from tests.power import scene


class Stopping(Run):
    """Stands still for ever where the story of its attachment says so."""

    armed = False
    stopped: set[str]

    def before(self, name: str) -> None:
        self._stand_still('before', name)
        super().before(name)

    def after(self, name: str) -> None:
        self._stand_still('after', name)
        super().after(name)

    def _stand_still(self, moment: str, name: str) -> None:
        story = scene.STORIES[self.name]
        place = moment, name.partition(':')[0]
        if self.armed and place == (story.moment, story.step):
            self.stopped.add(self.name)
            threading.Event().wait()


def send(worker: harness.Harness, name: str, volume: beds.Volume) -> None:
    """Cast the request that will be in flight."""
    story = scene.STORIES[name]
    common = {'request_id': f'in-flight-{name}', 'reply_to': scene.REPLY_TO}
    if story.kind == 'attach':
        worker.api.cast_attach_volume(
            {},
            worker.name,
            attach_request(name, volume, **common),
        )
    elif story.kind == 'detach':
        worker.api.cast_detach_volume(
            {}, worker.name, harness.detach_request(name, **common)
        )
    elif story.kind == 'extend':
        request = objects.ExtendRequest(attachment_id=name, **common)
        worker.api.cast_extend_volume({}, worker.name, request)


def attach_request(
    name: str, volume: beds.Volume, **values: Any
) -> objects.AttachRequest:
    story = scene.STORIES[name]
    return harness.attach_request(
        volume,
        name,
        multipath=story.multipath,
        deadline_seconds=story.seconds,
        **values,
    )


def attach(
    worker: harness.Harness, name: str, volume: beds.Volume
) -> objects.OperationResult:
    request = attach_request(name, volume, request_id=f'attach-{name}')
    found = worker.api.attach_volume({}, worker.name, request)
    assert found.status == 'attached', found.as_dict()
    return found


def main() -> None:
    scene.mount_disk()
    bed = KernelBed()
    volumes = scene.create_volumes(bed)
    Stopping.stopped = set()
    with scene.worker(bed, run_class=Stopping) as worker:
        for name, story in scene.STORIES.items():
            if story.kind != 'attach' and name not in ('unsent', 'told'):
                attach(worker, name, volumes[name])
        worker.api.cast_attach_volume(
            {},
            worker.name,
            attach_request(
                'unsent',
                volumes['unsent'],
                request_id='unsent',
                reply_to=scene.REPLY_TO,
            ),
        )
        scene.until(lambda: 'unsent attached' in worker.attachments())
        Stopping.armed = True
        for name, volume in volumes.items():
            send(worker, name, volume)
        flying = {n for n, story in scene.STORIES.items() if story.kind}
        scene.until(lambda: Stopping.stopped == flying)
        scene.keep_wwids()
        # Nothing synchronizes the disk after this but what the worker does.
        told = attach(worker, 'told', volumes['told'])
        (scene.STATE / scene.UNSYNCED).write_text('lost')
        tell(json.dumps(told.as_dict()))
        threading.Event().wait()


def tell(text: str) -> None:
    """Have it on the host that the power may be cut."""
    draft = scene.SHARED / 'draft'
    with open(draft, 'w') as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    draft.rename(scene.SHARED / READY)


if __name__ == '__main__':
    main()
