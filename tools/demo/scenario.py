# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""What the demo does, on any bed."""

import json
import logging
import os
import pathlib
import sys
import tempfile
import textwrap
import time
from typing import Any

from attachworker.cmd import attachctl
from tests import harness
from tests.contract import bed as beds
from tests.simulator import faults
from tests.simulator import faulty

_DATA = b'written through the attached device\n'.ljust(4096, b'.')
_SETTLE = 20.0  # seconds
_WIDTH = 75  # columns; with these, README.rst can show it as it is


class _Checks:
    """Prints what was found and remembers whether all of it was good."""

    def __init__(self) -> None:
        self.good = True

    def check(self, what: str, good: bool) -> None:
        self.good = self.good and good
        mark = f'    [{"ok" if good else "FAILED"}] '
        print(
            textwrap.fill(
                what,
                width=_WIDTH,
                initial_indent=mark,
                subsequent_indent=' ' * len(mark),
            ),
            flush=True,
        )


class _Demo:
    def __init__(self, bed: beds.Bed, directory: pathlib.Path) -> None:
        self._bed = bed
        self._directory = directory
        self._plan = faults.FaultPlan()
        self._checks = _Checks()
        self._number = 0

    def run(self, name: str) -> bool:
        self._say(f'A volume on {name}, behind two portals')
        volume = self._bed.create_volume(portals=2)
        print(f'    {volume.target}')
        print(f'    {", ".join(volume.portals)}, LUN {volume.lun}')
        before = self._bed.snapshot()
        verbs = faulty.FaultyVerbs(self._bed.verbs, self._plan)
        host = self._bed.host(verbs)
        with harness.Harness(self._bed, host=host) as worker:
            self._attach(worker, volume)
            attached = self._bed.snapshot()
            self._fail(worker, attached)
            self._say('Detach')
            code = self._ctl(worker, 'detach', 'first')
            self._checks.check('attachctl ended with 0', code == 0)
            self._nothing_left(before, 'nothing is left of the volume')
        return self._checks.good

    def _attach(self, worker: harness.Harness, volume: beds.Volume) -> None:
        self._say('Attach: both portals at once, the first one wins')
        code = self._ctl(
            worker,
            'attach',
            self._file(volume),
            '--attachment-id',
            'first',
        )
        self._checks.check('attachctl ended with 0', code == 0)
        found = worker.api.get_attachment({}, worker.name, 'first')
        device = found.device
        self._checks.check(
            f'{device.path} has {device.size} bytes and the WWN of the '
            f'volume, {device.scsi_wwn}',
            (device.size, device.scsi_wwn) == (volume.size, f'3{volume.wwn}'),
        )
        self._checks.check(
            'it holds what is on the volume',
            self._bed.read(device.path) == volume.pattern,
        )
        self._bed.write(device.path, _DATA, offset=8192)
        self._checks.check(
            'what is written to it can be read back',
            self._bed.read(device.path, len(_DATA), 8192) == _DATA,
        )
        self._settled(sessions=1)

    def _fail(self, worker: harness.Harness, before: dict[str, Any]) -> None:
        self._say('Another attach; its last step is made to fail')
        other = self._bed.create_volume()
        self._plan.arm(faults.Fault.FAIL_BEFORE, 'block.check_readable')
        logging.getLogger('attachworker.tasks').setLevel(logging.INFO)
        code = self._ctl(
            worker, 'attach', self._file(other), '--attachment-id', 'second'
        )
        logging.getLogger('attachworker.tasks').setLevel(logging.WARNING)
        self._checks.check('attachctl ended with 1', code == 1)
        self._nothing_left(before, 'nothing is left of the failed attach')

    def _nothing_left(self, before: dict[str, Any], what: str) -> None:
        now = self._bed.snapshot()
        self._checks.check(
            f'{what}: sessions, records, devices, links and files are as '
            'before',
            now == before,
        )
        for key in before:
            if now[key] != before[key]:
                print(f'        {key}: {before[key]} -> {now[key]}')

    def _settled(self, sessions: int) -> None:
        """Wait until the portal that was slower is let go."""
        until = time.monotonic() + _SETTLE
        while time.monotonic() < until:
            now = self._bed.snapshot()
            if len(now['sessions']) == sessions and not now['children']:
                break
            time.sleep(0.05)
        self._checks.check(
            'the other portal was let go', len(now['sessions']) == sessions
        )

    def _file(self, volume: beds.Volume) -> str:
        path = self._directory / f'volume-{self._number}.json'
        path.write_text(json.dumps(volume.connection_info(), indent=2))
        return str(path)

    def _ctl(self, worker: harness.Harness, *arguments: str) -> int:
        shown = [os.path.basename(argument) for argument in arguments]
        print(f'    $ attachctl {" ".join(shown)}', flush=True)
        return attachctl.main(
            ['--transport-url', harness.BUS, '--host', worker.name]
            + list(arguments)
        )

    def _say(self, text: str) -> None:
        self._number += 1
        print(f'\n{self._number}. {text}', flush=True)


def run(bed: beds.Bed, name: str) -> int:
    """Run the demo; 0 only if everything was as it should be."""
    # Among what is printed, in its order
    logging.basicConfig(format='    worker: %(message)s', stream=sys.stdout)
    for noisy in ('oslo', 'oslo.messaging', 'kombu', 'stevedore'):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    try:
        with tempfile.TemporaryDirectory(prefix='demo-') as directory:
            good = _Demo(bed, pathlib.Path(directory)).run(name)
    finally:
        bed.close()
    print(
        '\nAll of it was as it should be.'
        if good
        else '\nSomething was not as it should be: see FAILED above.'
    )
    return 0 if good else 1
