# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""Puts back what an attachment has left on the host.

From journal and kernel alone: nothing is known of how it came there.
"""

from collections.abc import Collection

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker import objects
from attachworker.connectors import base as connectors
from attachworker.host import encryption
from attachworker.journal import AttachmentRecord
from attachworker.journal import Claims
from attachworker.operations import handler


class Remains:
    def __init__(self, services: handler.Services) -> None:
        self._services = services

    def put_back(
        self, known: AttachmentRecord, cut_short: bool = False
    ) -> list[str]:
        """Close the mapping, if there is one, and disconnect all targets.

        :param cut_short: see :class:`attachworker.journal.Claims`
        :returns: what is left; what is below a mapping that is left stays
        """
        return self._close(known) or self.disconnect(known, (), cut_short)

    def disconnect(
        self,
        known: AttachmentRecord,
        used: Collection[objects.Target],
        cut_short: bool = False,
    ) -> list[str]:
        """Disconnect targets, but not those that are used.

        :returns: what is left
        """
        services = self._services
        claims = self.claims(known, cut_short)
        targets = [target for target in claims.taken() if target not in used]
        info = objects.ConnectionInfo.obj_from_primitive(known.connection)
        try:
            connector = services.connectors.get(info.protocol)
        except exception.AttachWorkerError as error:
            return [f'{target}: {error}' for target in targets]
        deadline = deadlines.Deadline.after(services.grace)
        left: list[str] = []
        for target in targets:
            try:
                users = self._users(connector, target, deadline)
                left += users or connector.disconnect(
                    target, claims, deadline, keep_found=True
                )
            except (exception.AttachWorkerError, OSError) as error:
                left.append(f'{target}: {error}')
        return left

    def claims(
        self, known: AttachmentRecord, cut_short: bool = False
    ) -> Claims:
        services = self._services
        return Claims(
            services.database,
            known.attachment_id,
            services.boot_id,
            cut_short,
        )

    def _close(self, known: AttachmentRecord) -> list[str]:
        services = self._services
        name = encryption.name_of(known.attachment_id)
        deadline = deadlines.Deadline.after(services.grace)
        try:
            return services.host.encryption.close(name, deadline)
        except (exception.AttachWorkerError, OSError) as error:
            return [f'mapping {name}: {error}']

    def _users(
        self,
        connector: connectors.Connector,
        target: objects.Target,
        deadline: deadlines.Deadline,
    ) -> list[str]:
        """Who uses the device of a target by now, should anybody."""
        disks = [path.disk for path in connector.paths(target)]
        found = self._services.host.block.users(disks, deadline)
        return [
            f'device {disk}, in use by {user}'
            for disk, users in found.items()
            for user in users
        ]
