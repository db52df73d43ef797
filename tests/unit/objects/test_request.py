# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Requests: defaults, what must be there, what counts as content."""

import pytest

from attachworker import exception
from attachworker import objects
from attachworker.objects import fields
from tests.unit.objects import shapes


def attach(**changes):
    given = {
        'request_id': 'r1',
        'attachment_id': 'a1',
        'connection_info': shapes.lio(),
    }
    return objects.AttachRequest(**given | changes)


def valid(**changes):
    request = attach(**changes)
    request.validate()
    return request


def test_an_attach_has_defaults():
    request = valid()

    assert request.volume_id == '6f1d2f0e'
    assert request.multipath is False
    assert request.enforce_multipath is False
    assert request.expected_wwn is None
    assert request.min_paths == 1
    assert request.deadline_seconds is None
    assert request.encryption is None
    assert request.reply_to is None


def test_the_request_wins_over_the_data():
    info = shapes.lio(enforce_multipath=True, wwn='3' + '6' * 32)

    left = valid(connection_info=info)
    said = valid(
        connection_info=info,
        volume_id='v',
        enforce_multipath=False,
        expected_wwn='naa.' + 'A' * 32,
    )

    assert left.enforce_multipath is True
    assert left.expected_wwn == '6' * 32
    assert said.volume_id == 'v'
    assert said.enforce_multipath is False
    assert said.expected_wwn == 'a' * 32


def test_validating_again_changes_nothing():
    request = valid()
    before = request.obj_clone()

    request.validate()

    assert request == before


def test_a_detach_has_defaults():
    request = objects.DetachRequest(request_id='r', attachment_id='a')
    request.validate()

    assert request.force is False
    assert request.connection_info is None


def test_a_detach_names_something():
    with pytest.raises(exception.InvalidConnectionInfo, match='attachment'):
        objects.DetachRequest(request_id='r').validate()
    objects.DetachRequest(
        request_id='r', connection_info=shapes.lio()
    ).validate()


def test_an_extend_needs_no_size():
    request = objects.ExtendRequest(request_id='r', attachment_id='a')
    request.validate()

    assert request.expected_size is None


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('request_id', None),
        ('request_id', ''),
        ('request_id', '-r'),
        ('request_id', 'r/1'),
        ('request_id', 'r 1'),
        ('request_id', 'r\n'),
        ('request_id', 'x' * 256),
        ('request_id', 7),
        ('attachment_id', 'a\0'),
        ('volume_id', 'é'),
        ('multipath', 1),
        ('multipath', 'yes'),
        ('enforce_multipath', 'no'),
        ('expected_wwn', '-x'),
        ('min_paths', 0),
        ('min_paths', 65),
        ('min_paths', True),
        ('min_paths', '1'),
        ('min_paths', 1.5),
        ('deadline_seconds', 0),
        ('deadline_seconds', 86401),
        ('deadline_seconds', 30.0),
    ],
)
def test_bad_values_are_named(key, value):
    with pytest.raises(exception.InvalidConnectionInfo) as caught:
        valid(**{key: value})

    assert caught.value.kwargs['key'] == key


@pytest.mark.parametrize(
    ('name', 'value', 'key'),
    [
        ('connection_info', shapes.lio(target_lun=-1), 'target_lun'),
        ('connection_info', 'iscsi', 'connection_info'),
        ('connection_info', None, 'connection_info'),
        ('encryption', {'provider': 'rot13', 'key': 'k'}, 'provider'),
        ('encryption', {'provider': 'luks', 'key': ''}, 'key'),
        ('encryption', {'provider': 'luks'}, 'key'),
        ('reply_to', {'exchange': 'e', 'topic': 't'}, 'server'),
        ('reply_to', {'exchange': 'a b'}, 'exchange'),
        (
            'reply_to',
            {'exchange': 'e', 'topic': 't' * 128, 'server': 's' * 127},
            'server',
        ),
    ],
)
def test_bad_values_in_dicts_are_named(name, value, key):
    with pytest.raises(exception.InvalidConnectionInfo) as caught:
        valid(**{name: value})

    assert caught.value.kwargs['key'] == key


