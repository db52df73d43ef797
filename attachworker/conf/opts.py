# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""All options, for the sample file and the documentation."""

from typing import Any

from attachworker.conf import metrics
from attachworker.conf import multipath
from attachworker.conf import rpc
from attachworker.conf import secrets
from attachworker.conf import tracing
from attachworker.conf import upgrade_levels
from attachworker.conf import worker


def list_opts() -> list[tuple[Any, list[Any]]]:
    """Groups with their options, as oslo.config.opts wants them."""
    return [
        (None, worker.OPTIONS),
        (rpc.GROUP, rpc.OPTIONS),
        (multipath.GROUP, multipath.OPTIONS),
        (metrics.GROUP, metrics.OPTIONS),
        (secrets.GROUP, secrets.OPTIONS),
        (tracing.GROUP, tracing.OPTIONS),
        (upgrade_levels.GROUP, upgrade_levels.OPTIONS),
    ]
