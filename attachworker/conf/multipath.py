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
"""Options of multipath maps."""

from oslo_config import cfg

GROUP = cfg.OptGroup('multipath', title='Multipath maps')

OPTIONS = [
    cfg.FloatOpt(
        'path_grace',
        default=0.5,
        min=0.0,
        max=60.0,
        help='Seconds that further paths get, once enough are connected, '
        'before a map is made. Later ones join it in the background.',
    ),
    cfg.IntOpt(
        'map_timeout',
        default=30,
        min=1,
        max=600,
        help='Seconds that multipathd may take to make or to remove a map.',
    ),
]
