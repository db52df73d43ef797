# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What travels over the bus.

Read :mod:`.request` first, then :mod:`.connection_info` and :mod:`.iscsi`
for where a volume is, then :mod:`.result`. All that is imported here is part
of the interface.
"""

from attachworker import threading_backend
from attachworker.objects.base import AttachWorkerObject
from attachworker.objects.connection_info import ConnectionInfo
from attachworker.objects.connection_info import Target
from attachworker.objects.fibre_channel import ANY_PORT
from attachworker.objects.fibre_channel import FibreChannelConnectionInfo
from attachworker.objects.fibre_channel import FibreChannelTarget
from attachworker.objects.fibre_channel import FibreChannelZone
from attachworker.objects.fibre_channel import PortTarget
from attachworker.objects.iscsi import ISCSIConnectionInfo
from attachworker.objects.iscsi import ISCSITarget
from attachworker.objects.local import LocalConnectionInfo
from attachworker.objects.mounts import FileTarget
from attachworker.objects.mounts import MountConnectionInfo
from attachworker.objects.mounts import directory_of
from attachworker.objects.mounts import server_of
from attachworker.objects.nvmeof import NVMeOFConnectionInfo
from attachworker.objects.nvmeof import NVMeOFPortal
from attachworker.objects.rbd import ImageTarget
from attachworker.objects.rbd import RBDConnectionInfo
from attachworker.objects.rbd import RBDMonitor
from attachworker.objects.request import METHODS
from attachworker.objects.request import REQUESTS
from attachworker.objects.request import AnyRequest
from attachworker.objects.request import AttachRequest
from attachworker.objects.request import DetachRequest
from attachworker.objects.request import Encryption
from attachworker.objects.request import ExtendRequest
from attachworker.objects.request import ReplyTo
from attachworker.objects.request import RotateKeyRequest
from attachworker.objects.result import NOT_KNOWN
from attachworker.objects.result import Attachment
from attachworker.objects.result import AuditedAttachment
from attachworker.objects.result import AuditFinding
from attachworker.objects.result import AuditReport
from attachworker.objects.result import DeviceInfo
from attachworker.objects.result import NotificationPayload
from attachworker.objects.result import OperationError
from attachworker.objects.result import OperationResult
from attachworker.objects.result import PathInfo
from attachworker.objects.rules import is_worldwide
from attachworker.objects.rules import normalise_wwn

#: The versions of all objects at each version of the RPC interface: what to
#: give to ``obj_to_primitive(target_version, version_manifest)`` for a peer
#: that is that old. A subclass is found under the name of its base by the
#: library, so it keeps the version of ConnectionInfo.
HISTORY = {
    '1.0': {
        'AttachRequest': '1.0',
        'Attachment': '1.0',
        'AuditFinding': '1.0',
        'AuditReport': '1.0',
        'AuditedAttachment': '1.0',
        'ConnectionInfo': '1.0',
        'DetachRequest': '1.0',
        'DeviceInfo': '1.0',
        'Encryption': '1.0',
        'ExtendRequest': '1.0',
        'FibreChannelConnectionInfo': '1.0',
        'FibreChannelTarget': '1.0',
        'FibreChannelZone': '1.0',
        'ISCSIConnectionInfo': '1.0',
        'ISCSITarget': '1.0',
        'LocalConnectionInfo': '1.0',
        'MountConnectionInfo': '1.0',
        'NVMeOFConnectionInfo': '1.0',
        'NVMeOFPortal': '1.0',
        'NotificationPayload': '1.0',
        'OperationError': '1.0',
        'OperationResult': '1.0',
        'PathInfo': '1.0',
        'RBDConnectionInfo': '1.0',
        'RBDMonitor': '1.0',
        'ReplyTo': '1.0',
    },
}

# What 1.1 has added.
HISTORY['1.1'] = {
    **HISTORY['1.0'],
    'NotificationPayload': '1.1',
    'OperationResult': '1.1',
    'RotateKeyRequest': '1.0',
}
