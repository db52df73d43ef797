# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Logins of which nobody tells how they end."""

from attachworker.connectors.iscsi import late_logins

KEY = '192.0.2.1:3260,iqn.2026-01.example:one'
LONG = 1000.0


def test_what_somebody_waits_for_does_not_come_late() -> None:
    late = late_logins.LateLogins()
    late.begin(KEY)
    assert not late.possible(KEY, LONG)


def test_what_nobody_waits_for_may_come_until_iscsid_has_given_up() -> None:
    late = late_logins.LateLogins()
    late.begin(KEY)
    late.expect(KEY)
    assert late.possible(KEY, LONG)
    assert not late.possible(KEY, 0.0)


def test_what_another_process_began_counts_from_the_first_question() -> None:
    late = late_logins.LateLogins()
    assert late.possible(KEY, LONG)
    assert not late.possible(KEY, 0.0)
    # And another login there starts anew
    late.forget(KEY)
    late.begin(KEY)
    assert not late.possible(KEY, LONG)
