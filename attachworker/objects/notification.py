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
