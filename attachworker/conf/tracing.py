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

"""Options of group ``tracing``: where traces of operations go."""

from oslo_config import cfg

GROUP = cfg.OptGroup('tracing', title='Traces of OpenTelemetry')

OPTIONS = [
    cfg.URIOpt(
        'otlp_endpoint',
        schemes=['http', 'https'],
        help='Collector that gets a trace of each operation, with a span for '
        'each of its steps, over OTLP and HTTP; for example '
        'http://127.0.0.1:4318. Needs attachworker[tracing] to be installed. '
        'Unset: there are no traces.',
    ),
]
