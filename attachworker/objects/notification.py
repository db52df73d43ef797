# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What is told of an operation while it goes on."""

from oslo_versionedobjects import fields as ovo_fields

from attachworker.objects import base
from attachworker.objects import fields


@base.AttachWorkerObjectRegistry.register
class NotificationPayload(base.AttachWorkerObject):
    """The payload of all notifications; it travels as a plain dict.

    Fields are added, never taken away: a consumer leaves out what it does
    not know.
    """

    # Version 1.0: Initial version
    VERSION = '1.0'

    fields = {
        'request_id': fields.IdentifierField(),
        #: None: a detach by its connection_info has none.
        'attachment_id': fields.IdentifierField(nullable=True),
        #: The worker's name on the bus.
        'host': fields.TextField(),
        #: The step that has ended, or the one that has failed.
        'step': fields.TextField(nullable=True),
        #: Seconds: of the step, or since the operation was accepted.
        'elapsed': ovo_fields.FloatField(),
        #: Of the result; None before there is one.
        'status': fields.StatusField(nullable=True),
        'error': fields.ErrorCodeField(nullable=True),
    }
