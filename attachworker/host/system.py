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


"""Facts of the machine that storage wants to know."""

import pathlib
import platform
import sys
from typing import Any

from attachworker.host import sysfs

_FILES = {
    'nqn': 'etc/nvme/hostnqn',
    'nvme_hostid': 'etc/nvme/hostid',
    # readable by root only; left out otherwise
    'system uuid': 'sys/class/dmi/id/product_uuid',
}


def properties(root: pathlib.Path) -> dict[str, Any]:
    """What is known of the machine, with os-brick's keys."""
    native = sysfs.read(root / 'sys/module/nvme_core/parameters/multipath')
    found: dict[str, Any] = {
        'platform': platform.machine(),
        'os_type': sys.platform,
        'do_local_attach': False,
        'nvme_native_multipath': native == 'Y',
    }
    for key, path in _FILES.items():
        value = sysfs.read(root / path)
        if value:
            found[key] = value
    return found
