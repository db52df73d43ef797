# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""NVMe over Fabrics: controllers, and what a namespace says of itself."""

import contextlib
import ctypes
import errno
import fcntl
import os
import pathlib
import re
import struct
import tempfile
import uuid

from attachworker import privileged
from attachworker.privileged import names
from attachworker.privileged import sysfs

HOST_ID = pathlib.Path('/etc/nvme/hostid')
HOST_NQN = pathlib.Path('/etc/nvme/hostnqn')
FABRICS = '/dev/nvme-fabrics'

_controller = names.rule(
    r'nvme\d{1,7}', 'the kernel name of an NVMe controller'
)
_OPTIONS = frozenset(
    (
        'transport',
        'traddr',
        'trsvcid',
        'host_traddr',
        'nqn',
        'hostnqn',
        'hostid',
        'ctrl_loss_tmo',
        'reconnect_delay',
        'keep_alive_tmo',
        'nr_io_queues',
        'dhchap_secret',
        'dhchap_ctrl_secret',
        'tls',
    )
)
#: Of these, the kernel is told the name alone.
_FLAGS = frozenset(('tls',))
_INSTANCE = re.compile(r'instance=(\d+)')
_LONGEST_ANSWER = 4096

# linux/nvme_ioctl.h: struct nvme_passthru_cmd and the ioctl that takes it
_ADMIN_COMMAND = struct.Struct('=BBH3I2Q10I')
_NVME_IOCTL_ADMIN_CMD = 0xC0484E41
_IDENTIFY = 0x06
_PAGE = 4096
_TIMEOUT_MS = 10_000


@privileged.default.entrypoint
def connect(options: dict[str, str]) -> int:
    """Have the kernel make a controller, through its fabrics interface.

    The keys of an authentication go to the kernel and nowhere else.

    :param options: as ``nvme-fabrics`` of the kernel calls them; the value of
        a flag means nothing
    :returns: N of nvmeN
    :raises OSError: EALREADY if there is one to this portal, or why not
    """
    for name, value in options.items():
        if name not in _OPTIONS:
            raise ValueError('not an option of a connection')
        if not value or not value.isprintable() or ',' in value:
            raise ValueError(f'not a value of {name}')
    text = ','.join(
        name if name in _FLAGS else f'{name}={value}'
        for name, value in options.items()
    )
    descriptor = os.open(FABRICS, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
        answer = os.read(descriptor, _LONGEST_ANSWER).decode()
    finally:
        os.close(descriptor)
    found = _INSTANCE.match(answer)
    if found is None:
        raise OSError(errno.EPROTO, 'nvme-fabrics says no instance')
    return int(found[1])


@privileged.default.entrypoint
def delete(controller: str) -> None:
    """End a controller, with its connection and its paths.

    :raises OSError: there is no such controller
    """
    place = f'/sys/class/nvme/{_controller(controller)}'
    sysfs.write(f'{place}/delete_controller', '1')


@privileged.default.entrypoint
def rescan(controller: str) -> None:
    """Have the kernel ask a controller for its namespaces again, soon.

    :raises OSError: there is no such controller
    """
    place = f'/sys/class/nvme/{_controller(controller)}'
    sysfs.write(f'{place}/rescan_controller', '1')


@privileged.default.entrypoint
def create_host_identity() -> None:
    """Give this host the name that storage knows it by, if it has none.

    The files are those of nvme-cli. Whatever is there stays.
    """
    host_id = str(uuid.uuid4())
    HOST_ID.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        _create(HOST_ID, host_id)
    known = HOST_ID.read_text(encoding='ascii').strip()
    with contextlib.suppress(FileExistsError):
        _create(HOST_NQN, f'nqn.2014-08.org.nvmexpress:uuid:{known}')


def _create(path: pathlib.Path, text: str) -> None:
    """All of it or nothing, and never a second time."""
    descriptor, name = tempfile.mkstemp(dir=path.parent)
    try:
        with open(descriptor, 'w', encoding='ascii') as file:
            file.write(f'{text}\n')
            file.flush()
            os.fchmod(descriptor, 0o644)
            os.fsync(descriptor)
        os.link(name, path)
    finally:
        os.unlink(name)


@privileged.default.entrypoint
def identify(controller: str, nsid: int, page: int) -> bytes:
    """A page of Identify data, as a controller gives it now.

    :param nsid: of the namespace
    :param page: the field CNS of the command
    :returns: 4096 bytes
    :raises OSError: the controller does not answer, or refuses
    """
    if not 0 < nsid < 2**32 or page not in (0x00, 0x03):
        raise ValueError('not a page of a namespace')
    buffer = ctypes.create_string_buffer(_PAGE)
    command = bytearray(
        _ADMIN_COMMAND.pack(
            _IDENTIFY, 0, 0, nsid, 0, 0, 0, ctypes.addressof(buffer),
            0, _PAGE, page, 0, 0, 0, 0, 0, _TIMEOUT_MS, 0,
        )
    )  # fmt: skip
    descriptor = os.open(
        f'/dev/{_controller(controller)}', os.O_RDONLY | os.O_CLOEXEC
    )
    try:
        status = fcntl.ioctl(descriptor, _NVME_IOCTL_ADMIN_CMD, command)
    finally:
        os.close(descriptor)
    if status:
        raise OSError(errno.EIO, f'NVMe status {status:#x}')
    return buffer.raw
