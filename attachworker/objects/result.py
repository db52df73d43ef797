# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What the worker tells: results, attachments, notifications, audits."""

from typing import Any

from oslo_versionedobjects import fields as ovo_fields

from attachworker import exception
from attachworker.objects import base
from attachworker.objects import fields
from attachworker.objects import request
from attachworker.objects import rules

#: The warning of a detach that had nothing to do: it is a success, because
#: what the caller wants gone is not there.
NOT_KNOWN = 'nothing to do: the attachment is not known'

#: What says of a rotation, to those who do not know of it, that it is done or
#: has failed: they have not asked for it, but see it as the last result of an
#: attachment. An extend, too, leaves the volume attached.
_BEFORE_ROTATION = {'rotate': 'extend', 'rotated': 'extended'}


@base.AttachWorkerObjectRegistry.register
class PathInfo(base.AttachWorkerObject):
    """One way to a volume, used or failed."""

    # Version 1.0: Initial version
    VERSION = '1.0'

    fields = {
        #: Kernel name of its block device ('sda'); null: there is none. Of a
        #: file its path below the directory with all mounts.
        'device': fields.TextField(rules.text, nullable=True),
        #: 'address:port', or the WWPN of the port of this host; null where a
        #: protocol has none.
        'portal': fields.TextField(rules.text, nullable=True),
        #: Name of the target; null where a protocol has none.
        'target': fields.TextField(rules.text, nullable=True),
        #: Number at the target; null where a protocol has none.
        'lun': fields.IntegerField(rules.lun, nullable=True),
        'state': fields.ChoiceField('connected', 'connecting', 'failed'),
        'error': fields.ChoiceField(*fields.ERROR_CODES, nullable=True),
    }


@base.AttachWorkerObjectRegistry.register
class DeviceInfo(base.AttachWorkerObject):
    """The device that a volume is used by."""

    # Version 1.0: Initial version
    VERSION = '1.0'

    fields = {
        #: 'block'; 'local' if nothing was connected for it; 'file' of a share.
        'type': fields.ChoiceField('block', 'local', 'file', default='block'),
        #: Device file: '/dev/sda', '/dev/dm-0' of a map; of a volume that is
        #: opened with a key '/dev/mapper/attachworker-…'; or the file.
        'path': fields.TextField(rules.text),
        #: Identity as multipath prints it ('3600…'); null: not a SCSI disk.
        'scsi_wwn': fields.TextField(rules.text, nullable=True),
        #: WWID of the multipath map; null: a single path.
        'multipath_id': fields.TextField(rules.text, nullable=True),
        #: Bytes of that; a header (LUKS) does not count.
        'size': fields.BoundedIntegerField(0, request.MAX_SIZE),
        #: Whether it works with less than was asked for.
        'degraded': fields.FlagField(default=False),
        #: All ways that were tried, in the order of the request.
        'paths': ovo_fields.ListOfObjectsField('PathInfo', default=[]),
    }

    def to_brick(self) -> dict[str, Any]:
        """The device_info of os-brick, with the keys that have a value."""
        return {
            name: getattr(self, name)
            for name in ('type', 'path', 'scsi_wwn', 'multipath_id')
            if getattr(self, name) is not None
        }


@base.AttachWorkerObjectRegistry.register
class OperationError(base.AttachWorkerObject):
    """Why an operation failed."""

    # Version 1.0: Initial version
    VERSION = '1.0'

    fields = {
        'code': fields.ChoiceField(*fields.ERROR_CODES),
        #: Atom of the first cause ('ConnectTarget:…'); null: before any.
        'step': fields.TextField(rules.text, nullable=True),
        #: For people: what is wrong and what to do.
        'message': fields.TextField(rules.text),
        #: Whether the same request may succeed later, unchanged.
        'retryable': fields.FlagField(default=False),
    }

    @classmethod
    def from_exception(
        cls, error: BaseException, step: str | None = None
    ) -> 'OperationError':
        """Describe an error to the caller.

        The text of a foreign exception stays here: nobody knows what is in
        it, a secret perhaps.

        :param step: atom that raised it; the error's own step goes first
        """
        if not isinstance(error, exception.AttachWorkerError):
            error = exception.AttachWorkerError()
        return cls(
            code=error.code,
            step=error.step or step,
            message=str(error),
            retryable=error.retryable,
        )


