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


"""For all tests: the threading backend, and no skips where none may be."""

import os

import pytest

# Before anything else: the import chooses the threading backend.
import attachworker  # noqa: F401


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """With ATTACHWORKER_NO_SKIPS set, a skipped test is a failure."""
    reporter = session.config.pluginmanager.get_plugin('terminalreporter')
    if not os.environ.get('ATTACHWORKER_NO_SKIPS') or reporter is None:
        return
    skipped = reporter.stats.get('skipped', [])
    if skipped:
        reporter.write_line(f'{len(skipped)} skipped: none may be', red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
