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

"""Whoever replaces os-brick gets the same devices."""

import json
import os
import pathlib

import pytest

from tests.kernel import bed as kernel_bed
from tests.parity import sides
from tests.parity import table

pytestmark = pytest.mark.kernel

#: Both results of each row, a line of JSON each.
RECORD = pathlib.Path(os.environ.get('LAB_RESULTS', '')) / 'parity.jsonl'


@pytest.mark.parametrize('row', table.ROWS, ids=lambda row: row.name)
def test_results_are_those_of_os_brick(
    bed: kernel_bed.KernelBed, both: list[sides.Side], row: table.Row
) -> None:
    volume = bed.create_volume(**row.storage)

    results = {
        side.name: sides.result_of(side, row, bed, volume) for side in both
    }

    bed.remove_volume(volume)
    with open(RECORD, 'a', encoding='utf-8') as file:
        file.write(json.dumps({'row': row.name} | results) + '\n')
    expected = dict(results['os_brick'])
    for known in row.differences:
        # One that is there no more has to leave the table.
        assert expected.pop(known.field, None) == known.os_brick
        if known.attachworker is not None:
            expected[known.field] = known.attachworker
    assert results['attachworker'] == expected
