# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""All options of the worker but those of the connectors."""

import socket
from typing import Any

from oslo_config import cfg

from attachworker.conf import encryption
from attachworker.conf import types

_WORKER = [
    cfg.HostAddressOpt(
        'host',
        default=socket.gethostname(),
        sample_default='<host name>',
        help='The name of this host on the bus: callers address the worker '
        'by it.',
    ),
    cfg.HostAddressOpt(
        'my_ip',
        mutable=True,
        default='127.0.0.1',
        sample_default='<address of this host>',
        help='The address that storage is told this host has.',
    ),
    cfg.ListOpt(
        'portal_networks',
        mutable=True,
        item_type=types.Network(),
        default=['0.0.0.0/0', '::/0'],
        help='Networks, as in 192.0.2.0/24, that portals may be in: those of '
        'requests, those that discoveries tell of and those that names lead '
        'to, of iSCSI and NVMe targets and of Ceph monitors. Loopback '
        '(127.0.0.0/8, ::1/128), link-local (169.254.0.0/16, fe80::/10), '
        'multicast and unspecified addresses, and the metadata service of a '
        'cloud (169.254.169.254/32), are in none of them unless a network is '
        'listed that lies within such a range.',
    ),
    types.path_opt(
        'state_path',
        default='/var/lib/attachworker',
        help='Directory of the journal. It must outlive restarts of the '
        'worker and belong to one worker alone. The worker does not start if '
        'others may write to it.',
    ),
    types.path_opt(
        'runtime_path',
        default='/run/attachworker',
        help='Directory, in memory, of the key that seals the secrets of '
        'unfinished requests in the journal. A reboot takes it away, and an '
        'unfinished attach that needs a secret fails then. The worker does '
        'not start if it is on a disk, or if others may write to it.',
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
        mutable=True,
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
        'max_message_size',
        default=256 * 1024,
        min=64 * 1024,
        max=16 * 1024 * 1024,
        help='Bytes that a message to this worker may have. What is larger, '
        'compressed, or not JSON in UTF-8 is put aside before it is decoded: '
        'it goes where the policy of the broker sends dead letters.',
    ),
    cfg.IntOpt(
        'default_deadline',
        mutable=True,
        default=300,
        min=1,
        max=86400,
        help='Seconds that an operation may take if its request does not '
        'say, the time in the queue included.',
    ),
    cfg.IntOpt(
        'rollback_grace',
        mutable=True,
        default=30,
        min=1,
        max=3600,
        help='Seconds beyond the deadline for putting things back. What is '
        'not put back by then is listed in the result.',
    ),
    cfg.IntOpt(
        'forced_flush_timeout',
        mutable=True,
        default=30,
        min=1,
        max=3600,
        help='Seconds that a forced detach waits for the device to write '
        'back what the kernel holds. After that it goes on without.',
    ),
    cfg.BoolOpt(
        'allow_forced_foreign_detach',
        default=False,
        help='Whether a detach with force takes away what somebody else has '
        'attached to this host, os-brick for example, also while it is in '
        'use. Without force the worker takes that away once nobody uses it, '
        'whatever this says. The privileged helper learns it at its start, '
        'and only where it is a child of a worker that was started as root. '
        'What the host itself needs is never removed.',
    ),
    cfg.IntOpt(
        'encryption_memory',
        mutable=True,
        default=2048,
        min=128,
        max=1 << 20,
        help='MiB of memory that all runs of cryptsetup which derive a key '
        'may have together. What a volume takes is in its header: 1024 unless '
        'whoever has formatted it said otherwise. Others wait, also where '
        'the host has less available; a volume that takes more than this is '
        'refused.',
    ),
    encryption.ITERATIONS,
    encryption.KEY_TIME,
    cfg.IntOpt(
        'stop_timeout',
        mutable=True,
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
        help='How often an operation is resumed after the worker was '
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
    cfg.IntOpt(
        'max_results',
        mutable=True,
        default=50_000,
        min=1000,
        max=10_000_000,
        help='How many results are kept at most; each takes some kilobytes of '
        'the disk. The oldest ones are forgotten, first those of requests for '
        'which nothing had to be done. One that somebody is to confirm stays.',
    ),
]

_RPC = [
    cfg.FloatOpt(
        'reply_timeout',
        mutable=True,
        default=10.0,
        min=1.0,
        max=600.0,
        help='Seconds that the receiver of a result may take to confirm it. '
        'After that the result is sent again.',
    ),
    cfg.FloatOpt(
        'reply_retry_first',
        mutable=True,
        default=1.0,
        min=0.1,
        max=60.0,
        help='Seconds between the first attempt to deliver a result and the '
        'second. Every further pause is twice as long as the one '
        'before.',
    ),
    cfg.FloatOpt(
        'reply_retry_max',
        mutable=True,
        default=300.0,
        min=1.0,
        max=86400.0,
        help='Seconds that a pause between two attempts to deliver a result '
        'does not exceed. A receiver that does not answer is left alone for '
        'such a pause, whatever there is for it.',
    ),
    cfg.IntOpt(
        'reply_threads',
        default=4,
        min=1,
        max=64,
        help='How many results are given to the broker at the same time. '
        'None of these waits for a receiver.',
    ),
]

_MULTIPATH = [
    cfg.FloatOpt(
        'path_grace',
        mutable=True,
        default=0.5,
        min=0.0,
        max=60.0,
        help='Seconds that further paths get, once enough are connected, '
        'before a map is made. Later ones join it in the background.',
    ),
    cfg.IntOpt(
        'map_timeout',
        mutable=True,
        default=30,
        min=1,
        max=600,
        help='Seconds that multipathd may take to make or to remove a map.',
    ),
]

_METRICS = [
    cfg.PortOpt(
        'port',
        min=1,
        help='Port at which the worker shows its metrics, under /metrics. '
        'Unset: it shows none.',
    ),
    cfg.HostAddressOpt(
        'address',
        default='127.0.0.1',
        help='Address for that. Anybody who reaches it can read how many '
        'operations there were and how they ended, but no identifier and no '
        'secret.',
    ),
]

_SECRETS = [
    types.path_opt(
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

_TRACING = [
    cfg.URIOpt(
        'otlp_endpoint',
        schemes=['http', 'https'],
        help='Collector that gets a trace of each operation, with a span for '
        'each of its steps, over OTLP and HTTP; for example '
        'http://127.0.0.1:4318. Needs attachworker[tracing] to be installed. '
        'Unset: there are no traces.',
    ),
]

_UPGRADE_LEVELS = [
    cfg.StrOpt(
        'attachworker',
        help='Version of the RPC interface that the oldest program on the '
        'bus knows, for example 1.0. What is newer is left out of messages. '
        'Unset: all are of this release.',
    ),
]


def list_opts() -> list[tuple[Any, list[Any]]]:
    """Groups with their options, as oslo.config.opts wants them.

    The groups are new each time: oslo.config lets all that register the same
    one share what is set in it.
    """
    return [
        (None, _WORKER),
        (
            cfg.OptGroup(
                'rpc',
                title='Delivery of results',
                help='How the worker delivers the result of a request that '
                'came as a cast and names a reply_to: it calls '
                'operation_finished there until that returns, or until '
                'result_retention has passed.',
            ),
            _RPC,
        ),
        (cfg.OptGroup('multipath', title='Multipath maps'), _MULTIPATH),
        (cfg.OptGroup('metrics', title='Metrics for Prometheus'), _METRICS),
        (cfg.OptGroup('secrets', title='Secrets on the bus'), _SECRETS),
        (cfg.OptGroup('tracing', title='Traces of OpenTelemetry'), _TRACING),
        (
            cfg.OptGroup(
                'upgrade_levels',
                title='Upgrade levels',
                help='While workers and callers of two releases are on one '
                'bus, the newer ones are told here what the older ones '
                'understand.',
            ),
            _UPGRADE_LEVELS,
        ),
    ]
