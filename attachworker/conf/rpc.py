# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Options of group ``rpc``: how the worker gets its results delivered."""

from oslo_config import cfg

GROUP = cfg.OptGroup(
    'rpc',
    title='Delivery of results',
    help='How the worker delivers the result of a request that came as a '
    'cast and names a reply_to: it calls operation_finished there '
    'until that returns, or until result_retention has passed.',
)

OPTIONS = [
    cfg.FloatOpt(
        'reply_timeout',
        default=10.0,
        min=1.0,
        max=600.0,
        help='Seconds that the receiver of a result may take to confirm it. '
        'After that the result is sent again.',
    ),
    cfg.FloatOpt(
        'reply_retry_first',
        default=1.0,
        min=0.1,
        max=60.0,
        help='Seconds between the first attempt to deliver a result and the '
        'second. Every further pause is twice as long as the one '
        'before.',
    ),
    cfg.FloatOpt(
        'reply_retry_max',
        default=300.0,
        min=1.0,
        max=86400.0,
        help='Seconds that a pause between two attempts to deliver a result '
        'does not exceed.',
    ),
    cfg.IntOpt(
        'reply_threads',
        default=4,
        min=1,
        max=64,
        help='How many results may be on their way to receivers at a time. '
        'A receiver that does not answer holds one of them for '
        'reply_timeout.',
    ),
]
