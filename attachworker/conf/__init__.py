# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The options of the worker, a group a file."""

import copy

from oslo_config import cfg

from attachworker.conf import opts


def register(conf: cfg.ConfigOpts) -> None:
    """Register all options of the worker.

    Not at import: a program that calls the worker has options of its own
    names in the global configuration.
    """
    for group, options in opts.list_opts():
        # oslo.config lets all that register one object share what is set in
        # it.
        conf.register_opts(options, group=copy.deepcopy(group))
