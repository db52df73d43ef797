# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The project's own checks, run by ``python -m tools.lint``.

Each check has a code (AW1xx) that HACKING.rst explains. There is no comment
that switches a check off: exceptions stand in a table beside the check, with
their reason.
"""

from tools.lint.checks import CHECKS
from tools.lint.checks import run
from tools.lint.source import Finding
from tools.lint.source import Source

__all__ = ['CHECKS', 'Finding', 'Source', 'run']