@base.AttachWorkerObjectRegistry.register
class OperationResult(base.AttachWorkerObject):
    """The one final answer to a request."""

    # Version 1.0: Initial version
    # Version 1.1: Added rotate to operation, and rotated to status
    VERSION = '1.1'

    fields = {
        'request_id': fields.TextField(rules.identifier),
        #: Of the request; null: it named none.
        'attachment_id': fields.TextField(rules.identifier, nullable=True),
        'operation': fields.ChoiceField(*request.REQUESTS),
        'status': fields.ChoiceField(*fields.STATUSES),
        'device': ovo_fields.ObjectField('DeviceInfo', nullable=True),
        #: Bytes before an extend.
        'old_size': fields.BoundedIntegerField(
            0, request.MAX_SIZE, nullable=True
        ),
        'error': ovo_fields.ObjectField('OperationError', nullable=True),
        #: What the caller ought to know, for people.
        'warnings': ovo_fields.ListOfStringsField(default=[]),
        #: What could not be put back; empty: the host is as before.
        'leftovers': ovo_fields.ListOfStringsField(default=[]),
        #: Seconds that each step took, by atom name.
        'timings': fields.DictOfFloatsField(default={}),
    }

    def obj_make_compatible(
        self, primitive: dict[str, Any], target_version: str
    ) -> None:
        super().obj_make_compatible(primitive, target_version)
        if target_version == '1.0':
            _without_rotation(primitive, 'operation', 'status')


@base.AttachWorkerObjectRegistry.register
class Attachment(base.AttachWorkerObject):
    """What a worker knows of one attachment."""

    # Version 1.0: Initial version
    VERSION = '1.0'

    fields = {
        'attachment_id': fields.TextField(rules.identifier),
        #: Id in the caller's world; null: it was not said.
        'volume_id': fields.TextField(rules.identifier, nullable=True),
        'protocol': fields.ChoiceField(*fields.PROTOCOLS),
        'state': fields.ChoiceField(*fields.ATTACHMENT_STATES),
        #: The device, as of the last operation; null: none yet.
        'device': ovo_fields.ObjectField('DeviceInfo', nullable=True),
        #: Result of the last operation; null: none has ended yet.
        'last_result': ovo_fields.ObjectField(
            'OperationResult', nullable=True
        ),
        #: When the attach was accepted, and when the record changed last.
        'created_at': fields.UTCDateTimeField(),
        'updated_at': fields.UTCDateTimeField(),
    }


@base.AttachWorkerObjectRegistry.register
class NotificationPayload(base.AttachWorkerObject):
    """The payload of all notifications; it travels as a plain dict.

    Fields are added, never taken away: a consumer leaves out what it does
    not know.
    """

    # Version 1.0: Initial version
    # Version 1.1: Added rotated to status
    VERSION = '1.1'

    fields = {
        'request_id': fields.TextField(rules.identifier),
        #: None: a detach by its connection_info has none.
        'attachment_id': fields.TextField(rules.identifier, nullable=True),
        #: The worker's name on the bus.
        'host': fields.TextField(rules.text),
        #: The step that has ended, or the one that has failed.
        'step': fields.TextField(rules.text, nullable=True),
        #: Seconds: of the step, or since the operation was accepted.
        'elapsed': ovo_fields.FloatField(),
        #: Of the result; None before there is one.
        'status': fields.ChoiceField(*fields.STATUSES, nullable=True),
        'error': fields.ChoiceField(*fields.ERROR_CODES, nullable=True),
    }

    def obj_make_compatible(
        self, primitive: dict[str, Any], target_version: str
    ) -> None:
        super().obj_make_compatible(primitive, target_version)
        if target_version == '1.0':
            _without_rotation(primitive, 'status')


@base.AttachWorkerObjectRegistry.register
class AuditedAttachment(base.AttachWorkerObject):
    """How one attachment is."""

    # Version 1.0: Initial version
    VERSION = '1.0'

    fields = {
        'attachment_id': fields.TextField(rules.identifier),
        #: 'ok'; 'degraded': there, but a path is not, or is dead; 'missing':
        #: its device is not there.
        'state': fields.ChoiceField('ok', 'degraded', 'missing'),
        #: For people; empty if it is ok.
        'detail': fields.TextField(rules.text, default=''),
    }


@base.AttachWorkerObjectRegistry.register
class AuditFinding(base.AttachWorkerObject):
    """Something on the host that ought not to be there, or is not ours."""

    # Version 1.0: Initial version
    VERSION = '1.0'

    fields = {
        #: 'orphan': ours, and no attachment has it; 'stale': of an
        #: attachment, and dead or of another boot; 'foreign': not ours.
        'kind': fields.ChoiceField('orphan', 'stale', 'foreign'),
        #: 'session 3', 'device sda', 'map dm-0', 'attachment …'.
        'what': fields.TextField(rules.text),
        'detail': fields.TextField(rules.text, default=''),
    }


@base.AttachWorkerObjectRegistry.register
class AuditReport(base.AttachWorkerObject):
    """The answer to an audit."""

    # Version 1.0: Initial version
    VERSION = '1.0'

    fields = {
        #: All that no request is working on, oldest first.
        'attachments': ovo_fields.ListOfObjectsField(
            'AuditedAttachment', default=[]
        ),
        'findings': ovo_fields.ListOfObjectsField('AuditFinding', default=[]),
    }


def _without_rotation(primitive: dict[str, Any], *names: str) -> None:
    """Have fields of a primitive say only what version 1.0 knows."""
    for name in names:
        if primitive.get(name) in _BEFORE_ROTATION:
            primitive[name] = _BEFORE_ROTATION[primitive[name]]
