# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Every error that attachworker reports, with its code on the wire."""

from collections.abc import Sequence
from typing import Any

_JSON = str | int | float | None


class AttachWorkerError(Exception):
    """Base of all errors; ``code`` is the error code of the contract."""

    code = 'internal'
    msg_fmt = 'An unexpected error occurred; see the log of the worker.'
    #: Whether the same request may succeed later without any change.
    retryable = False
    #: The atom that it is blamed on, where that is not the one that raised.
    step: str | None = None

    def __init__(self, message: str | None = None, **kwargs: Any) -> None:
        # They cross the bus.
        self.kwargs = {
            name: value if isinstance(value, _JSON) else str(value)
            for name, value in kwargs.items()
        }
        super().__init__(_legible(message or self.msg_fmt % kwargs))


def _legible(text: str) -> str:
    """A text with what cannot be shown, or be UTF-8, in Python's spelling.

    A name on this host may be any bytes, and an error may speak of it.
    """
    if text.isprintable():
        return text
    return ''.join(
        one
        if one.isprintable() or one in '\n\t'
        else one.encode('unicode_escape').decode()
        for one in text
    )


class RetryableError(AttachWorkerError):
    """Base of those after which the same request may succeed later."""

    retryable = True


class InvalidConnectionInfo(AttachWorkerError):
    """A value of a request breaks a rule; secrets are never quoted."""

    code = 'invalid_connection_info'
    msg_fmt = 'Invalid value for %(key)s: %(rule)s.'


class PortalNotAllowed(AttachWorkerError):
    """A portal is where this host has no storage, says its administrator."""

    code = 'invalid_connection_info'
    msg_fmt = (
        'Portal %(portal)s (%(addresses)s) is in no network that option '
        'portal_networks allows, and nothing was sent there. If it is '
        'storage of this host, add its network to that option and restart '
        'the worker; a loopback or link-local network has to be listed by '
        'itself.'
    )


class UnsupportedProtocol(AttachWorkerError):
    code = 'unsupported_protocol'
    msg_fmt = 'Volumes of type %(protocol)s cannot be attached: %(reason)s.'


class TargetUnreachable(RetryableError):
    code = 'target_unreachable'
    msg_fmt = (
        'Portal %(portal)s does not answer (%(reason)s); check the '
        'network between this host and the storage.'
    )


class TargetQuarantined(RetryableError):
    """A verb that cannot be stopped still acts on what a request needs."""

    code = 'target_unreachable'
    msg_fmt = (
        '%(verb)s of %(about)s has not returned for %(seconds)s s and cannot '
        'be stopped, so nothing else is begun there. Look at the storage, at '
        'dmesg, and for processes in state D (ps -eLo pid,stat,wchan,args): '
        'they end once the storage answers, at the latest with a reboot. '
        'Then send the request again.'
    )


class LoginFailed(RetryableError):
    code = 'login_failed'
    msg_fmt = (
        'Login to %(target)s at %(portal)s failed (%(reason)s); check '
        'that the target exists and admits this initiator.'
    )


class AuthFailed(AttachWorkerError):
    code = 'auth_failed'
    msg_fmt = (
        '%(target)s at %(portal)s refused the credentials; check the '
        'CHAP settings of both sides.'
    )


class CephKeyRefused(AttachWorkerError):
    code = 'auth_failed'
    msg_fmt = 'There is no access to the image as client.%(user)s: %(reason)s.'


class DeviceNotFound(RetryableError):
    code = 'device_not_found'
    msg_fmt = (
        '%(volume)s did not appear; check '
        'that the volume is mapped to this initiator.'
    )


class WwnNotFound(AttachWorkerError):
    code = 'wwn_not_found'
    msg_fmt = (
        'Device %(device)s reports no usable identifier (VPD page '
        '0x83 of a SCSI disk); the volume cannot be told from others.'
    )


class IdentityMismatch(AttachWorkerError):
    code = 'identity_mismatch'
    msg_fmt = (
        'Device %(device)s is %(found)s, not the wanted %(expected)s; '
        'it was left alone. Check for a stale or wrong LUN mapping.'
    )


class MultipathFailed(AttachWorkerError):
    code = 'multipath_failed'
    msg_fmt = 'No usable multipath map: %(reason)s.'


