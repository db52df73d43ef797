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

"""Locks by name that give up at a deadline."""

import threading

import pytest

from attachworker import deadline as deadlines
from attachworker import exception
from attachworker.connectors import locks

PATIENCE = 10.0


def soon() -> deadlines.Deadline:
    return deadlines.Deadline.after(PATIENCE)


def test_other_names_do_not_wait() -> None:
    named = locks.NamedLocks()
    with named.hold('one', soon()), named.hold('two', soon()):
        pass


def test_the_same_name_waits_until_the_deadline() -> None:
    named = locks.NamedLocks()
    with named.hold('one', soon()):
        with pytest.raises(exception.DeadlineExceeded, match='lock one'):
            with named.hold('one', deadlines.Deadline.after(0.01)):
                pytest.fail('it was held twice')
    with named.hold('one', deadlines.Deadline.after(-1.0)):
        pass


def test_who_fails_lets_go() -> None:
    named = locks.NamedLocks()
    with pytest.raises(LookupError), named.hold('one', soon()):
        raise LookupError
    with named.hold('one', soon()):
        pass


def test_who_waits_is_next() -> None:
    named = locks.NamedLocks()
    order: list[str] = []
    asked = threading.Event()

    def other() -> None:
        asked.set()
        with named.hold('one', soon()):
            order.append('second')

    thread = threading.Thread(target=other)
    with named.hold('one', soon()):
        thread.start()
        assert asked.wait(PATIENCE)
        order.append('first')
    thread.join(PATIENCE)
    assert order == ['first', 'second']
