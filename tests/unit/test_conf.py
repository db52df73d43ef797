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

"""The options."""

from tests import harness


def test_what_is_set_for_one_worker_is_not_set_for_another() -> None:
    one = harness.configuration(metrics__port=4711, rpc__reply_threads=7)
    other = harness.configuration()
    assert (one.metrics.port, one.rpc.reply_threads) == (4711, 7)
    assert (other.metrics.port, other.rpc.reply_threads) == (None, 4)
