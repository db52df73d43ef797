# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Prints what constraints.txt says of the packages that pip would install.

``locked.py CONSTRAINTS REPORT``: REPORT is what ``pip install --dry-run
--report`` writes. What is printed is a file of requirements with hashes.
"""

from collections.abc import Iterator
import json
import pathlib
import re
import sys


def _canonical(name: str) -> str:
    return re.sub(r'[-_.]+', '-', name).lower()


def entries(constraints: str) -> Iterator[tuple[str, str]]:
    """The name of each package, and its lines: the version and the hashes."""
    for match in re.finditer(
        r'^([\w.-]+)==.*\n(?: +.*\n)*', constraints, re.M
    ):
        yield _canonical(match[1]), match[0]


def locked(constraints: str, names: set[str]) -> str:
    """The entries of these packages.

    :raises ValueError: one of them has none
    """
    # A package may have a version for each range of those of Python.
    found = [one for one in entries(constraints) if one[0] in names]
    if lacking := sorted(names - {name for name, _ in found}):
        raise ValueError(f'not in the constraints: {", ".join(lacking)}')
    return ''.join(lines for _, lines in found)


def main(constraints: str, report: str) -> None:
    wanted = json.loads(pathlib.Path(report).read_text())['install']
    names = {_canonical(one['metadata']['name']) for one in wanted}
    sys.stdout.write(locked(pathlib.Path(constraints).read_text(), names))


if __name__ == '__main__':
    main(*sys.argv[1:])
