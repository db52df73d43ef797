# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What a check reads (a source) and what it says (a finding)."""

import ast
import dataclasses
import pathlib

PACKAGE = 'attachworker'


@dataclasses.dataclass(frozen=True, order=True)
class Finding:
    """A broken rule: where, which, and what to do about it."""

    path: str
    line: int
    code: str
    message: str

    def __str__(self) -> str:
        return f'{self.path}:{self.line}: {self.code} {self.message}'


@dataclasses.dataclass(frozen=True)
class Source:
    """One Python file; ``path`` is relative to the top of the project."""

    path: pathlib.PurePosixPath
    text: str
    tree: ast.Module

    @classmethod
    def parse(cls, path: str, text: str) -> 'Source':
        """Parse ``text``; raise SyntaxError if it is no Python."""
        return cls(pathlib.PurePosixPath(path), text, ast.parse(text, path))

    @property
    def in_package(self) -> bool:
        """Whether the file is part of what gets installed."""
        return self.path.parts[0] == PACKAGE

    @property
    def module(self) -> str:
        """Dotted name; that of a package ends with ``__init__``."""
        return '.'.join(self.path.with_suffix('').parts)

    def finding(self, line: int, code: str, message: str) -> Finding:
        return Finding(str(self.path), line, code, message)
