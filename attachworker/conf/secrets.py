# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

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
