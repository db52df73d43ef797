# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What comes of requests, and what is attached."""

from typing import Any

from oslo_versionedobjects import fields as ovo_fields

from attachworker import exception
from attachworker.objects import base
from attachworker.objects import fields
from attachworker.objects import request


@base.AttachWorkerObjectRegistry.register
class PathInfo(base.AttachWorkerObject):
    """One way to a volume, used or failed."""

    # Version 1.0: Initial version
    VERSION = '1.0'

    fields = {
        #: Kernel name of its block device ('sda'); null: there is none.
        'device': fields.TextField(nullable=True),
        #: 'address:port'; null where a protocol has none.
        'portal': fields.TextField(nullable=True),
        #: Name of the target; null where a protocol has none.
        'target': fields.TextField(nullable=True),
        #: Number at the target; null where a protocol has none.
        'lun': fields.LunField(nullable=True),
        #: 'connected', 'connecting' or 'failed'.
        'state': fields.PathStateField(),
        #: Error code of a failed path.
        'error': fields.ErrorCodeField(nullable=True),
    }


@base.AttachWorkerObjectRegistry.register
class DeviceInfo(base.AttachWorkerObject):
    """The device that a volume is used by."""

    # Version 1.0: Initial version
    VERSION = '1.0'

    fields = {
        #: 'block'; 'local' if nothing was connected for it.
        'type': fields.DeviceTypeField(default='block'),
        #: Device file: '/dev/sda', '/dev/dm-0' of a map; of a volume that is
        #: opened with a key '/dev/mapper/attachworker-…'.
        'path': fields.TextField(),
        #: Identity as multipath prints it ('3600…'); null: not a SCSI disk.
        'scsi_wwn': fields.TextField(nullable=True),
        #: WWID of the multipath map; null: a single path.
        'multipath_id': fields.TextField(nullable=True),
        #: Bytes of that; a header (LUKS) does not count.
        'size': fields.BoundedIntegerField(0, request.MAX_SIZE),
        #: Whether it works with less than was asked for.
        'degraded': fields.FlagField(default=False),
        #: All ways that were tried, in the order of the request.
        'paths': ovo_fields.ListOfObjectsField('PathInfo', default=[]),
    }

    def to_brick(self) -> dict[str, Any]:
        """The device_info of os-brick: scsi_wwn for SCSI only, and
        multipath_id for a map only.
        """
        info = {'type': self.type, 'path': self.path}
        for name in ('scsi_wwn', 'multipath_id'):
            if getattr(self, name) is not None:
                info[name] = getattr(self, name)
        return info


@base.AttachWorkerObjectRegistry.register
class OperationError(base.AttachWorkerObject):
    """Why an operation failed."""

    # Version 1.0: Initial version
    VERSION = '1.0'

    fields = {
        #: One of fields.ERROR_CODES.
        'code': fields.ErrorCodeField(),
        #: Atom of the first cause ('ConnectTarget:…'); null: before any.
        'step': fields.TextField(nullable=True),
        #: For people: what is wrong and what to do.
        'message': fields.TextField(),
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
    VERSION = '1.0'

    fields = {
        #: Of the request.
        'request_id': fields.IdentifierField(),
        #: Of the request; null: it named none.
        'attachment_id': fields.IdentifierField(nullable=True),
        #: 'attach', 'detach' or 'extend'.
        'operation': fields.OperationField(),
        #: 'attached', 'detached', 'extended' or 'failed'.
        'status': fields.StatusField(),
        #: What was attached or extended.
        'device': ovo_fields.ObjectField('DeviceInfo', nullable=True),
        #: Bytes before an extend.
        'old_size': fields.BoundedIntegerField(
            0, request.MAX_SIZE, nullable=True
        ),
        #: Why it failed; null: it did not.
        'error': ovo_fields.ObjectField('OperationError', nullable=True),
        #: What the caller ought to know, for people.
        'warnings': ovo_fields.ListOfStringsField(default=[]),
        #: What could not be put back; empty: the host is as before.
        'leftovers': ovo_fields.ListOfStringsField(default=[]),
        #: Seconds that each step took, by atom name.
        'timings': fields.DictOfFloatsField(default={}),
    }


@base.AttachWorkerObjectRegistry.register
class Attachment(base.AttachWorkerObject):
    """What a worker knows of one attachment."""

    # Version 1.0: Initial version
    VERSION = '1.0'

    fields = {
        #: Chosen by the caller of the attach.
        'attachment_id': fields.IdentifierField(),
        #: Id in the caller's world; null: it was not said.
        'volume_id': fields.IdentifierField(nullable=True),
        #: 'iscsi', 'nvmeof', 'rbd' or 'local'.
        'protocol': fields.ProtocolField(),
        #: 'attaching', 'attached', 'degraded', 'detaching', 'missing' or
        #: 'failed'.
        'state': fields.AttachmentStateField(),
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
