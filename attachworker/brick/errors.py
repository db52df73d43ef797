# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What os-brick would raise, made of what the worker answers."""

from collections.abc import Iterator
import contextlib

import oslo_messaging as messaging

from attachworker import exception
from attachworker import objects

_LOGIN = ('target_unreachable', 'login_failed', 'auth_failed')
_TOOL = ('host_tool_missing', 'host_tool_failed')
_SLOW = 'deadline_exceeded'

#: What os-brick raises for each code of ours, by operation; for all others
#: that is BrickException.
_CLASSES: dict[str, dict[str, type[exception.BrickException]]] = {
    'attach': dict.fromkeys(_LOGIN, exception.TargetPortalNotFound)
    | dict.fromkeys(
        ('device_not_found', 'wwn_not_found', 'identity_mismatch', _SLOW),
        exception.VolumeDeviceNotFound,
    )
    | {'not_enough_paths': exception.VolumePathsNotFound},
    'detach': dict.fromkeys(
        ('in_use', 'flush_failed', 'identity_mismatch', _SLOW),
        exception.VolumePathNotRemoved,
    ),
    'extend': {
        'attachment_not_found': exception.VolumePathsNotFound,
        'device_not_found': exception.VolumeDeviceNotFound,
        'identity_mismatch': exception.VolumeDeviceNotFound,
    },
}
for _classes in _CLASSES.values():
    _classes |= dict.fromkeys(_TOOL, exception.CommandExecutionFailed)
    _classes |= {
        'invalid_connection_info': exception.InvalidParameterValue,
        'unsupported_protocol': exception.ProtocolNotSupported,
    }


def made_of(
    result: objects.OperationResult,
    info: objects.ConnectionInfo,
    path: str,
    multipath: bool,
) -> exception.BrickException:
    """Return the error for a result that is a failure.

    :param path: of the device; may be empty.
    :param multipath: whether a map was wanted.
    """
    error = result.error
    assert error is not None
    found = _CLASSES[result.operation].get(
        error.code, exception.BrickException
    )
    if multipath and found is exception.TargetPortalNotFound:
        found = exception.TargetPortalsNotFound
    portals = [target.portal for target in info.targets]
    return found(
        f'{error.message} (code {error.code}, step {error.step})',
        result=result,
        device=path,
        volume_path=path,
        target_portal=portals[0],
        target_portals=portals,
    )


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Give what our own code and the bus raise os-brick's names."""
    try:
        yield
    except exception.InvalidConnectionInfo as error:
        raise exception.InvalidParameterValue(_text(error)) from error
    except exception.UnsupportedProtocol as error:
        raise exception.ProtocolNotSupported(_text(error)) from error
    except exception.AttachWorkerError as error:
        raise exception.BrickException(_text(error)) from error
    except messaging.MessagingTimeout as error:
        raise exception.BrickException(
            'The worker did not answer; what it was asked for may still be '
            'done.'
        ) from error
    except (messaging.MessagingException, messaging.RemoteError) as error:
        raise exception.BrickException(
            f'The worker could not be asked ({type(error).__name__}).'
        ) from error


def _text(error: exception.AttachWorkerError) -> str:
    # str() of an error that came from the worker has its traceback, too.
    return str(error.args[0])
