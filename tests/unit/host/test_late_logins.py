# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""Logins of which nobody tells how they end."""

from attachworker.host import late_logins

KEY = '192.0.2.1:3260,iqn.2026-01.example:one'
LONG = 1000.0


def test_what_somebody_waits_for_does_not_come_late() -> None:
    late = late_logins.LateLogins()
    late.begin(KEY)
    assert not late.possible(KEY, LONG)


def test_what_nobody_waits_for_may_come_until_iscsid_has_given_up() -> None:
    late = late_logins.LateLogins()
    late.begin(KEY)
    late.lose(KEY)
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
