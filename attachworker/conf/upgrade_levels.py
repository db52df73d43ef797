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

"""Options of group ``upgrade_levels``: who is older than this program."""

from oslo_config import cfg

GROUP = cfg.OptGroup(
    'upgrade_levels',
    title='Upgrade levels',
    help='While workers and callers of two releases are on one bus, the newer '
    'ones are told here what the older ones understand.',
)

OPTIONS = [
    cfg.StrOpt(
        'attachworker',
        help='Version of the RPC interface that the oldest program on the '
        'bus knows, for example 1.0. What is newer is left out of messages. '
        'Unset: all are of this release.',
    ),
]
