# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Whoever replaces os-brick gets the same devices."""

import json
import os
import pathlib
from typing import Any

import pytest

from tests.contract import bed as beds
from tests.kernel import bed as kernel_bed
from tests.parity import sides
from tests.parity import table

pytestmark = pytest.mark.kernel

#: Both results of each row, a line of JSON each.
RESULTS = pathlib.Path(os.environ.get('LAB_RESULTS', '')) / 'parity.jsonl'
#: os-brick's results of the rows that take it long, from a run of its own.
RECORDED = json.loads(
    pathlib.Path(__file__).with_name('recorded.json').read_text()
)
#: Whether os-brick has to show those, too.
LIVE = os.environ.get('ATTACHWORKER_PARITY') == 'live'


def result_of(
    side: sides.Side,
    row: table.Row,
    bed: kernel_bed.KernelBed,
    volume: beds.Volume,
) -> dict[str, Any]:
    if side.name != 'os_brick' or not row.slow:
        return sides.result_of(side, row, bed, volume)
    recorded: dict[str, Any] = RECORDED['rows'][row.name]
    if LIVE:
        assert sides.result_of(side, row, bed, volume) == recorded
    return recorded


@pytest.mark.parametrize(
    'row',
    [row for row in table.ROWS if row.protocol not in beds.ELSEWHERE],
    ids=lambda row: row.name,
)
def test_results_are_those_of_os_brick(
    bed: kernel_bed.KernelBed, both: list[sides.Side], row: table.Row
) -> None:
    create = {
        'iscsi': bed.create_volume,
        'nvmeof': bed.create_nvme_volume,
        'rbd': bed.create_rbd_volume,
    }[row.protocol]
    volume = create(**row.storage)

    results = {side.name: result_of(side, row, bed, volume) for side in both}

    bed.remove_volume(volume)
    with open(RESULTS, 'a', encoding='utf-8') as file:
        file.write(json.dumps({'row': row.name} | results) + '\n')
    expected = dict(results['os_brick'])
    for known in row.differences:
        # One that is there no more has to leave the table.
        assert expected.pop(known.field, None) == known.os_brick
        if known.attachworker is not None:
            expected[known.field] = known.attachworker
    assert results['attachworker'] == expected
