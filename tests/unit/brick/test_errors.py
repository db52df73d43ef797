# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Errors have the names that os-brick gives them."""

from typing import Any

import oslo_messaging as messaging
import pytest

from attachworker import brick
from attachworker import exception
from attachworker.objects import fields
from tests.unit.brick.fake_client import DATA
from tests.unit.brick.fake_client import IQN
from tests.unit.brick.fake_client import PLURAL
from tests.unit.brick.fake_client import PORTALS
from tests.unit.brick.fake_client import FakeClient
from tests.unit.brick.fake_client import connect

# -- disconnect


def test_disconnect_also_says_where_the_volume_is(worker: FakeClient) -> None:
    """So that what os-brick has connected is found, too."""
    brick.RemoteConnector().disconnect_volume(DATA, None, force=True)
    [asked] = worker.asked
    assert [str(one) for one in asked['connection_info'].targets] == [
        f'192.0.2.1:3260,{IQN},1'
    ]
    assert asked['force'] is True


def test_errors_of_a_disconnect(worker: FakeClient) -> None:
    connector = brick.RemoteConnector()
    worker.code = 'in_use'
    # Without force an error is raised, whatever else is said
    for ignore in (False, True):
        with pytest.raises(exception.VolumePathNotRemoved) as caught:
            connector.disconnect_volume(DATA, None, ignore_errors=ignore)
        assert caught.value.result.error.code == 'in_use'
    # With force they come as a chain
    with pytest.raises(exception.ExceptionChainer) as chain:
        connector.disconnect_volume(DATA, None, force=True)
    assert chain.value
    [inner] = chain.value.exceptions
    assert isinstance(inner, exception.VolumePathNotRemoved)
    assert inner.msg in str(chain.value)
    # unless they are to be ignored
    connector.disconnect_volume(DATA, None, force=True, ignore_errors=True)


def test_no_answer_is_not_ignored(worker: FakeClient) -> None:
    worker.raises = messaging.MessagingTimeout()
    with pytest.raises(exception.BrickException, match='did not answer'):
        brick.RemoteConnector().disconnect_volume(
            DATA, None, force=True, ignore_errors=True
        )


@pytest.mark.parametrize(
    ('data', 'device_info', 'path'),
    [
        (DATA | {'device_path': '/dev/sdb'}, {'path': '/dev/sda'}, '/dev/sda'),
        (DATA | {'device_path': '/dev/sdb'}, {'type': 'block'}, '/dev/sdb'),
        (DATA | {'device_path': '/dev/sdb'}, None, '/dev/sdb'),
        (DATA, None, ''),
    ],
)
def test_an_error_names_the_device_of_the_caller(
    worker: FakeClient, data: Any, device_info: Any, path: str
) -> None:
    worker.code = 'in_use'
    with pytest.raises(exception.VolumePathNotRemoved) as caught:
        brick.RemoteConnector().disconnect_volume(data, device_info)
    assert caught.value.kwargs['volume_path'] == path


# -- errors

ATTACH = {
    'target_unreachable': 'TargetPortalNotFound',
    'login_failed': 'TargetPortalNotFound',
    'auth_failed': 'TargetPortalNotFound',
    'device_not_found': 'VolumeDeviceNotFound',
    'wwn_not_found': 'VolumeDeviceNotFound',
    'identity_mismatch': 'VolumeDeviceNotFound',
    'deadline_exceeded': 'VolumeDeviceNotFound',
    'not_enough_paths': 'VolumePathsNotFound',
}
DETACH = dict.fromkeys(
    ('in_use', 'flush_failed', 'identity_mismatch', 'deadline_exceeded'),
    'VolumePathNotRemoved',
)
EXTEND = {
    'attachment_not_found': 'VolumePathsNotFound',
    'device_not_found': 'VolumeDeviceNotFound',
    'identity_mismatch': 'VolumeDeviceNotFound',
}
ALL = {
    'invalid_connection_info': 'InvalidParameterValue',
    'unsupported_protocol': 'ProtocolNotSupported',
    'host_tool_missing': 'CommandExecutionFailed',
    'host_tool_failed': 'CommandExecutionFailed',
}


@pytest.mark.parametrize('code', fields.ERROR_CODES)
def test_each_code_is_an_error_of_os_brick(
    worker: FakeClient, code: str
) -> None:
    worker.code = code
    connector = brick.RemoteConnector()
    for method, arguments, names in (
        (connector.connect_volume, (DATA,), ATTACH),
        (connector.disconnect_volume, (DATA, None), DETACH),
        (connector.extend_volume, (DATA,), EXTEND),
    ):
        with pytest.raises(exception.BrickException) as caught:
            method(*arguments)
        name = (ALL | names).get(code, 'BrickException')
        assert type(caught.value).__name__ == name
        assert caught.value.msg.startswith('What is wrong.')
        assert code in caught.value.msg
        assert 'SomeStep' in caught.value.msg


def test_several_portals(worker: FakeClient) -> None:
    worker.code = 'target_unreachable'
    with pytest.raises(exception.TargetPortalsNotFound) as caught:
        connect(worker, PLURAL, use_multipath=True)
    assert caught.value.kwargs['target_portals'] == PORTALS
    # whoever catches what os-brick raises for a dead portal catches it
    assert isinstance(caught.value, exception.VolumeDeviceNotFound)


@pytest.mark.parametrize(
    ('data', 'named'),
    [
        ({}, 'target_portal'),
        (DATA | {'target_lun': 'x'}, 'target_lun'),
        (DATA | {'addressing_mode': 'x'}, 'addressing_mode'),
        (PLURAL | {'target_iqns': [IQN] * 3}, 'target_portals'),
    ],
)
def test_bad_data_never_reaches_the_worker(
    worker: FakeClient, data: Any, named: str
) -> None:
    connector = brick.RemoteConnector()
    for method in (connector.connect_volume, connector.extend_volume):
        with pytest.raises(exception.InvalidParameterValue, match=named):
            method(data)
    assert worker.asked == []


@pytest.mark.parametrize(
    'error',
    [
        exception.HostNotFound(host='compute-1'),
        exception.BusUnavailable(broker='b:5672', reason='refused'),
        messaging.MessagingTimeout(),
        messaging.RemoteError('KeyError', 'secret-of-the-worker'),
        messaging.UnsupportedVersion('1.0'),
    ],
)
def test_trouble_with_the_bus(worker: FakeClient, error: Exception) -> None:
    worker.raises = error
    with pytest.raises(exception.BrickException) as caught:
        connect(worker, DATA)
    assert type(caught.value) is exception.BrickException
    assert caught.value.__cause__ is error
    assert 'secret' not in caught.value.msg
