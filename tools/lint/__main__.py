# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""``python -m tools.lint [FILE or DIRECTORY…]``, from the top directory."""

from collections.abc import Iterator
import pathlib
import sys

from tools.lint import Source
from tools.lint import run

DEFAULT = ('attachworker', 'doc', 'releasenotes', 'setup.py', 'tests', 'tools')


def _files(names: list[str]) -> Iterator[pathlib.Path]:
    for name in names:
        path = pathlib.Path(name)
        if path.is_dir():
            yield from sorted(path.rglob('*.py'))
        elif path.exists():
            yield path


def main(names: list[str]) -> int:
    """Print what is found; return 1 if anything is."""
    files = list(_files(names or list(DEFAULT)))
    if not files:
        print('tools.lint: no Python files found', file=sys.stderr)
        return 2
    findings = run(
        Source.parse(path.as_posix(), path.read_text(encoding='utf-8'))
        for path in files
    )
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
