# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The options."""

from tests import harness


def test_what_is_set_for_one_worker_is_not_set_for_another() -> None:
    one = harness.configuration(metrics__port=4711, rpc__reply_threads=7)
    other = harness.configuration()
    assert (one.metrics.port, one.rpc.reply_threads) == (4711, 7)
    assert (other.metrics.port, other.rpc.reply_threads) == (None, 4)
