# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The verbs in this process, as the helper would run them.

Nothing here gets as far as the machine: each test hands over what must be
refused before anything is done.
"""

from collections.abc import Iterator

import pytest

from attachworker import privileged


@pytest.fixture(autouse=True)
def in_process() -> Iterator[None]:
    for context in privileged.CONTEXTS:
        context.set_client_mode(False)
    yield
    for context in privileged.CONTEXTS:
        context.set_client_mode(True)
