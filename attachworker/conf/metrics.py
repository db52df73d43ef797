# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

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
