# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What holds for any input, not only for the examples."""

import contextlib
import json
import traceback

import hypothesis
from hypothesis import strategies as st
import pytest

from attachworker import exception
from attachworker import objects
from attachworker.objects import rules
from tests.unit.objects import bad_values
from tests.unit.objects import shapes

# The same examples in each run, and no files.
always_the_same = hypothesis.settings(
    database=None, deadline=None, derandomize=True, max_examples=100
)

REFUSED = (exception.InvalidConnectionInfo, exception.UnsupportedProtocol)

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([value for _, value, _ in bad_values.BAD_VALUES])
)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.text(max_size=10), inner, max_size=5)
    ),
    max_leaves=10,
)
KEYS = st.sampled_from(
    sorted(
        set(objects.ISCSIConnectionInfo.fields)
        | {key for key, _, _ in bad_values.BAD_VALUES}
        | {'data', 'driver_volume_type'}
    )
)
TYPES = st.sampled_from(['iscsi', 'iSER', 'rbd', 'x']) | JSON

PORTALS = st.tuples(
    st.ip_addresses(v=4).map(str)
    | st.ip_addresses(v=6).map(lambda address: f'[{address.exploded}]')
    | st.from_regex(r'[a-z][a-z0-9]{0,8}(\.[A-Z][a-z]{1,3})?', fullmatch=True),
    st.sampled_from(['', ':1', ':3260', ':65535', ':3260,1']),
).map(''.join)


def write_and_read(info):
    primitive = json.loads(json.dumps(info.obj_to_primitive()))
    return objects.AttachWorkerObject.obj_from_primitive(primitive)


@always_the_same
@hypothesis.given(JSON)
def test_the_parser_raises_nothing_else_on_anything(given):
    with contextlib.suppress(*REFUSED):
        objects.ConnectionInfo.from_dict(given)


@always_the_same
@hypothesis.given(TYPES, st.dictionaries(KEYS, JSON), st.booleans())
def test_the_parser_raises_nothing_else_on_known_keys(kind, data, nested):
    given = {'data': data} if nested else data
    with contextlib.suppress(*REFUSED):
        objects.ConnectionInfo.from_dict(given | {'driver_volume_type': kind})


@always_the_same
@hypothesis.given(KEYS, JSON)
def test_what_is_accepted_is_a_valid_object_everywhere(key, value):
    hypothesis.assume(key not in ('data', 'driver_volume_type'))
    try:
        info = objects.ConnectionInfo.from_dict(shapes.lio(**{key: value}))
    except REFUSED:
        return

    received = write_and_read(info)
    received.validate()

    assert received == info
    assert received.as_dict() == info.as_dict()
    assert json.loads(json.dumps(info.as_dict())) == info.as_dict()


@always_the_same
@hypothesis.given(JSON)
def test_a_primitive_raises_nothing_else_on_anything(given):
    primitive = {
        'versioned_object.namespace': 'attachworker',
        'versioned_object.name': 'ISCSIConnectionInfo',
        'versioned_object.version': '1.0',
        'versioned_object.data': given,
    }
    with contextlib.suppress(*REFUSED):
        objects.AttachWorkerObject.obj_from_primitive(primitive).validate()


@always_the_same
@hypothesis.given(st.sampled_from(sorted(objects.AttachRequest.fields)), JSON)
def test_a_field_of_a_primitive_raises_nothing_else(name, value):
    request = objects.AttachRequest(
        request_id='r', attachment_id='a', connection_info=shapes.lio()
    )
    primitive = request.obj_to_primitive()
    primitive['versioned_object.data'][name] = value

    with contextlib.suppress(*REFUSED):
        objects.AttachWorkerObject.obj_from_primitive(primitive).validate()


@always_the_same
@hypothesis.given(PORTALS)
def test_the_form_of_a_portal_is_final(portal):
    try:
        canonical = rules.portal(portal)
    except rules.RuleBroken:
        hypothesis.reject()

    assert rules.portal(canonical) == canonical
    assert rules.portal(f'{canonical},1') == canonical
    assert rules.portal(canonical.upper()) == canonical


@always_the_same
@hypothesis.given(st.text() | st.from_regex('[23]?[0-9a-f:-]{16,36}'))
def test_the_form_of_an_identity_is_final(text):
    normal = objects.normalise_wwn(text)

    assert objects.normalise_wwn(normal) == normal


@always_the_same
@hypothesis.given(
    st.lists(
        st.tuples(
            st.ip_addresses(network='2001:db8::/32'), st.integers(1, 65535)
        ),
        min_size=1,
        max_size=5,
    ),
    st.randoms(use_true_random=False),
)
def test_one_connection_however_it_is_spelled(portals, random):
    plain = [f'[{address}]:{port}' for address, port in portals]
    odd = [
        f'[{address.exploded.upper()}]:{port:05},1'
        for address, port in portals
    ]
    random.shuffle(odd)

    keys = {
        objects.ConnectionInfo.from_dict(
            shapes.lio(
                target_portals=spelled,
                target_iqns=[name] * len(spelled),
                target_luns=[lun] * len(spelled),
            )
        ).connection_key(True)
        for spelled, name, lun in (
            (plain, shapes.IQN, 1),
            (odd, shapes.IQN.upper(), '1'),
        )
    }

    assert len(keys) == 1


SECRETS = st.text(min_size=1, max_size=40).map(
    lambda text: f'{shapes.CANARY}{text}{shapes.CANARY}'
)
SECRET_KEYS = st.sampled_from(
    [
        'auth_password',
        'auth_password_in',
        'discovery_auth_password',
        'discovery_auth_password_in',
    ]
)


@always_the_same
@hypothesis.given(SECRET_KEYS, SECRETS)
def test_no_secret_is_printed(key, secret):
    given = shapes.lio(
        auth_username_in='t',
        auth_password_in=shapes.CANARY,
        discovery_auth_method='CHAP',
        discovery_auth_username='d',
        discovery_auth_password=shapes.CANARY,
        discovery_auth_username_in='d',
        discovery_auth_password_in=shapes.CANARY,
    )
    given['data'][key] = secret
    try:
        request = objects.AttachRequest(
            request_id='r',
            attachment_id='a',
            connection_info=given,
            encryption={'provider': 'luks', 'key': secret},
        )
        request.validate()
    except REFUSED as error:
        printed = ''.join(traceback.format_exception(error, limit=0))
        printed += str(error) + repr(error)
    else:
        info = request.connection_info
        printed = ' '.join(
            [
                str(request),
                repr(request),
                str(info),
                repr(info),
                f'{request.encryption!r}',
                repr(request.as_dict()),
                info.connection_key(False),
            ]
        )
        assert '***' in printed

    assert shapes.CANARY not in printed


@pytest.mark.parametrize('field', ['encrypted', 'target_list', 'wwn'])
def test_a_secret_in_the_wrong_place_is_not_quoted(field):
    info = objects.ConnectionInfo.from_dict(shapes.lio())
    primitive = info.obj_to_primitive()
    primitive['versioned_object.data'][field] = [shapes.CANARY]

    with pytest.raises(exception.InvalidConnectionInfo) as caught:
        objects.AttachWorkerObject.obj_from_primitive(primitive)

    assert shapes.CANARY not in ''.join(
        traceback.format_exception(caught.value)
    )
