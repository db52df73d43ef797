# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Which targets an attachment uses, and which sessions are ours."""

from collections.abc import Callable
import pathlib
import tempfile

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine
from hypothesis.stateful import invariant
from hypothesis.stateful import rule
import pytest

from attachworker.journal import Claims
from attachworker.journal import Database

HERE = ('192.0.2.1:3260', 'iqn.2026-01.example:one', 0)
#: The same session, another volume.
NEXT = ('192.0.2.1:3260', 'iqn.2026-01.example:one', 1)
#: Another portal, so another session, to the same volume.
THERE = ('192.0.2.2:3260', 'iqn.2026-01.example:one', 0)
WIDE = ('192.0.2.1:3260', 'iqn.2026-01.example:one', 2**64 - 1)

Of = Callable[..., Claims]


@pytest.fixture
def of(database: Database) -> Of:
    """The claims of an attachment."""

    def make(
        name: str, boot_id: str = 'boot', cut_short: bool = False
    ) -> Claims:
        return Claims(database, name, boot_id, cut_short)

    return make


def test_targets_that_were_taken(of: Of) -> None:
    claims = of('first')
    for target in (HERE, NEXT, WIDE, HERE):
        claims.take(target)
    assert sorted(claims.taken()) == sorted([HERE, NEXT, WIDE])
    assert of('second').taken() == []
    claims.release(NEXT)
    claims.release(NEXT)
    assert sorted(claims.taken()) == sorted([HERE, WIDE])


def test_a_device_is_shared_by_who_takes_the_same_lun(of: Of) -> None:
    first, second = of('first'), of('second')
    first.take(HERE)
    assert not first.shared(HERE)
    second.take(NEXT)
    assert not first.shared(HERE)
    second.take(HERE)
    assert first.shared(HERE)
    assert second.shared(HERE)
    first.release(HERE)
    assert not second.shared(HERE)
    # the one who has left would share it again
    assert first.shared(HERE)


def test_a_session_is_shared_by_all_luns_of_a_portal(of: Of) -> None:
    first, second = of('first'), of('second')
    first.take(HERE)
    second.take(THERE)
    assert not first.session_shared(HERE)
    second.take(NEXT)
    assert first.session_shared(HERE)
    second.release(NEXT)
    assert not first.session_shared(HERE)


# -- devices


def test_names_of_targets_have_no_case(of: Of) -> None:
    upper = (HERE[0], HERE[1].upper(), HERE[2])
    of('first').take(HERE)
    of('first').intend_session(HERE, 4)
    second = of('second')
    assert second.shared(upper)
    assert second.session_shared(upper)
    assert second.owns_session(upper, 5)
    # and a target is told as it was taken
    assert of('first').taken() == [HERE]


def test_a_device_is_ours_only_once_it_was_meant_to_be_made(of: Of) -> None:
    claims = of('first')
    claims.take(HERE)
    assert not claims.made_device(HERE)
    claims.intend_device(HERE)
    assert claims.made_device(HERE)
    assert not claims.made_device(NEXT)
    assert not of('second').made_device(HERE)
    claims.take(HERE)
    assert claims.made_device(HERE), 'taken again is not forgotten'


def test_who_leaves_hands_its_device_over(of: Of) -> None:
    # Given a device that the first made and the second has found
    first, second, third = of('first'), of('second'), of('third')
    for claims in (first, second, third):
        claims.take(HERE)
    third.take(NEXT)
    first.intend_device(HERE)
    assert not second.made_device(HERE)
    # When the first leaves
    first.release(HERE)
    # Then the others have it, whoever of them is the last
    assert not first.made_device(HERE)
    assert second.made_device(HERE)
    assert not third.made_device(NEXT)
    second.release(HERE)
    assert third.made_device(HERE)


def test_what_was_found_is_not_handed_over(of: Of) -> None:
    first, second = of('first'), of('second')
    first.take(HERE)
    second.take(HERE)
    first.release(HERE)
    assert not second.made_device(HERE)


# -- sessions


