# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""The table of what a real host demands names tests that exist."""

import ast
import pathlib
import re

PROJECT = pathlib.Path(__file__).resolve().parents[2]
TABLE = PROJECT / 'doc/source/contributor/behaviours.rst'
#: Two lines of the table: file and function.
ENTRY = re.compile(r'``(tests/\S+\.py)``\n\s+\|\s+``(\w+)``')
SERVED = set(range(1, 34))


def functions(path: pathlib.Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding='utf-8'))
    return {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef)
    }


def test_every_test_of_the_table_exists() -> None:
    entries = ENTRY.findall(TABLE.read_text(encoding='utf-8'))
    assert len(entries) > len(SERVED)
    missing = [
        f'{path}::{name}'
        for path, name in entries
        if name not in functions(PROJECT / path)
    ]
    assert missing == []


def test_every_demand_has_a_test() -> None:
    numbers = re.findall(r'^   \* - (\d+)$', TABLE.read_text(), re.MULTILINE)
    assert set(map(int, numbers)) == SERVED
