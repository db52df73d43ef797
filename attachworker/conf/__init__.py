# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The options of the worker."""

from typing import Any

from oslo_config import cfg

from attachworker.conf import opts


def register(conf: cfg.ConfigOpts) -> None:
    """Register all options of the worker.

    Not at import: a program that calls the worker has options of its own
    names in the global configuration.
    """
    for group, options in opts.list_opts():
        conf.register_opts(options, group=group)


def read(files: list[str] | None = None) -> cfg.ConfigOpts:
    """Read the configuration into an object of its own.

    The global one may be that of a worker, or caller, in this process.

    :param files: None: those of /etc/attachworker
    :raises cfg.Error: it makes no sense
    """
    conf = cfg.ConfigOpts()
    register(conf)
    where: dict[str, Any] = (
        {'default_config_files': files, 'default_config_dirs': []}
        if files
        else {}
    )
    conf([], project='attachworker', prog='attachworker', **where)
    return conf
