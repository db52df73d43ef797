# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
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