@pytest.mark.parametrize(
    'same',
    [
        {'request_id': 'r2'},
        {'deadline_seconds': 30},
        {'reply_to': {'exchange': 'e', 'topic': 't', 'server': 's'}},
        {'volume_id': '6f1d2f0e'},
        {'connection_info': shapes.flat() | {'enforce_multipath': False}},
        {'connection_info': shapes.lio(target_portal='192.0.2.5,1')},
        {'connection_info': shapes.lio(auth_password='other')},
        {'connection_info': shapes.lio(auth_username='other')},
        {'connection_info': shapes.lio(auth_method=None)},
        {'connection_info': shapes.lio(unknown='key')},
    ],
)
def test_the_same_content(same):
    assert valid(**same).content_digest() == valid().content_digest()


@pytest.mark.parametrize(
    'other',
    [
        {'attachment_id': 'a2'},
        {'volume_id': 'v2'},
        {'multipath': True},
        {'enforce_multipath': True},
        {'expected_wwn': 'a' * 32},
        {'min_paths': 2},
        {'encryption': {'provider': 'luks', 'key': 'k'}},
        {'connection_info': shapes.lio(target_lun=1)},
        {'connection_info': shapes.lio(access_mode='ro')},
        {'connection_info': shapes.netapp()},
    ],
)
def test_other_content(other):
    assert valid(**other).content_digest() != valid().content_digest()


def test_another_operation_is_other_content():
    names = {'request_id': 'r', 'attachment_id': 'a'}

    assert (
        objects.DetachRequest(**names).content_digest()
        != objects.ExtendRequest(**names).content_digest()
    )


def test_a_key_is_no_content():
    one, other = (
        valid(encryption={'provider': 'luks', 'key': key}) for key in 'ab'
    )

    assert one.content_digest() == other.content_digest()


def test_the_digest_outlives_an_upgrade():
    """The journal holds digests that an earlier version has made."""
    assert valid().content_digest() == (
        '6ca59800dbab135d14380314f10d19119ed57c273b29486b029aa721846cd6b2'
    )


def test_a_request_knows_its_connection():
    assert valid().connection_key == (
        f'iscsi single 192.0.2.5:3260,{shapes.IQN},0'
    )
    assert valid(multipath=True).connection_key.startswith('iscsi multipath')


def rotation(**values):
    return objects.RotateKeyRequest(
        **{
            'request_id': 'r',
            'attachment_id': 'a',
            'old_key': shapes.CANARY,
            'new_key': f'{shapes.CANARY}2',
        }
        | values
    )


def test_the_keys_of_a_rotation_are_never_shown():
    request = rotation()
    request.validate()
    shown = f'{request} {request!r} {request.as_dict()}'
    assert shapes.CANARY not in shown
    assert request.as_dict()['new_key'] == fields.MASK
    # nor do they count, and the same without them is the same
    assert request.content_digest() == rotation(old_key='x').content_digest()


@pytest.mark.parametrize(
    ('values', 'key'),
    [
        ({'new_key': shapes.CANARY}, 'new_key'),
        ({'new_key': 'a\0b'}, 'new_key'),
        ({'old_key': 'k' * 5000}, 'old_key'),
        ({'old_key': ''}, 'old_key'),
        ({'old_key': None}, 'old_key'),
        ({'attachment_id': '../a'}, 'attachment_id'),
    ],
)
def test_keys_that_cannot_be_exchanged(values, key):
    with pytest.raises(exception.InvalidConnectionInfo) as caught:
        rotation(**values).validate()
    assert caught.value.kwargs['key'] == key
    assert shapes.CANARY not in str(caught.value)
