# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""For all tests: the threading backend, and no skips where none may be."""

import os

import pytest

# Before anything else: the import chooses the threading backend.
from attachworker import threading_backend  # noqa: F401


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """With ATTACHWORKER_NO_SKIPS set, a skipped test is a failure."""
    reporter = session.config.pluginmanager.get_plugin('terminalreporter')
    if not os.environ.get('ATTACHWORKER_NO_SKIPS') or reporter is None:
        return
    skipped = reporter.stats.get('skipped', [])
    if skipped:
        reporter.write_line(f'{len(skipped)} skipped: none may be', red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
