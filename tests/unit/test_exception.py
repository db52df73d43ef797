# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Errors: one class for each code, with a text that can be made."""

import pathlib
import re

import pytest

from attachworker import exception
from attachworker import objects
from attachworker.objects import fields

CLASSES = [
    value
    for value in vars(exception).values()
    if isinstance(value, type)
    and issubclass(value, exception.AttachWorkerError)
]


def keys(cls):
    return re.findall(r'%\((\w+)\)s', cls.msg_fmt)


def test_each_code_has_a_class():
    codes = {cls.code for cls in CLASSES if 'code' in vars(cls)}

    assert codes == set(fields.ERROR_CODES)


@pytest.mark.parametrize('cls', CLASSES)
def test_the_text_is_a_sentence_with_all_values(cls):
    given = {key: f'<{key} 100%s>' for key in keys(cls)}

    error = cls(**given)

    assert all(value in str(error) for value in given.values())
    assert str(error)[0].isupper() or str(error).startswith(('<', '%'))
    assert str(error).endswith('.')
    assert error.kwargs == given


@pytest.mark.parametrize('cls', CLASSES)
def test_the_class_says_what_it_is_for(cls):
    assert cls.__doc__ or cls.msg_fmt != exception.AttachWorkerError.msg_fmt
    assert isinstance(cls.retryable, bool)


@pytest.mark.parametrize('cls', CLASSES)
def test_an_error_can_be_made_again_from_its_text(cls):
    """As oslo.messaging does for the caller."""
    error = cls(**dict.fromkeys(keys(cls), 'x'))

    again = cls(*error.args, **error.kwargs)

    assert str(again) == str(error)


@pytest.mark.parametrize('cls', CLASSES)
@pytest.mark.parametrize(
    ('named', 'told'),
    [
        ('/mnt/\udcff', r'/mnt/\udcff'),  # a name that is not UTF-8
        ('a\0b', r'a\x00b'),
        ('a\x1b[2J', r'a\x1b[2J'),
        ('two\nlines', 'two\nlines'),
        ('größer', 'größer'),
    ],
)
def test_whatever_it_speaks_of_it_can_be_told(cls, named, told):
    error = cls(**dict.fromkeys(keys(cls), named))

    found = objects.OperationError.from_exception(error)

    assert found.message == str(error)
    assert found.message.count(told) == len(keys(cls))


def test_a_text_may_be_given():
    assert str(exception.HostToolFailed('100% broken')) == '100% broken'


def test_every_code_is_explained() -> None:
    page = (
        pathlib.Path(__file__).resolve().parents[2]
        / 'doc/source/user/failures.rst'
    ).read_text()
    explained = re.findall(r'(?m)^``([a-z_]+)`` ', page)
    assert sorted(explained) == sorted(fields.ERROR_CODES)
