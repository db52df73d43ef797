# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The options of the worker."""

from collections.abc import Iterator
import os
import pathlib
from typing import Any

from oslo_config import cfg

from attachworker.conf import opts

PROJECT = 'attachworker'
#: Where the configuration of a host is.
DIRECTORY = pathlib.Path('/etc/attachworker')


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
    :raises cfg.Error: it makes no sense, or there is a file that this user
        may not read
    """
    conf = parse(files)
    for group, options in opts.list_opts():
        values = conf if group is None else conf[group.name]
        for option in options:
            # Whether a value makes sense shows when it is asked for.
            _ = values[option.dest]
    return conf


def parse(files: list[str] | None = None) -> cfg.ConfigOpts:
    """Do the same, for who looks at each value by himself."""
    conf = cfg.ConfigOpts()
    register(conf)
    where: dict[str, Any] = {}
    if files:
        where = {'default_config_files': files, 'default_config_dirs': []}
    else:
        check_readable()
    conf([], project=PROJECT, prog=PROJECT, **where)
    return conf


def check_readable(directory: pathlib.Path = DIRECTORY) -> None:
    """Refuse to go without the configuration of this host.

    oslo.config takes a file that it may not see for one that is not there,
    and who asks would look for another fault.

    :raises cfg.ConfigFileParseError: there is a file that cannot be read
    """
    for path in _files(directory):
        try:
            with open(path, 'rb'):
                pass
        except FileNotFoundError:
            continue
        except OSError as error:
            raise _unreadable(path, error) from None


def _files(directory: pathlib.Path) -> Iterator[pathlib.Path]:
    yield directory / f'{PROJECT}.conf'
    more = directory / f'{PROJECT}.conf.d'
    try:
        names = os.listdir(more)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unreadable(more, error) from None
    yield from (more / one for one in sorted(names) if one.endswith('.conf'))


def _unreadable(
    path: pathlib.Path, error: OSError
) -> cfg.ConfigFileParseError:
    return cfg.ConfigFileParseError(
        str(path),
        f'{error.strerror}; this user has to be allowed to read it',
    )
