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