class NotEnoughPaths(RetryableError):
    code = 'not_enough_paths'
    msg_fmt = 'Only %(found)s of the %(wanted)s wanted paths are usable.'


class DeviceInUse(RetryableError):
    code = 'in_use'
    msg_fmt = (
        'Device %(device)s is in use by %(users)s; stop its users '
        'first, or force the detach.'
    )


class DeviceOfHost(AttachWorkerError):
    """Nobody may take that away, or be given it, whatever he is told."""

    code = 'in_use'
    msg_fmt = (
        'Device %(device)s is in use by this host: %(what)s. It is never '
        'given away or removed, not even by force; check which device the '
        'request names.'
    )


class ForeignDevice(AttachWorkerError):
    """It is somebody else's, who may be using it."""

    code = 'in_use'
    msg_fmt = (
        'This worker has not attached %(device)s, and does not take by force '
        'what others have attached. Detach without force once nobody uses '
        'it; or set option allow_forced_foreign_detach and start the worker '
        'again.'
    )


class FlushFailed(RetryableError):
    code = 'flush_failed'
    msg_fmt = (
        'Device %(device)s could not be flushed (%(reason)s); nothing '
        'was removed. Mend its paths, or force the detach.'
    )


class ExtendFailed(RetryableError):
    code = 'extend_failed'
    msg_fmt = 'Device %(device)s could not be extended: %(reason)s.'


class EncryptionFailed(AttachWorkerError):
    code = 'encryption_failed'
    msg_fmt = 'Encryption of %(device)s failed: %(reason)s.'


class DeadlineExceeded(RetryableError):
    code = 'deadline_exceeded'
    msg_fmt = 'The deadline of the request passed in step %(step)s.'


class OperationCancelled(RetryableError):
    code = 'cancelled'
    msg_fmt = 'The request was cancelled before %(step)s.'


class AttachmentConflict(AttachWorkerError):
    code = 'attachment_conflict'
    msg_fmt = '%(what)s is already known with other content; use a new id.'


class AttachmentNotFound(AttachWorkerError):
    code = 'attachment_not_found'
    msg_fmt = 'Attachment %(attachment_id)s is not known on this host.'


class WorkerBusy(RetryableError):
    code = 'busy'
    msg_fmt = 'The queue of this host is full; send the request again later.'


class HostToolMissing(AttachWorkerError):
    code = 'host_tool_missing'
    msg_fmt = '%(tool)s is not available on this host: %(reason)s.'


class HostToolFailed(RetryableError):
    code = 'host_tool_failed'
    msg_fmt = '%(what)s failed: %(reason)s.'

    @classmethod
    def from_os_error(cls, error: OSError, what: str) -> 'HostToolFailed':
        """What the kernel has refused, for somebody to mend.

        :param what: was being done, should the error not tell what was read
        """
        if error.filename is not None:
            what = f'Reading {error.filename}'
        return cls(what=what, reason=error.strerror or str(error))


class WorkerRestarted(AttachWorkerError):
    msg_fmt = (
        'The worker was restarted %(times)s times during this operation, so '
        'the operation is not tried again. Find the cause in the log of the '
        'worker, then send a new request.'
    )


class LaterRequestEnded(AttachWorkerError):
    msg_fmt = (
        'A later request for the same attachment has ended since, so this one '
        'is not tried again. Look at the attachment, and send a new request '
        'if its state is not the one that you want.'
    )


class UndoFailed(RetryableError):
    code = 'host_tool_failed'
    msg_fmt = (
        'The worker was restarted during the attach, and what it had done '
        'could not be undone at once. Send a new request once nothing of the '
        'attachment is left over.'
    )


class SecretsLost(RetryableError):
    msg_fmt = (
        'The worker or its host was restarted before the request had ended. '
        'Its passwords were not kept, so it cannot be continued. Send a new '
        'request.'
    )


class RequestNotFound(AttachWorkerError):
    """Raised to the caller of get_result; never the code of a result."""

    msg_fmt = 'Request %(request_id)s is not known on this host.'


class ConfigurationError(AttachWorkerError):
    """The worker cannot start with these options."""

    msg_fmt = 'Option %(option)s: %(reason)s.'


