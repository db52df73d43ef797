# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The client's own work: requests, and sending them again."""

from typing import Any

import oslo_messaging as messaging
import pytest

from attachworker import client
from attachworker import exception
from attachworker import objects

INFO = {
    'driver_volume_type': 'iscsi',
    'data': {
        'target_portal': '192.0.2.1:3260',
        'target_lun': 1,
        'target_iqn': 'iqn.2010-10.org.openstack:volume-1',
    },
}


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> client.AttachWorkerClient:
    monkeypatch.setattr(client, '_PAUSE_FIRST', 0.01)
    return client.AttachWorkerClient('rabbit://192.0.2.1/', 'one')


def answer(status: str, *errors: Exception) -> Any:
    """An API method that first raises all errors, then answers."""
    pending = list(errors)

    def method(
        ctxt: Any, host: str, request: Any, timeout: float
    ) -> objects.OperationResult:
        method.sent.append(request.request_id)  # type: ignore[attr-defined]
        if pending:
            raise pending.pop(0)
        return objects.OperationResult(
            request_id=request.request_id, operation='detach', status=status
        )

    method.sent = []  # type: ignore[attr-defined]
    return method


def request(name: str = 'r-1') -> objects.DetachRequest:
    return objects.DetachRequest(request_id=name, attachment_id='a-1')


def test_bad_input_is_found_before_anything_is_sent(
    node: client.AttachWorkerClient,
) -> None:
    with pytest.raises(exception.InvalidConnectionInfo, match='target_lun'):
        node.attach_volume(
            {
                'driver_volume_type': 'iscsi',
                'data': {**INFO['data'], 'target_lun': 'x'},
            }
        )  # type: ignore[dict-item]
    with pytest.raises(exception.InvalidConnectionInfo, match='attachment_id'):
        node.detach_volume()


def test_each_operation_has_its_method(
    node: client.AttachWorkerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for method, given in {
        'attach_volume': (INFO,),
        'detach_volume': ('a-1',),
        'extend_volume': ('a-1',),
        'rotate_encryption_key': ('a-1', 'old', 'new'),
    }.items():
        api = answer('detached')
        monkeypatch.setattr(node.api, method, api)
        getattr(node, method)(*given, request_id='r-2')
        assert api.sent == ['r-2']
    with pytest.raises(exception.InvalidConnectionInfo, match='new_key'):
        node.rotate_encryption_key('a-1', 'same', 'same')


def test_no_answer_sends_the_same_request_again(
    node: client.AttachWorkerClient,
) -> None:
    method = answer(
        'detached',
        messaging.MessagingTimeout(),
        exception.BusUnavailable(broker='b:5672', reason='gone'),
    )
    assert node.send(method, request(), timeout=5).status == 'detached'
    assert method.sent == ['r-1'] * 3


def test_the_deadline_ends_it(node: client.AttachWorkerClient) -> None:
    method = answer('detached', *[messaging.MessagingTimeout()] * 1000)
    with pytest.raises(messaging.MessagingTimeout):
        node.send(method, request(), timeout=0.2)
    assert 2 <= len(method.sent) <= 6


def test_other_errors_are_not_tried_again(
    node: client.AttachWorkerClient,
) -> None:
    method = answer('detached', exception.HostNotFound(host='one'))
    with pytest.raises(exception.HostNotFound):
        node.send(method, request(), timeout=5)
    assert method.sent == ['r-1']


def test_a_worker_that_nobody_finds_may_have_the_request(
    node: client.AttachWorkerClient,
) -> None:
    """For as long as the broker has lost what leads to it, for example."""
    method = answer(
        'detached',
        messaging.MessagingTimeout(),
        exception.HostNotFound(host='one'),
    )
    assert node.send(method, request(), timeout=5).status == 'detached'
    assert method.sent == ['r-1'] * 3


def test_close_gives_up(node: client.AttachWorkerClient) -> None:
    node.close()
    node.close()
    method = answer('detached', messaging.MessagingTimeout())
    with pytest.raises(messaging.MessagingTimeout):
        node.send(method, request(), timeout=60)
