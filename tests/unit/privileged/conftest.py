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

"""The verbs in this process, as the helper would run them.

Nothing here gets as far as the machine: each test hands over what must be
refused before anything is done.
"""

from collections.abc import Iterator

import pytest

from attachworker import privileged


@pytest.fixture(autouse=True)
def in_process() -> Iterator[None]:
    privileged.default.set_client_mode(False)
    yield
    privileged.default.set_client_mode(True)
