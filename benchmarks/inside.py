# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Measures inside the lab; :mod:`benchmarks.__main__` boots it."""

import argparse
from collections.abc import Iterator
import contextlib
import json
import pathlib
import subprocess
import sys
import time
from typing import Any

# Before anything else: the import chooses the threading backend.
from attachworker import threading_backend  # noqa: F401
from benchmarks import contestants
from benchmarks import floor
from tests import harness
from tests.contract import bed as beds
from tests.kernel import bed as kernel
from tests.kernel import picture
from tests.peer import process

_SETTLE = 30.0  # seconds


class _Race:
    """Each contestant in turn connects and disconnects the same volume."""

    def __init__(
        self,
        bed: kernel.KernelBed,
        runners: list[contestants.Contestant],
        case: contestants.Case,
    ) -> None:
        self._bed = bed
        self._runners = runners
        self._case = case
        self.samples: dict[str, Any] = {
            runner.name: {'connect': [], 'disconnect': []}
            for runner in runners
        }

    def run(self, rounds: int) -> None:
        case = self._case
        with self._volume() as volume:
            before = self._bed.snapshot()
            # The first round fills caches and is not counted.
            for number in range(rounds + 1):
                # What one leaves to the next, each gets in its turn.
                first = number % len(self._runners)
                for runner in self._runners[first:] + self._runners[:first]:
                    taken = self._once(runner, volume)
                    self._settled(runner, before)
                    if number:
                        for kind, measured in taken.items():
                            self.samples[runner.name][kind].append(
                                {
                                    'seconds': measured.seconds,
                                    'steps': measured.steps,
                                }
                            )
                print(f'    {case.name}: round {number}', flush=True)

    def _once(
        self, runner: contestants.Contestant, volume: beds.Volume
    ) -> dict[str, contestants.Measured]:
        made = runner.connect(volume, self._case)
        device = made.device
        kind = '/dev/dm-' if self._case.multipath else '/dev/sd'
        if device is None or not device['path'].startswith(kind):
            raise contestants.WrongResult(
                f'{runner.name}: no {kind}: {device}'
            )
        if self._bed.read(device['path']) != volume.pattern:
            raise contestants.WrongResult(f'{runner.name}: other data')
        # udev's and multipathd's share of the attach is not the detach's.
        subprocess.run(['udevadm', 'settle'], check=True)
        ended = runner.disconnect(volume, self._case, device)
        return {'connect': made, 'disconnect': ended}

    def _settled(
        self, runner: contestants.Contestant, before: dict[str, Any]
    ) -> None:
        end = time.monotonic() + _SETTLE
        while (now := _relevant(self._bed.snapshot())) != _relevant(before):
            if time.monotonic() > end:
                raise contestants.WrongResult(
                    f'{runner.name} left {now}, before: {_relevant(before)}'
                )
            time.sleep(0.1)

    @contextlib.contextmanager
    def _volume(self) -> Iterator[beds.Volume]:
        """The volume to attach; somebody else holds its session if it exists
        before.
        """
        volume = self._bed.create_volume(portals=self._case.portals)
        if self._case.new:
            yield volume
        else:
            keeper = self._bed.create_volume(on=volume)
            path = floor.connect_single(keeper, new=True)
            yield volume
            floor.disconnect_single(keeper, path, new=True)
            self._bed.remove_volume(keeper)
        self._bed.remove_volume(volume)


def _relevant(snapshot: dict[str, Any]) -> dict[str, Any]:
    # os-brick and multipath -a leave lock files and lines: a matter of the
    # parity suite, and no time.
    names = ('sessions', 'scsi_devices', 'maps')
    return {name: snapshot.get(name) for name in names}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument('--rounds', type=int, required=True)
    parser.add_argument('--case', action='append', default=[])
    parser.add_argument('--only', action='append', default=[])
    parser.add_argument('--output', type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    # The bed forks the privileged helper, before there are threads.
    bed = kernel.KernelBed()
    figures = {}
    try:
        with process.Peer() as peer, harness.Harness(bed) as worker:
            runners = [
                contestants.Floor(),
                contestants.AttachWorker(worker),
                contestants.OSBrick(peer),
            ]
            if arguments.only:
                runners = [r for r in runners if r.name in arguments.only]
            for case in contestants.CASES:
                if arguments.case and case.name not in arguments.case:
                    continue
                race = _Race(bed, runners, case)
                race.run(arguments.rounds)
                figures[case.name] = race.samples
    except (contestants.WrongResult, floor.Failed) as error:
        print(f'benchmark: {error}', file=sys.stderr)
        print(json.dumps(picture.take(), indent=1), file=sys.stderr)
        return 1
    finally:
        arguments.output.write_text(json.dumps(figures))
        bed.close()
    return 0


if __name__ == '__main__':
    sys.exit(main())
