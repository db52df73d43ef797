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

"""Options of group ``secrets``: what seals passwords on the bus."""

from oslo_config import cfg

GROUP = cfg.OptGroup('secrets', title='Secrets on the bus')

OPTIONS = [
    cfg.StrOpt(
        'key_file',
        help='File with the keys that seal secrets on the bus, the same for '
        'the worker and its callers: lines of "key-id base64key", 32 bytes '
        'a key. The first one seals, all open. Nobody else may be able to '
        'read it (mode 0600). Unset: secrets travel in the clear, and the '
        'broker writes them to its disk.',
    ),
    cfg.BoolOpt(
        'required',
        sample_default='<true where key_file is set>',
        help='Whether the worker refuses secrets that are not sealed. False '
        'while callers are being given the key.',
    ),
]
