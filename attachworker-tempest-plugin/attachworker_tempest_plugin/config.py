# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What tempest.conf says of attachworker."""

from oslo_config import cfg

service_option = cfg.BoolOpt(
    'attachworker',
    default=False,
    help='Whether an attachworker is expected to be available.',
)

attachworker_group = cfg.OptGroup('attachworker', title='attachworker')

AttachworkerGroup = [
    cfg.StrOpt(
        'transport_url',
        secret=True,
        help='The broker of the worker, as its option transport_url has it.',
    ),
    cfg.StrOpt(
        'host',
        help='The host whose worker is asked, as its option host has it.',
    ),
    cfg.IntOpt(
        'timeout',
        default=120,
        min=1,
        help='Seconds that an operation may take.',
    ),
]
