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

"""Volumes that this host has already: a block device, or a file."""

from typing import Self

from attachworker.objects import base
from attachworker.objects import connection_info
from attachworker.objects import fields


@base.AttachWorkerObjectRegistry.register
class LocalConnectionInfo(connection_info.ConnectionInfo):
    """A block device or a file of the worker's own host."""

    # Version 1.0: Initial version
    VERSION = '1.0'

    fields = {
        #: Absolute path of the device or file, below one of the worker's
        #: ``local_roots``.
        'device_path': fields.AbsolutePathField(),
    }

    protocol = 'local'

    @property
    def targets(self) -> list[connection_info.Target]:
        return [connection_info.Target('', self.device_path, 0)]

    def with_targets(self, targets: list[connection_info.Target]) -> Self:
        return self
