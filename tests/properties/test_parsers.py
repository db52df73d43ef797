# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Whatever storage and tools say: an answer, or an error that is documented.

In a time and a memory that what was said is worth.
"""

from collections.abc import Iterator
import contextlib
import gc
import os
import pathlib
import time
import tracemalloc
from typing import Any

import hypothesis
from hypothesis import strategies as st
import pytest

from attachworker.host import machine
from tests.properties import parsers
from tests.properties import trees

#: For each parser so many are made up; the same in each run, unless there is
#: another seed.
INPUTS = int(os.environ.get('ATTACHWORKER_INPUTS', '60'))
SEED = os.environ.get('ATTACHWORKER_SEED')

#: Seconds of this thread, of the longest input; what grows with the square of
#: its length takes minutes.
_TIME = 1.0
#: And its memory, beside 64 times the input; bytes.
_MEMORY = 8 << 20


def made_up(test: Any, inputs: st.SearchStrategy[Any]) -> None:
    """Call a test with each input; a failure shows the smallest one."""
    settings = hypothesis.settings(
        max_examples=INPUTS,
        derandomize=SEED is None,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    given: Any = settings(hypothesis.given(inputs)(test))
    (hypothesis.seed(int(SEED))(given) if SEED else given)()


@contextlib.contextmanager
def timed() -> Iterator[None]:
    """What is done takes little time of this thread.

    Without the collector: after some thousand inputs what hypothesis has kept
    of them takes it a second, and it is no parser's.
    """
    gc.disable()
    try:
        began = time.thread_time()
        yield
        assert time.thread_time() - began < _TIME
    finally:
        gc.enable()


def read(parser: parsers.Parser, said: Any) -> None:
    with timed(), contextlib.suppress(*parser.errors):
        parser.read(said)


@pytest.mark.timeout(24 * 3600)
@pytest.mark.parametrize('parser', parsers.PARSERS, ids=lambda one: one.name)
def test_a_parser_answers_or_raises_what_is_documented(
    parser: parsers.Parser,
) -> None:
    made_up(lambda said: read(parser, said), parser.inputs)


#: What was found so, or would have been
FOUND = {
    'encryption.header_in': [
        # the whole helper stood still for hours
        '\n' * 200_000,
        'Keyslots:\n' + ' ' * 200_000,
        # more digits than Python takes for a number
        f'\tMemory: {"9" * 5000}\n',
        f'\tMemory: -{"9" * 5000}\n',
    ],
    'encryption.offset_in': [f'  offset:  {"9" * 5000} sectors\n', ''],
    'multipath.paths_in': [
        '',
        '{}',
        '[]',
        '{"map": null}',
        '{"map": {"path_groups": 1}}',
        '{"map": {"path_groups": [{"paths": [{"dev": 1, "dm_st": []}]}]}}',
        'map or partition is not found',
        '[' * 100_000,
    ],
    'multipath.listed_in': ['/36001405\udcff/\n'],
    'initiator.targets_in': [
        # Its lower case is that of another letter.
        f'192.0.2.1:3260,1 {parsers.WANTED.name.replace("K", chr(0x212A))}\n',
        f'192.0.2.1:{"1" * 5000},1 {parsers.WANTED.name}\n',
        f'192.0.2.1:3260,1 {parsers.WANTED.name}\n' * 5000,
    ],
    'processes.parsed_mounts': [
        # Whoever may mount something in a namespace of his own can do that.
        '22 1 8:1 / /mnt/a\x0bb rw - tmpfs none rw\n',
        '22 1 8:1 / /mnt/a\u2028b rw - tmpfs none rw\n',
        'nonsense\n',
    ],
    'processes.parsed_swaps': ['Filename\n/a\x0b\x0cb 1\n   \n'],
    'fabrics.described': [bytes((2, 1, 0, 0, 0xAB)), bytes((3, 255, 0, 0, 1))],
    'fabrics.size_in': [b'', b'\xff' * 4096],
    'vpd.wwn': [bytes((2, 1, 0, 4)) + b'    '],
    'netlink.event_of': [(b'add', b'/devices/\xff', b'block')],
}
_BY_NAME = {parser.name: parser for parser in parsers.PARSERS}


@pytest.mark.parametrize(
    ('name', 'said'),
    [(name, said) for name, found in FOUND.items() for said in found],
    ids=[
        f'{name}-{number}'
        for name, found in FOUND.items()
        for number in range(len(found))
    ],
)
def test_what_was_found_stays_mended(name: str, said: Any) -> None:
    parser = _BY_NAME[name]
    tracemalloc.start()
    try:
        read(parser, said)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < _MEMORY + 64 * len(said)


def test_a_mount_with_an_odd_name_is_one_mount() -> None:
    parsed = list(
        parsers.processes.parsed_mounts(
            '22 1 8:1 / /mnt/a\x0bb rw - tmpfs none rw\n'
        )
    )
    assert [one.point for one in parsed] == ['/mnt/a\x0bb']
    assert [one.source for one in parsed] == ['none']


# -- sysfs, and the like in proc and etc


@pytest.fixture(scope='module')
def tree(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[trees.Tree]:
    with trees.Tree(tmp_path_factory.mktemp('host')) as made:
        yield made


def look(
    tree: trees.Tree, view: trees.View, changes: list[trees.Change]
) -> None:
    with tree.changed(changes), timed(), contextlib.suppress(OSError):
        view.read(tree.machine)


@pytest.mark.timeout(24 * 3600)
@pytest.mark.parametrize('view', trees.VIEWS, ids=lambda one: one.name)
def test_a_view_of_the_host_answers_or_raises_what_is_documented(
    tree: trees.Tree, view: trees.View
) -> None:
    made_up(
        lambda changes: look(tree, view, changes), trees.changes(view.places)
    )


@pytest.mark.parametrize(
    ('name', 'change'),
    trees.FOUND,
    ids=[f'{name}-{number}' for number, (name, _) in enumerate(trees.FOUND)],
)
def test_what_was_found_in_trees_stays_mended(
    tree: trees.Tree, name: str, change: trees.Change
) -> None:
    (view,) = [one for one in trees.VIEWS if one.name == name]
    look(tree, view, [change])


def test_each_view_sees_something(tree: trees.Tree) -> None:
    assert isinstance(tree.machine, machine.Machine)
    empty = [view.name for view in trees.VIEWS if not view.read(tree.machine)]
    assert empty == []


def test_the_page_lists_each_parser() -> None:
    page = pathlib.Path(__file__).parents[2] / (
        'doc/source/contributor/parsers.rst'
    )
    listed = [
        line.removeprefix('   * - ').strip('`')
        for line in page.read_text(encoding='utf-8').splitlines()
        if line.startswith('   * - ``')
    ]
    known = [one.name for one in (*parsers.PARSERS, *trees.VIEWS)]
    assert listed == known
