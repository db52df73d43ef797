# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

import base64
import json
import pathlib
import time
from typing import Any

import pytest

from attachworker import exception
from attachworker import objects
from attachworker.bus import serializer
from attachworker.bus.secrets import WireSecrets
from attachworker.objects import sealing
from tests.unit.objects import shapes

ONE = bytes(range(32))
TWO = bytes(range(1, 33))
DATA = 'versioned_object.data'
CANARY = shapes.CANARY


def request(request_id: str = 'r') -> objects.AttachRequest:
    made = objects.AttachRequest(
        request_id=request_id,
        attachment_id='a',
        connection_info=shapes.lio(),
        encryption={'provider': 'luks2', 'key': f'{CANARY}-key'},
    )
    made.validate()
    return made


def sent(secrets: WireSecrets, request_id: str = 'r', host: str = '') -> Any:
    """As it arrives."""
    return json.loads(
        json.dumps(
            serializer.ObjectSerializer(secrets, host=host).serialize_entity(
                {}, request(request_id)
            )
        )
    )


def received(primitive: Any, secrets: WireSecrets | None) -> Any:
    found = serializer.from_wire(
        primitive, objects.AttachRequest, 'request', secrets
    )
    found.validate()
    return found


def refused(primitive: Any, secrets: WireSecrets | None) -> str:
    with pytest.raises(exception.InvalidConnectionInfo) as caught:
        received(primitive, secrets)
    assert CANARY not in str(caught.value)
    return str(caught.value)


def test_there_and_back() -> None:
    primitive = sent(WireSecrets({'one': ONE}))
    assert CANARY not in json.dumps(primitive)
    found = received(primitive, WireSecrets({'one': ONE}, required=True))
    assert found.obj_to_primitive() == request().obj_to_primitive()


def test_rotation() -> None:
    # Given a worker that has the new key, too
    worker = WireSecrets({'one': ONE, 'two': TWO}, required=True)
    # Then callers may have the old one, or the new one and the old one
    for caller in ({'one': ONE}, {'two': TWO, 'one': ONE}):
        received(sent(WireSecrets(caller)), worker)
    # And once it has dropped the old one, it says what is wrong
    text = refused(sent(WireSecrets({'one': ONE})), WireSecrets({'two': TWO}))
    assert 'key one' in text
    assert 'it has: two' in text


def test_never_downgraded() -> None:
    plain = sent(WireSecrets())
    assert CANARY in json.dumps(plain)
    text = refused(plain, WireSecrets({'one': ONE}, required=True))
    assert 'must be sealed' in text
    assert 'one' in text
    # Where it is not required it is taken
    received(plain, WireSecrets({'one': ONE}))
    received(plain, None)


@pytest.mark.parametrize('worker', [None, WireSecrets()])
def test_sealed_is_never_taken_for_a_password(
    worker: WireSecrets | None,
) -> None:
    """A worker without a key would log in with it otherwise."""
    refused(sent(WireSecrets({'one': ONE})), worker)


def test_bound_to_its_request_and_its_place() -> None:
    secrets = WireSecrets({'one': ONE})
    # Given a sealed password, put into another request
    theirs = sent(secrets, 'other')
    theirs[DATA]['request_id'] = 'r'
    assert 'for another request' in refused(theirs, secrets)
    # Or into another place of the same one
    moved = sent(secrets)
    info = moved[DATA]['connection_info'][DATA]
    info['auth_password'] = moved[DATA]['encryption'][DATA]['key']
    assert 'cannot be opened' in refused(moved, secrets)


def other(primitive: Any, **changes: Any) -> Any:
    """The same, but for some fields: ``connection_info__wwn`` is nested."""
    changed = json.loads(json.dumps(primitive))
    for path, value in changes.items():
        *parents, name = path.split('__')
        place = changed[DATA]
        for parent in parents:
            place = place[parent][DATA]
        assert place[name] != value
        place[name] = value
    return changed


