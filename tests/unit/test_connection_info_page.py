# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The page on connection_info says what the worker reads, and nothing else."""

import json
import pathlib
import re
from typing import Any

import pytest

from attachworker import objects
from attachworker.objects import base
from attachworker.objects import connection_info

_USER = pathlib.Path(__file__).resolve().parents[2] / 'doc/source/user'
_PAGE = _USER / 'connection_info.rst'
_EXAMPLES = {path.name: path for path in _USER.glob('connection_info/*.json')}
#: What the text around an example says of it.
_PATHS = {
    'fibre_channel.json': 2,
    'iscsi-flat.json': 2,
    'iscsi-multipath.json': 3,
    'iscsi.json': 1,
    'iser.json': 1,
    'local.json': 1,
    'nfs.json': 1,
    'nvmeof-one-portal.json': 1,
    'nvmeof.json': 2,
    'rbd-snapshot.json': 1,
    'rbd.json': 1,
}
_READ_ONLY = {'iscsi-flat.json', 'rbd-snapshot.json'}


def example(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_EXAMPLES[name].read_text())
    return found


def keys_of(volume_type: str) -> set[str]:
    """The keys that stand for a field of the same name."""
    known = base.AttachWorkerObjectRegistry.obj_classes()
    (chosen,) = known[connection_info.CLASSES[volume_type]]
    return set(chosen.fields) - chosen.DERIVED


@pytest.mark.parametrize('name', _PATHS)
def test_an_example_is_accepted_as_it_stands(name: str) -> None:
    given = example(name)

    info = objects.ConnectionInfo.from_dict(given)
    info.validate()

    assert given == example(name)
    assert len(info.targets) == _PATHS[name]
    assert info.read_only == (name in _READ_ONLY)


def test_the_page_shows_each_example() -> None:
    shown = re.findall(
        r'literalinclude:: connection_info/(\S+)', _PAGE.read_text()
    )

    assert sorted(shown) == sorted(_EXAMPLES) == sorted(_PATHS)


def test_each_type_that_is_served_has_an_example() -> None:
    types = {example(name)['driver_volume_type'] for name in _EXAMPLES}

    assert types == set(connection_info.CLASSES)


@pytest.mark.parametrize('volume_type', connection_info.CLASSES)
def test_the_page_has_each_key_of_a_type(volume_type: str) -> None:
    text = _PAGE.read_text()

    missing = [
        key for key in sorted(keys_of(volume_type)) if f'``{key}``' not in text
    ]

    assert missing == []


def test_a_number_goes_over_the_wire_as_the_page_says() -> None:
    info = objects.ConnectionInfo.from_dict(example('iscsi-flat.json'))

    first, _ = info.targets
    assert f'LUN 300 goes over the wire as {first.lun}' in _PAGE.read_text()
