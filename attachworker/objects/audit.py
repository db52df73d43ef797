# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""What an audit has found: the journal against the kernel."""

from oslo_versionedobjects import fields as ovo_fields

from attachworker.objects import base
from attachworker.objects import fields


@base.AttachWorkerObjectRegistry.register
class AuditedAttachment(base.AttachWorkerObject):
    """How one attachment is."""

    # Version 1.0: Initial version
    VERSION = '1.0'

    fields = {
        'attachment_id': fields.IdentifierField(),
        #: 'ok'; 'degraded': there, but a path is not, or is dead; 'missing':
        #: its device is not there.
        'state': fields.AuditStateField(),
        #: For people; empty if it is ok.
        'detail': fields.TextField(default=''),
    }


@base.AttachWorkerObjectRegistry.register
class AuditFinding(base.AttachWorkerObject):
    """Something on the host that ought not to be there, or is not ours."""

    # Version 1.0: Initial version
    VERSION = '1.0'

    fields = {
        #: 'orphan': ours, and no attachment has it; 'stale': of an
        #: attachment, and dead or of another boot; 'foreign': not ours.
        'kind': fields.FindingKindField(),
        #: 'session 3', 'device sda', 'map dm-0', 'attachment …'.
        'what': fields.TextField(),
        #: For people.
        'detail': fields.TextField(default=''),
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
