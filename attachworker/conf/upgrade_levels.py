# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

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
