# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Volumes that this host has already: a block device, or a file."""

from typing import Self

from attachworker.objects import base
from attachworker.objects import connection_info
from attachworker.objects import fields
from attachworker.objects import rules


@base.AttachWorkerObjectRegistry.register
class LocalConnectionInfo(connection_info.ConnectionInfo):
    """A block device or a file of the worker's own host."""

    # Version 1.0: Initial version
    VERSION = '1.0'

    fields = {
        #: Absolute path of the device or file, below one of the worker's
        #: ``local_roots``.
        'device_path': fields.TextField(rules.absolute_path),
    }

    protocol = 'local'

    @property
    def targets(self) -> list[connection_info.Target]:
        return [connection_info.Target('', self.device_path, 0)]

    def with_targets(self, targets: list[connection_info.Target]) -> Self:
        return self
