# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

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
