# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What oslo.config has no types for.

An option with a type is checked wherever options are: at the start of the
worker, by ``attachworker-status`` and at a reload.
"""

import ipaddress
import os.path
from typing import Any

from oslo_config import cfg
from oslo_config import types


class AbsolutePath(types.String):
    """A path that means the same wherever a program was started."""

    def __init__(self) -> None:
        super().__init__(type_name='absolute path')

    def __call__(self, value: Any) -> str:
        path = str(super().__call__(value))
        if not os.path.isabs(path):
            raise ValueError(f'{path!r} is not an absolute path')
        return path


class Network(types.String):
    """A network of IPv4 or IPv6 as an address with a prefix length."""

    def __init__(self) -> None:
        super().__init__(type_name='network')

    def __call__(self, value: Any) -> str:
        network = str(super().__call__(value))
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            raise ValueError(
                f'{error}; list networks as in 192.0.2.0/24, 2001:db8::/64'
            ) from None
        return network


def path_opt(name: str, **values: Any) -> cfg.Opt:
    """An option that is an absolute path."""
    return cfg.Opt(name, type=AbsolutePath(), **values)
