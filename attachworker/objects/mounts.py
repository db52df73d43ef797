# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Volumes that are files of a share, which this host mounts."""

from collections.abc import Mapping
import hashlib
import re
from typing import Any
from typing import Self

from attachworker.objects import base
from attachworker.objects import connection_info
from attachworker.objects import fields
from attachworker.objects import rules

KINDS = ('nfs',)

_SERVER = re.compile(r'(.+?):/', re.DOTALL)


class FileTarget(connection_info.Target):
    """The one path to a file: through the mount of its share.

    The name stands for the share, and is the same whatever its server is
    called by the case of its letters alone. The number is share and file as
    text: both have case.
    """

    __slots__ = ()

    @property
    def volume_name(self) -> str:
        return str(self.lun)

    @property
    def label(self) -> str:
        return str(self.lun)


def directory_of(export: str) -> str:
    """What os-brick, Cinder and Nova call the directory of a share's mount."""
    digest = hashlib.md5(export.encode(), usedforsecurity=False)
    return digest.hexdigest()


def server_of(share: str) -> str | None:
    """The portal of the server that a share is of; None: it makes no sense."""
    match = _SERVER.match(share)
    try:
        return match and rules.endpoint(match[1], None, rules.NFS_PORT)
    except rules.RuleBroken:
        return None


@base.AttachWorkerObjectRegistry.register
class MountConnectionInfo(connection_info.ConnectionInfo):
    """A file of a share that a server exports."""

    # Version 1.0: Initial version
    VERSION = '1.0'

    fields = {
        #: What mounts it, as mount(8) calls it.
        'kind': fields.ChoiceField(*KINDS),
        #: 'server:/path' as the driver spells it: the directory of the mount
        #: is named after it.
        'export': fields.TextField(rules.share),
        #: Of the file, in the root directory of the share.
        'name': fields.TextField(rules.file_name),
        #: Of the mount, with commas between them; null: none.
        'options': fields.TextField(rules.mount_options, nullable=True),
    }

    DERIVED = frozenset({'kind'})

    @classmethod
    def _from_data(cls, volume_type: str, data: Mapping[str, Any]) -> Self:
        info = super()._from_data(
            volume_type, {**data, 'options': data.get('options') or None}
        )
        info.kind = volume_type
        return info

    @property
    def protocol(self) -> str:  # type: ignore[override]
        return str(self.kind)

    @classmethod
    def protocol_of(cls, data: Mapping[str, Any]) -> str:
        return str(data['kind'])

    @property
    def server(self) -> str:
        """'address:port', or a host name in place of the address."""
        found = server_of(self.export)
        assert found is not None  # by its rule
        return found

    @property
    def targets(self) -> list[connection_info.Target]:
        name = f'{self.kind}-{directory_of(self.export)}'
        return [FileTarget(self.server, name, f'{self.export}/{self.name}')]

    def is_complete(self, multipath: bool) -> bool:
        """Always: who mounts a share by name looks the name up himself."""
        return True

    def with_targets(self, targets: list[connection_info.Target]) -> Self:
        return self
