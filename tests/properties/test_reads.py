# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Each look at the host fails once, in each operation and in four ways."""

from collections.abc import Iterator
import contextlib
import errno
import itertools
import os
import random

import pytest

from tests.properties import failing_reads
from tests.properties import hosts
from tests.properties import reads
from tests.properties import workers

#: Of each kind of volume and each deed so many, chosen at random; all: a
#: number that is larger than any.
READS = int(os.environ.get('ATTACHWORKER_READS', '2'))
SEED = os.environ.get('ATTACHWORKER_SEED', '0')

SCENES = [
    scene
    for scene in itertools.product(reads.KINDS, reads.DEEDS)
    if scene not in reads.IMPOSSIBLE
]
#: Which of two threads is quicker changes some looks: one that was chosen may
#: not be made again. For each that is to fail, so many are tried at most.
_TRIES = 10


class Fresh:
    """A host for many scenes; another one once something went wrong."""

    def __init__(self) -> None:
        self._host: hosts.Host | None = None

    def get(self) -> hosts.Host:
        self._host = self._host or hosts.Host()
        return self._host

    def close(self) -> None:
        if self._host is not None:
            self._host.close()
            self._host = None


@pytest.fixture(scope='module')
def fresh() -> Iterator[Fresh]:
    with contextlib.closing(Fresh()) as made:
        yield made


@pytest.mark.slow
@pytest.mark.timeout(24 * 3600)
@pytest.mark.parametrize(('kind', 'deed'), SCENES)
def test_no_answer_is_wrong_whatever_cannot_be_read(
    fresh: Fresh, kind: str, deed: str
) -> None:
    # Given the looks at the host that an operation makes
    scene = reads.Scene(fresh.get(), kind, deed)
    points = scene.points()
    assert points
    ways = list(itertools.product(points, failing_reads.NUMBERS))
    random.Random(f'{SEED} {kind} {deed}').shuffle(ways)
    wanted = min(READS, len(ways))
    # When one fails, then the answer is right, and the next one, too
    struck = 0
    for point, number in ways[: _TRIES * wanted]:
        try:
            struck += scene.strike(point, getattr(errno, number))[0]
        except workers.Violation:
            fresh.close()
            raise
        if struck == wanted:
            break
    print(f'{kind}, {deed}: {struck} of {len(ways)} ways to fail')
    assert struck == wanted