@pytest.mark.parametrize(
    'changes',
    [
        {'attachment_id': 'z'},
        {'deadline_seconds': 86400},
        {'expected_wwn': 'naa.6001405'},
        {'multipath': True},
        {'encryption__may_format': True},
        {'encryption__provider': 'plain'},
        {'connection_info__target_list': []},
        {'connection_info__access_mode': 'ro'},
        {'connection_info__auth_username': 'root'},
        {'connection_info__auth_password_in': 'x'},
        {'reply_to': {}},
    ],
    ids=str,
)
def test_opens_in_the_very_request_alone(changes: dict[str, Any]) -> None:
    """Who reads the bus can put what is sealed into a request of his own."""
    secrets = WireSecrets({'one': ONE})
    stolen = other(sent(secrets), **changes)
    assert 'for another request' in refused(stolen, secrets)


def test_opens_at_its_host_alone() -> None:
    primitive = sent(WireSecrets({'one': ONE}), host='node1')
    text = refused(primitive, WireSecrets({'one': ONE}, host='node2'))
    assert 'for another host' in text
    received(primitive, WireSecrets({'one': ONE}, host='node1'))


def test_opens_in_no_other_operation() -> None:
    secrets = WireSecrets({'one': ONE})
    primitive = sent(secrets)
    primitive['versioned_object.name'] = 'ExtendRequest'
    for name in primitive[DATA].keys() - {
        'request_id', 'attachment_id', 'encryption'
    }:  # fmt: skip
        del primitive[DATA][name]
    with pytest.raises(exception.InvalidConnectionInfo, match='cannot be op'):
        serializer.from_wire(
            primitive, objects.ExtendRequest, 'request', secrets
        )


