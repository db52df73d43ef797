# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""Tables of the documentation name tests that exist."""

import ast
import pathlib
import re

import pytest

PROJECT = pathlib.Path(__file__).resolve().parents[2]
PAGES = PROJECT / 'doc/source/contributor'
BEHAVIOURS = PAGES / 'behaviours.rst'
#: Two lines of the table: file and function.
ENTRY = re.compile(r'``(tests/\S+\.py)``\n\s+\|\s+``(\w+)``')
SERVED = {*range(1, 34), 36}


def functions(path: pathlib.Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding='utf-8'))
    return {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef)
    }


@pytest.mark.parametrize(
    ('page', 'least'),
    [
        (BEHAVIOURS, len(SERVED)),
        (PAGES / 'invariants.rst', 12),
        (PAGES / 'reports.rst', 30),
        (PAGES.parent / 'admin/threat-model.rst', 20),
    ],
    ids=['behaviours', 'invariants', 'reports', 'threat model'],
)
def test_every_test_of_a_table_exists(page: pathlib.Path, least: int) -> None:
    entries = ENTRY.findall(page.read_text(encoding='utf-8'))
    assert len(entries) > least
    missing = [
        f'{path}::{name}'
        for path, name in entries
        if name not in functions(PROJECT / path)
    ]
    assert missing == []


def test_every_demand_has_a_test() -> None:
    numbers = re.findall(
        r'^   \* - (\d+)$', BEHAVIOURS.read_text(), re.MULTILINE
    )
    assert set(map(int, numbers)) == SERVED
