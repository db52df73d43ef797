# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Options of the worker itself."""

import socket

from oslo_config import cfg

OPTIONS = [
    cfg.HostAddressOpt(
        'host',
        default=socket.gethostname(),
        sample_default='<host name>',
        help='The name of this host on the bus: callers address the worker '
        'by it.',
    ),
    cfg.HostAddressOpt(
        'my_ip',
        default='127.0.0.1',
        sample_default='<address of this host>',
        help='The address that storage is told this host has.',
    ),
    cfg.StrOpt(
        'state_path',
        default='/var/lib/attachworker',
        help='Directory of the journal. It must outlive restarts of the '
        'worker and belong to one worker alone.',
    ),
    cfg.StrOpt(
        'runtime_path',
        default='/run/attachworker',
        help='Directory, in memory, of the key that seals the secrets of '
        'unfinished requests in the journal. A reboot takes it away, and an '
        'unfinished attach that needs a secret fails then.',
    ),
    cfg.StrOpt(
        'user',
        help='User that the worker becomes once its privileged helper is '
        'running, if it was started as root. Unset: it stays root.',
    ),
    cfg.IntOpt(
        'max_running',
        default=16,
        min=1,
        max=256,
        help='How many operations run at the same time.',
    ),
    cfg.IntOpt(
        'max_running_per_backend',
        default=8,
        min=1,
        max=256,
        help='How many operations on one storage backend (the address of '
        'its first portal) run at the same time, so that a dead one cannot '
        'take all places. If it is below max_running, up to a quarter of all '
        'places is kept for backends of which none runs.',
    ),
    cfg.IntOpt(
        'max_queued',
        default=256,
        min=1,
        max=10000,
        help='How many operations may wait; one more is refused as busy.',
    ),
    cfg.IntOpt(
        'default_deadline',
        default=300,
        min=1,
        max=86400,
        help='Seconds that an operation may take if its request does not '
        'say, the time in the queue included.',
    ),
    cfg.IntOpt(
        'rollback_grace',
        default=30,
        min=1,
        max=3600,
        help='Seconds beyond the deadline for putting things back. What is '
        'not put back by then is listed in the result.',
    ),
    cfg.IntOpt(
        'forced_flush_timeout',
        default=30,
        min=1,
        max=3600,
        help='Seconds that a forced detach waits for the device to write '
        'back what the kernel holds. After that it goes on without.',
    ),
    cfg.IntOpt(
        'stop_timeout',
        default=60,
        min=1,
        max=3600,
        help='Seconds that running operations get when the worker is '
        'stopped. What is not finished then is finished, or undone, at the '
        'next start.',
    ),
    cfg.IntOpt(
        'recovery_attempts',
        default=3,
        min=0,
        max=100,
        help='How often an operation is gone on with after the worker was '
        'started again. Then it fails: it may be what stops the worker.',
    ),
    cfg.BoolOpt(
        'reattach_after_reboot',
        default=False,
        help='Whether the worker attaches again, when it starts, what was '
        'attached before a reboot. Where that needs a secret the '
        'attachment stays missing, because none is kept.',
    ),
    cfg.IntOpt(
        'result_retention',
        default=7 * 86400,
        min=60,
        max=365 * 86400,
        help='Seconds that results are kept for get_result, and that the '
        'delivery of a result is tried.',
    ),
    cfg.FloatOpt(
        'event_fallback_interval',
        default=1.0,
        min=0.05,
        max=60.0,
        help='Seconds after which a wait for a kernel event looks again '
        'without one, should it have been lost.',
    ),
]
