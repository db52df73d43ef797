# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

import base64
import json
import pathlib
from typing import Any

import pytest

from attachworker import exception
from attachworker import objects
from attachworker.bus import serializer
from attachworker.bus.secrets import WireSecrets
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


def sent(secrets: WireSecrets, request_id: str = 'r') -> Any:
    """As it arrives."""
    return json.loads(
        json.dumps(
            serializer.ObjectSerializer(secrets).serialize_entity(
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
    other = sent(secrets, 'other')
    other[DATA]['request_id'] = 'r'
    assert 'for another request' in refused(other, secrets)
    # Or into another place of the same one
    moved = sent(secrets)
    info = moved[DATA]['connection_info'][DATA]
    info['auth_password'] = moved[DATA]['encryption'][DATA]['key']
    assert 'cannot be opened' in refused(moved, secrets)


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
    ],
)
def test_nonsense_is_refused(text: str) -> None:
    primitive = sent(WireSecrets())
    info = primitive[DATA]['connection_info'][DATA]
    info['auth_password'] = f'\0sealed:1:{text}'
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
