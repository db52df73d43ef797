# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What CI installs is what the requirements ask for, known by its hashes."""

from collections.abc import Iterator
import pathlib

from packaging import requirements
from packaging import utils
import pytest

PROJECT = pathlib.Path(__file__).resolve().parents[2]
ASKED = (
    'requirements.txt',
    'test-requirements.txt',
    'tools/demo/requirements.txt',
)


def pins() -> dict[str, list[list[str]]]:
    """The lines of each package, by name: what is pinned, then hashes."""
    text = (PROJECT / 'constraints.txt').read_text()
    found: dict[str, list[list[str]]] = {}
    for entry in text.replace('\\\n', ' ').splitlines():
        if entry and not entry.startswith('#'):
            pinned, *hashes = entry.split(' --hash=')
            name = requirements.Requirement(pinned.strip()).name
            key = utils.canonicalize_name(name)
            found.setdefault(key, []).append([pinned.strip(), *hashes])
    return found


def asked(name: str) -> Iterator[requirements.Requirement]:
    for line in (PROJECT / name).read_text().splitlines():
        text = line.partition('#')[0].strip()
        if text and not text.startswith('-'):
            yield requirements.Requirement(text)


@pytest.mark.parametrize('name', ASKED)
def test_each_requirement_is_pinned_as_it_is_asked_for(name: str) -> None:
    known = pins()
    for one in asked(name):
        for pinned, *_ in known[utils.canonicalize_name(one.name)]:
            (exact,) = requirements.Requirement(pinned).specifier
            assert exact.operator == '=='
            assert one.specifier.contains(exact.version, prereleases=True), (
                f'{one} and {pinned}: make constraints.txt again'
            )


def test_each_file_is_known_by_a_hash() -> None:
    for entries in pins().values():
        for pinned, *hashes in entries:
            assert hashes, pinned
            assert all(one.strip().startswith('sha256:') for one in hashes)


def test_it_names_no_index() -> None:
    text = (PROJECT / 'constraints.txt').read_text()
    assert '://' not in text
    assert 'index' not in text