class JournalUnavailable(AttachWorkerError):
    """The journal cannot be read or written: no new work is taken.

    :ivar passing: whether the same may succeed later, with no change here
    """

    msg_fmt = 'The journal at %(path)s is not usable: %(reason)s.'
    retryable = True
    passing = True


class RecordUnreadable(JournalUnavailable):
    """One record makes no sense; the others do."""

    msg_fmt = (
        'What the journal has of %(what)s cannot be read (%(reason)s). Start '
        'the version of the worker that wrote it; or detach with force, by '
        'attachment_id and connection_info, which forgets it.'
    )
    retryable = False
    passing = False


class IllegalStateChange(AttachWorkerError):
    """A bug: the journal stays as it is."""

    msg_fmt = 'Attachment %(attachment_id)s: %(before)s before %(after)s.'


class HostNotFound(RetryableError):
    """Raised to the caller: no worker has ever listened under this name."""

    msg_fmt = (
        'No attachworker serves host %(host)s: check the name, and '
        'that the worker of that host has been started.'
    )


class BusUnavailable(RetryableError):
    """Raised to the caller: the request did not reach the broker."""

    msg_fmt = (
        'The message bus at %(broker)s cannot be reached (%(reason)s); check '
        'transport_url and the broker.'
    )


class OperationFailed(AttachWorkerError):
    """Raised by the client, if asked to, for a result that is a failure.

    :ivar result: the OperationResult, with code, step and leftovers.
    """

    def __init__(
        self, message: str | None = None, result: Any = None, **kwargs: Any
    ) -> None:
        self.result = result
        super().__init__(message, **kwargs)


# -- what attachworker.brick raises: the names of os-brick's errors


class BrickException(Exception):
    """Base of what code written for os-brick catches.

    :ivar msg: the text, as os-brick's callers read it
    :ivar result: the OperationResult that it was made of; None: there is
        none. It has our own code, the step and the leftovers.
    """

    message = 'The volume operation failed.'
    #: As of HTTP; callers of os-brick may look at it.
    code = 500

    def __init__(
        self, message: str | None = None, result: Any = None, **kwargs: Any
    ) -> None:
        self.kwargs = kwargs
        self.msg = message or self.message % kwargs
        self.result = result
        super().__init__(self.msg)


class NotFound(BrickException):
    message = 'It was not found.'
    code = 404


class Invalid(BrickException):
    message = 'A value is not acceptable.'
    code = 400


class InvalidParameterValue(Invalid):
    """A value of the connection properties breaks a rule."""

    message = '%(err)s'


class InvalidConnectorProtocol(ValueError):
    """There is no connector for this protocol."""


class ProtocolNotSupported(BrickException):
    message = 'Volumes of type %(protocol)s cannot be connected.'


class CommandExecutionFailed(BrickException):
    message = '%(cmd)s failed.'


class VolumeDeviceNotFound(BrickException):
    """The volume did not appear on the host, or another one did."""

    message = 'Volume device not found at %(device)s.'


class TargetPortalNotFound(VolumeDeviceNotFound):
    """No login to a portal.

    os-brick has no such relation of the two, but reports a portal that is
    dead as a device that is not found: who catches that gets this, too.
    """

    message = 'Target portal %(target_portal)s was not found.'


class TargetPortalsNotFound(TargetPortalNotFound):
    message = 'None of the target portals %(target_portals)s was found.'


class VolumePathsNotFound(BrickException):
    message = 'The volume has no paths on this host.'


class VolumePathNotRemoved(BrickException):
    """The device is still there: in use, or not flushed, or stuck."""

    message = 'Volume path %(volume_path)s was not removed.'


class ExceptionChainer(BrickException):
    """What went wrong in a forced disconnect.

    :ivar exceptions: one error or more
    """

    message = 'Something could not be removed.'

    def __init__(
        self,
        message: str | None = None,
        exceptions: Sequence[Exception] = (),
        **kwargs: Any,
    ) -> None:
        self.exceptions = tuple(exceptions)
        super().__init__(
            message or '; '.join(map(str, exceptions)) or None, **kwargs
        )

    def __bool__(self) -> bool:
        return bool(self.exceptions)
