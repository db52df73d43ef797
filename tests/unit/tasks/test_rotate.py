# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""The steps that exchange a key: what they look at before they write."""

import errno

import pytest

from attachworker import exception
from attachworker import flows
from attachworker.connectors import base as connectors
from attachworker.host import encryption
from attachworker.host import multipath
from attachworker.tasks.run import Rotation
from attachworker.worker import engine
from tests.unit.tasks import fake_encryption
from tests.unit.tasks import runs

NAME = encryption.name_of('attachment')
DISK = 'sd1'
BOTH = ['add new to sd1', 'remove key from sd1']


class Rotating:
    """A volume that is open on a disk, and what is to be done with its key.

    :ivar noted: what was open to which keys when the journal was told
    """

    def __init__(self, *targets: connectors.Target, **values: object) -> None:
        self.noted: list[list[str]] = []
        self.connector = runs.FakeConnector()
        rotation = Rotation(
            'key', 'new', lambda: self.noted.append(list(self.fake.keys))
        )
        self.run = runs.make(
            *(targets or (runs.ONE,)),
            connector=self.connector,
            rotation=rotation,
            name='attachment',
            expected_wwn=runs.GOOD,
            **values,
        )
        self.rotation = rotation
        found = self.run.host.encryption
        assert isinstance(found, fake_encryption.FakeEncryption)
        self.fake = found
        self.fake.mapping = encryption.Mapping(NAME, 'dm-1', (DISK,), 'luks2')
        for number, target in enumerate(targets or (runs.ONE,), 1):
            disk = f'sd{number}'
            self.connector.connected[target] = connectors.Path(
                target, disk, disk
            )

    def done(self) -> engine.Outcome:
        return runs.drive(flows.rotate(self.run))


def test_the_journal_is_told_before_the_key_is_added() -> None:
    made = Rotating()
    assert made.done().error is None
    assert made.noted == [['key']]
    assert (made.fake.said, made.fake.keys) == (BOTH, ['new'])
    assert made.rotation.done


def test_a_journal_that_cannot_be_written_changes_nothing() -> None:
    made = Rotating()

    def fail() -> None:
        raise exception.JournalUnavailable(path='/', reason='full')

    made.rotation.note_intention = fail
    outcome = made.done()
    assert isinstance(outcome.error, exception.JournalUnavailable)
    assert (made.fake.said, made.run.leftovers) == ([], [])


def test_no_key_is_in_what_is_printed() -> None:
    made = Rotating()
    assert "'new'" not in repr(made.run)
    assert "'key'" not in repr(made.rotation)


@pytest.mark.parametrize('step', ['AddKey', 'RemoveKey', 'VerifyKeys'])
def test_which_key_stays(step: str) -> None:
    made = Rotating()
    made.run.fails_after(step, exception.HostToolFailed('no'))
    assert made.done().error is not None
    stays = ['key'] if step == 'AddKey' else ['new']
    assert made.fake.keys == stays
    assert made.rotation.done == (stays == ['new'])
    assert made.rotation.settled
    assert made.run.leftovers == []


def test_a_key_that_was_there_before_stays() -> None:
    made = Rotating()
    made.fake.keys.append('new')
    made.fake.error = OSError(errno.EIO, 'it cannot be written')
    made.fake.remove_key = lambda *rest: made.fake._say('no')  # type: ignore[method-assign]
    assert isinstance(made.done().error, exception.EncryptionFailed)
    assert made.fake.keys == ['key', 'new']
    assert (made.noted, made.run.leftovers) == ([], [])


def test_what_cannot_be_taken_back_is_left_over() -> None:
    made = Rotating()
    made.run.fails_after('AddKey', exception.HostToolFailed('no'))
    made.fake.remove_key = lambda *rest: made.fake._say('no')  # type: ignore[method-assign]
    made.run.hooks['before', 'AddKey'] = lambda: setattr(
        made.fake, 'error', None
    )
    original = made.fake.add_key

    def add_key(*rest: object) -> None:
        original(*rest)  # type: ignore[arg-type]
        made.fake.error = OSError(errno.EIO, 'it cannot be written')

    made.fake.add_key = add_key  # type: ignore[method-assign,assignment]
    assert made.done().error is not None
    assert 'it cannot be written' in str(made.run.leftovers)
    assert not made.rotation.settled


@pytest.mark.parametrize(
    ('disks', 'reason'), [((), 'not on top of sd1'), (('sd7',), 'not on top')]
)
def test_a_mapping_of_something_else(
    disks: tuple[str, ...], reason: str
) -> None:
    made = Rotating()
    made.fake.mapping = encryption.Mapping(NAME, 'dm-1', disks, 'luks2')
    outcome = made.done()
    assert isinstance(outcome.error, exception.EncryptionFailed)
    assert reason in str(outcome.error)
    assert made.fake.said == []


def test_plain_is_refused_with_what_to_do() -> None:
    made = Rotating()
    made.fake.mapping = encryption.Mapping(NAME, 'dm-1', (DISK,), 'plain')
    assert 'copy the data' in str(made.done().error)


def test_another_volume_by_the_time_that_it_is_written_to() -> None:
    # Given a LUN that is given to another volume after the first look
    made = Rotating()
    made.run.hooks['before', 'AddKey'] = lambda: made.connector.wwns.update(
        {DISK: runs.GOOD[:-1] + 'f'}
    )
    outcome = made.done()
    assert isinstance(outcome.error, exception.IdentityMismatch)
    assert made.fake.said == []


def test_a_stranger_in_the_map() -> None:
    # Given a map with a path in it that no attachment names
    made = Rotating(runs.ONE, runs.TWO, multipath=True)
    made.fake.mapping = encryption.Mapping(NAME, 'dm-1', ('dm-0',), 'luks2')
    made.run.host.multipath.map = multipath.Map(
        'dm-0', runs.GOOD, ('sd1', 'sd2', 'sd9')
    )
    outcome = made.done()
    # Then nothing is written that may go there
    assert isinstance(outcome.error, exception.IdentityMismatch)
    assert made.fake.said == []


def test_what_must_not_be_written_to() -> None:
    made = Rotating()
    made.run.info.access_mode = 'ro'
    assert 'read-only' in str(made.done().error)
    assert made.fake.said == []


def test_a_header_that_is_gone() -> None:
    made = Rotating()
    made.fake.format_found = 'luks'
    assert 'no header of format luks2' in str(made.done().error)


def test_no_cryptsetup() -> None:
    made = Rotating()
    made.run.host.tool = lambda name: None  # type: ignore[method-assign]
    outcome = made.done()
    assert isinstance(outcome.error, exception.HostToolMissing)
    assert outcome.step == 'GetConnector'