@pytest.mark.parametrize('seconds', [-3601, 3601])
def test_opens_for_a_while_alone(
    monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    worker = WireSecrets({'one': ONE}, window=3600)
    now = time.time()
    with monkeypatch.context() as patched:
        patched.setattr(time, 'time', lambda: now + seconds)
        primitive = sent(WireSecrets({'one': ONE}))
    text = refused(primitive, worker)
    assert 'good for 3600 seconds' in text
    assert 'both clocks' in text
    # Nor is it younger by what it says of itself
    info = primitive[DATA]['connection_info'][DATA]
    mark, form, key, _, rest = info['auth_password'].split(':')
    info['auth_password'] = ':'.join((mark, form, key, str(int(now)), rest))
    assert 'cannot be opened' in refused(primitive, worker)


def test_the_form_of_the_release_before_is_opened_and_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Given a request as the release before this one has sealed it
    primitive = sent(WireSecrets())
    places = {
        'auth_password': primitive[DATA]['connection_info'][DATA],
        'key': primitive[DATA]['encryption'][DATA],
    }
    for name, place in places.items():
        where = {'key': 'r/.encryption.key'}.get(
            name, 'r/.connection_info.auth_password'
        )
        sealed = base64.b64encode(sealing.seal(ONE, place[name], where))
        place[name] = f'\0sealed:1:one:{sealed.decode()}'
    # Then it is opened, and said to be the last of its kind
    worker = WireSecrets({'one': ONE}, required=True, host='node1', window=60)
    for _ in range(2):
        found = received(primitive, worker)
        assert found.obj_to_primitive() == request().obj_to_primitive()
    said = [one for one in caplog.messages if 'next release' in one]
    assert len(said) == 1
    assert CANARY not in caplog.text
    # And no other form is taken for it
    changed = json.loads(json.dumps(primitive).replace('sealed:1', 'sealed:3'))
    assert 'a form that' in refused(changed, worker)


@pytest.mark.parametrize(
    'text',
    [
        '',
        'one',
        'one:',
        'one:no base64',
        'one:AAAA',
        f'{CANARY}\n:AAAA',
        f'{CANARY} {CANARY}:',
        'one:1:AAAA',
        'one:x:AAAA',
        f'one:{"9" * 12}:AAAA',
        'one:٣:AAAA',
    ],
)
@pytest.mark.parametrize('form', ['1', '2', '', CANARY])
def test_nonsense_is_refused(form: str, text: str) -> None:
    primitive = sent(WireSecrets())
    info = primitive[DATA]['connection_info'][DATA]
    info['auth_password'] = f'\0sealed:{form}:{text}'
    assert 'auth_password' in refused(primitive, WireSecrets({'one': ONE}))


@pytest.mark.parametrize('value', [None, 7, [], {}, 'text', [[[]]]])
def test_nonsense_objects_are_refused(value: Any) -> None:
    primitive = sent(WireSecrets())
    primitive[DATA]['connection_info'] = value
    refused(primitive, WireSecrets({'one': ONE}))
    refused(value, WireSecrets({'one': ONE}))


def test_nested_without_end() -> None:
    deep: Any = {}
    for _ in range(100_000):
        deep = [deep]
    primitive = sent(WireSecrets())
    primitive[DATA]['connection_info'] = deep
    refused(primitive, WireSecrets({'one': ONE}))


# -- the file


def line(key_id: str, key: bytes) -> str:
    return f'{key_id} {base64.b64encode(key).decode()}\n'


def key_file(path: pathlib.Path, text: str, mode: int = 0o600) -> str:
    found = path / 'keys'
    found.write_text(text)
    found.chmod(mode)
    return str(found)


def test_a_file_of_keys(tmp_path: pathlib.Path) -> None:
    text = f'# rotated\n{line("two", TWO)}\n{line("one", ONE)}'
    secrets = WireSecrets.read(key_file(tmp_path, text))
    assert secrets.describe() == {
        'required': True,
        'key_ids': ['two', 'one'],
    }
    received(sent(secrets), WireSecrets({'two': TWO}))
    lenient = WireSecrets.read(key_file(tmp_path, text), False)
    assert lenient.describe()['required'] is False


def test_no_file() -> None:
    assert WireSecrets.read(None).describe() == {
        'required': False,
        'key_ids': [],
    }
    with pytest.raises(exception.ConfigurationError, match='required'):
        WireSecrets.read(None, True)


@pytest.mark.parametrize(
    ('text', 'mode', 'said'),
    [
        ('', 0o600, 'no key'),
        (line('one', ONE), 0o640, 'chmod 600'),
        (line('one', ONE[:-1]), 0o600, 'line 1'),
        (line('one', ONE) + line('one', TWO), 0o600, 'twice'),
        (f'one {CANARY}', 0o600, 'line 1'),
        (CANARY, 0o600, 'line 1'),
        (line('-one', ONE), 0o600, 'line 1'),
        ('ä', 0o600, 'ASCII'),
    ],
)
def test_a_file_that_makes_no_sense(
    tmp_path: pathlib.Path, text: str, mode: int, said: str
) -> None:
    path = key_file(tmp_path, text, mode)
    with pytest.raises(exception.ConfigurationError) as caught:
        WireSecrets.read(path)
    assert said in str(caught.value)
    assert path in str(caught.value)
    assert CANARY not in str(caught.value)
    with pytest.raises(exception.ConfigurationError, match='No such file'):
        WireSecrets.read(f'{path}.not')


def test_both_keys_of_a_volume_whose_key_is_rotated() -> None:
    made = objects.RotateKeyRequest(
        request_id='r',
        attachment_id='a',
        old_key=f'{CANARY}-old',
        new_key=f'{CANARY}-new',
    )
    keys = WireSecrets({'one': ONE}, required=True)
    primitive = json.loads(
        json.dumps(
            serializer.ObjectSerializer(keys).serialize_entity({}, made)
        )
    )
    assert CANARY not in json.dumps(primitive)
    found = serializer.from_wire(
        primitive, objects.RotateKeyRequest, 'request', keys
    )
    assert found == made
    # And neither can be put in the place of the other one
    data = primitive[DATA]
    data['old_key'], data['new_key'] = data['new_key'], data['old_key']
    with pytest.raises(exception.InvalidConnectionInfo, match='another'):
        serializer.from_wire(
            primitive, objects.RotateKeyRequest, 'request', keys
        )