def test_a_session_that_was_there_is_not_ours(of: Of) -> None:
    assert not of('first').owns_session(HERE, 5)


def test_our_session_by_its_number(of: Of) -> None:
    # Given a login that has succeeded
    claims = of('first')
    claims.intend_session(HERE, after=4)
    claims.confirm_session(HERE, 6)
    # Then that number is ours, for all who share it, and no other is
    assert claims.owns_session(HERE, 6)
    assert of('second').owns_session(NEXT, 6)
    assert not claims.owns_session(HERE, 5)
    assert not claims.owns_session(HERE, 7)
    assert not claims.owns_session(THERE, 6)
    # until it is forgotten
    of('second').forget_session(NEXT)
    assert not claims.owns_session(HERE, 6)


def test_a_crash_during_the_login(of: Of) -> None:
    """Nobody has seen the number, but only a new one can be ours."""
    claims = of('first')
    claims.intend_session(HERE, after=4)
    assert claims.owns_session(HERE, 5)
    assert not claims.owns_session(HERE, 4)
    assert not claims.owns_session(HERE, 3)


def test_a_new_login_is_a_new_number(of: Of) -> None:
    claims = of('first')
    claims.intend_session(HERE, after=4)
    claims.confirm_session(HERE, 5)
    claims.intend_session(HERE, after=7)
    assert not claims.owns_session(HERE, 5)
    claims.confirm_session(HERE, 8)
    assert claims.owns_session(HERE, 8)


def test_numbers_count_from_the_boot(of: Of) -> None:
    # Given a session of ours, confirmed or not
    claims = of('first')
    claims.intend_session(HERE, after=4)
    claims.confirm_session(HERE, 5)
    claims.intend_session(THERE, after=0)
    # When the machine has been started again
    later = of('first', 'another boot')
    # Then the same number is somebody else's
    assert not later.owns_session(HERE, 5)
    assert not later.owns_session(THERE, 5)


class Sharing(RuleBasedStateMachine):
    """Whatever order attachments come and go in: a device that we made is
    known to be ours as long as somebody uses it, and not longer."""

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        self._database = Database(pathlib.Path(self._directory.name))
        self._users: set[str] = set()
        self._ours = False

    def teardown(self) -> None:
        self._database.close()
        self._directory.cleanup()

    def _of(self, name: str) -> Claims:
        return Claims(self._database, name, 'boot')

    @rule(name=st.sampled_from('abc'))
    def attach(self, name: str) -> None:
        claims = self._of(name)
        claims.take(HERE)
        if not self._users:
            claims.intend_device(HERE)
            self._ours = True
        self._users.add(name)

    @rule(name=st.sampled_from('abc'))
    def detach(self, name: str) -> None:
        claims = self._of(name)
        if name in self._users and self._users == {name}:
            assert claims.made_device(HERE)
        claims.release(HERE)
        self._users.discard(name)

    @invariant()
    def somebody_owns_it(self) -> None:
        found = {n for n in 'abc' if self._of(n).made_device(HERE)}
        assert found <= self._users
        assert bool(found) == bool(self._users)


TestSharing = Sharing.TestCase
TestSharing.settings = settings(
    max_examples=20, stateful_step_count=15, deadline=None
)


def test_an_intent_outlives_the_worker_that_was_cut_short(of: Of) -> None:
    # Given a login that an earlier worker may have begun, and one that it
    # saw succeed
    claims = of('first')
    claims.intend_session(HERE, after=4)
    claims.intend_session(THERE, after=4)
    claims.confirm_session(THERE, 5)
    assert claims.intends_session(HERE)
    assert not claims.intends_session(THERE)
    assert not of('first', 'later boot').intends_session(HERE)
    # When neither has a session, then the first may still get one
    undoing = of('first', cut_short=True)
    undoing.forget_session(HERE)
    undoing.forget_session(THERE)
    assert claims.owns_session(HERE, 6)
    assert not claims.owns_session(THERE, 5)
    claims.forget_session(HERE)
    assert not claims.owns_session(HERE, 6)
