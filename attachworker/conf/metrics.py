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

"""Options of group ``metrics``: what a Prometheus server may ask for."""

from oslo_config import cfg

GROUP = cfg.OptGroup('metrics', title='Metrics for Prometheus')

OPTIONS = [
    cfg.PortOpt(
        'port',
        min=1,
        help='Port at which the worker shows its metrics, under /metrics. '
        'Unset: it shows none.',
    ),
    cfg.HostAddressOpt(
        'address',
        default='127.0.0.1',
        help='Address for that. Anybody who reaches it can read how many '
        'operations there were and how they ended, but no identifier and no '
        'secret.',
    ),
]
