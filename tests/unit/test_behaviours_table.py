# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.
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
