# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What an operator can set for NVMe over Fabrics."""

from typing import Any

from oslo_config import cfg


def options() -> list[Any]:
    return [
        cfg.IntOpt(
            'connect_timeout',
            default=15,
            min=1,
            max=600,
            help='Seconds that a portal may take to answer, and again '
            'that a controller may take to be live.',
        ),
        cfg.IntOpt(
            'scan_attempts',
            default=3,
            min=1,
            max=100,
            help='How often a namespace is looked for before it counts as '
            'not mapped; some arrays need a moment after mapping. '
            'Attempts are one second apart.',
        ),
        cfg.IntOpt(
            'device_timeout',
            default=30,
            min=1,
            max=600,
            help='Seconds that the kernel may take to make the block '
            'device of a namespace, or to end a controller.',
        ),
        cfg.IntOpt(
            'ctrl_loss_tmo',
            default=-1,
            min=-1,
            help='Seconds after which the kernel gives up a controller '
            'whose connection is lost, and the data that was not written '
            'yet. -1: never; the detach ends it.',
        ),
        cfg.IntOpt(
            'reconnect_delay',
            default=10,
            min=1,
            max=600,
            help='Seconds between two attempts of the kernel to connect '
            'again.',
        ),
        cfg.BoolOpt(
            'tls',
            default=False,
            help='Whether connections over TCP are encrypted. The kernel '
            'must be able to (Linux 6.7 and newer), tlshd must run, and the '
            "keys must be in the kernel's keyring .nvme (nvme gen-tls-key "
            '--insert).',
        ),
        cfg.HostAddressOpt(
            'host_traddr',
            help='Address of this host that connections come from. Unset: '
            'as the routes say.',
        ),
    ]
