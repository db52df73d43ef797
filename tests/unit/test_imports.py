# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What the programs import."""

from collections.abc import Iterator
from importlib import metadata
import subprocess
import sys

from packaging import requirements
from packaging import utils
import pytest


def _required(
    asked: requirements.Requirement, seen: set[str]
) -> Iterator[str]:
    """The names of a distribution and of all that it requires."""
    name = utils.canonicalize_name(asked.name)
    yield name
    # An extra of one that was seen without it is one to look at.
    extras = {'', *asked.extras}
    keys = {f'{name}[{extra}]' for extra in extras}
    if keys <= seen:
        return
    seen |= keys
    try:
        lines = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return  # for another platform
    for one in map(requirements.Requirement, lines):
        if one.marker is None or any(
            one.marker.evaluate({'extra': extra}) for extra in extras
        ):
            yield from _required(one, seen)


@pytest.mark.parametrize(
    'module', ['worker', 'attachctl', 'session', 'status']
)
def test_they_import_what_they_require_and_nothing_else(module: str) -> None:
    # Given whatever the tests have installed besides: some libraries import
    # others where they are there, which has taken longer than all the rest
    installed = metadata.packages_distributions()
    # When a program is imported
    found = subprocess.run(
        [
            sys.executable,
            '-c',
            f'import sys, attachworker.cmd.{module}; print(*sys.modules)',
        ],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    imported = {
        utils.canonicalize_name(name)
        for one in found.stdout.split()
        for name in installed.get(one.partition('.')[0], ())
    }
    # Then all of it is required
    ours = requirements.Requirement('attachworker')
    assert ours.name in imported
    assert imported - set(_required(ours, set())) == set()
