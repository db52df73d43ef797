# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""NVMe over Fabrics: controllers, and what a namespace says of itself."""

from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import ctypes
import errno
import fcntl
import os
import pathlib
import re
import shutil
import struct
import tempfile
import threading
import uuid

from attachworker import privileged
from attachworker.privileged import made
from attachworker.privileged import names
from attachworker.privileged import removals
from attachworker.privileged import sysfs

HOST_ID = pathlib.Path('/etc/nvme/hostid')
HOST_NQN = pathlib.Path('/etc/nvme/hostnqn')
CLASS = '/sys/class/nvme'
FABRICS = '/dev/nvme-fabrics'
REGISTRY = pathlib.Path('/run/nvme/registry')
SEQUENCE = pathlib.Path('/sys/kernel/uevent_seqnum')
#: What the registry calls us.
OWNER = 'attachworker'

_controller = names.rule(
    r'nvme\d{1,7}', 'the kernel name of an NVMe controller'
)
_nqn = names.rule(r'nqn\.[!-+\--~]{1,219}', 'an NVMe name')
_address = names.rule(r'[0-9A-Fa-f.:]{2,45}', 'an IP address')
_key = names.rule(
    r'DHHC-1:0[0-3]:[0-9A-Za-z+/]{1,128}={0,2}:?', 'a key of DH-HMAC-CHAP'
)
#: What the kernel may be told, with the rule for each value.
_OPTIONS = {
    'transport': names.rule('tcp|rdma', 'a transport'),
    'traddr': _address,
    'trsvcid': names.rule(r'[0-9]{1,5}', 'a port'),
    'host_traddr': _address,
    'nqn': _nqn,
    'hostnqn': _nqn,
    'hostid': names.rule(r'[0-9A-Fa-f-]{32,36}', 'a Host Identifier'),
    # -1: it never gives up
    'ctrl_loss_tmo': names.rule(r'-1|[0-9]{1,9}', 'a number of seconds'),
    'reconnect_delay': names.rule(r'[0-9]{1,9}', 'a number of seconds'),
    'dhchap_secret': _key,
    'dhchap_ctrl_secret': _key,
}
#: Those that the kernel shows in sysfs, to everybody.
_SHOWN = frozenset(('dhchap_secret', 'dhchap_ctrl_secret'))
#: Seconds between looks for a controller that is being made.
_LOOK_AGAIN = 0.005
#: Of these, the kernel is told the name alone.
_FLAGS = frozenset(('tls',))
_INSTANCE = re.compile(r'instance=([0-9]{1,10})')
_LONGEST_ANSWER = 4096

# linux/nvme_ioctl.h: struct nvme_passthru_cmd and the ioctl that takes it
_ADMIN_COMMAND = struct.Struct('=BBH3I2Q10I')
_NVME_IOCTL_ADMIN_CMD = 0xC0484E41
_IDENTIFY = 0x06
_PAGE = 4096
_TIMEOUT_MS = 10_000
#: Of a status, what kind it is; then: invalid opcode, invalid field.
_STATUS = 0x7FF
_NOT_SUPPORTED = (0x01, 0x02)


@privileged.default.entrypoint
def connect(options: dict[str, str]) -> int:
    """Have the kernel make a controller, through its fabrics interface.

    The keys of an authentication go to the kernel and nowhere else. It has
    them in sysfs, where only root can read them some milliseconds after the
    controller has appeared, which is before it is connected.

    :param options: as ``nvme-fabrics`` of the kernel calls them; the value of
        a flag means nothing
    :returns: N of nvmeN
    :raises OSError: EALREADY if there is one to this portal, or why not
    """
    for name, value in options.items():
        if name in _FLAGS:
            continue
        if name not in _OPTIONS:
            raise ValueError('not an option of a connection')
        _OPTIONS[name](value)
    text = ','.join(
        name if name in _FLAGS else f'{name}={value}'
        for name, value in options.items()
    )
    shown = {name: options[name] for name in _SHOWN & options.keys()}
    descriptor = os.open(FABRICS, os.O_RDWR | os.O_CLOEXEC)
    try:
        with _hidden_soon(shown):
            os.write(descriptor, text.encode())
        answer = os.read(descriptor, _LONGEST_ANSWER).decode(errors='replace')
    finally:
        os.close(descriptor)
    found = _INSTANCE.match(answer)
    if found is None:
        raise OSError(errno.EPROTO, 'nvme-fabrics says no instance')
    number = int(found[1])
    made.note(pathlib.Path(CLASS, f'nvme{number}'))
    for name in shown:
        # A controller that has gone by now has no such file.
        with contextlib.suppress(FileNotFoundError):
            os.chmod(f'{CLASS}/nvme{number}/{name}', 0o600)
    return number


@contextlib.contextmanager
def _hidden_soon(keys: Mapping[str, str]) -> Iterator[None]:
    """Meanwhile, have only root read keys where they appear in sysfs.

    :param keys: by the name of their file
    """
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(_LOOK_AGAIN):
            for name, key in keys.items():
                for path in pathlib.Path(CLASS).glob(f'nvme*/{name}'):
                    # It may go at any time; connect() ends with a chmod that
                    # must not fail.
                    with contextlib.suppress(OSError):
                        if path.read_text().strip() == key:
                            path.chmod(0o600)

    if not keys:
        yield
        return
    thread = threading.Thread(target=look, name='keys', daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _directory(
    controller: str, instance: int
) -> contextlib.AbstractContextManager[int]:
    """See :func:`attachworker.privileged.sysfs.opened`."""
    return sysfs.opened(f'{CLASS}/{_controller(controller)}', instance)


@privileged.default.entrypoint
def delete(controller: str, instance: int) -> None:
    """End a controller, with its connection and its paths.

    :param instance: see :func:`attachworker.privileged.sysfs.opened`; the
        kernel gives the name of a controller to the next one
    :raises OSError: there is no such controller; EPERM: see
        :func:`attachworker.privileged.removals.check`
    """
    with _directory(controller, instance) as directory:
        removals.check(removals.of_controller(controller), instance)
        with contextlib.suppress(OSError):
            if (REGISTRY / controller / 'owner').read_text().strip() == OWNER:
                _forget(controller)
        sysfs.write('delete_controller', '1', directory)


@privileged.default.entrypoint
def register(controller: str, instance: int) -> None:
    """Tell other programs on the host that a controller is ours.

    They know it from the registry of nvme-cli 3: its ``disconnect-all`` leaves
    alone what has an owner. The entry goes with the controller.

    :param instance: see :func:`delete`
    :raises OSError: there is no such controller, or /run cannot be written
    """
    with _directory(controller, instance) as directory:
        # By this number udev tells the end of this controller from that of
        # an earlier one of its name: it was there when the number was read.
        number = SEQUENCE.read_text(encoding='ascii').strip()
        os.stat('dev', dir_fd=directory)
        REGISTRY.mkdir(mode=0o755, parents=True, exist_ok=True)
        staged = REGISTRY / f'.{controller}.{uuid.uuid4().hex}'
        staged.mkdir(mode=0o755)
        for name, text in (('owner', OWNER), ('seqnum', number)):
            (staged / name).write_text(f'{text}\n', encoding='ascii')
        # What there is was an earlier controller's.
        with contextlib.suppress(FileNotFoundError):
            _forget(controller)
        os.rename(staged, REGISTRY / controller)


def _forget(controller: str) -> None:
    """Take an entry out of the registry: nobody sees a half of it."""
    aside = tempfile.mkdtemp(prefix='.trash.', dir=REGISTRY)
    try:
        os.rename(REGISTRY / controller, aside)
    finally:
        shutil.rmtree(aside)


@privileged.default.entrypoint
def rescan(controller: str, instance: int) -> None:
    """Have the kernel ask a controller for its namespaces again, soon.

    :param instance: see :func:`delete`
    :raises OSError: there is no such controller
    """
    with _directory(controller, instance) as directory:
        sysfs.write('rescan_controller', '1', directory)


@privileged.default.entrypoint
def create_host_identity(nqn: str, host_id: str) -> None:
    """Give this host the names that storage knows it by, if it has none.

    The files are those of nvme-cli. Whatever is in them stays.

    :param nqn: Host NQN
    :param host_id: Host Identifier, a uuid
    :raises OSError: a file that is missing or empty cannot be written
    """
    if str(uuid.UUID(host_id)) != host_id:
        raise ValueError('not the names of a host')
    _nqn(nqn)
    HOST_ID.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    _provide(HOST_ID, host_id)
    _provide(HOST_NQN, nqn)


def _provide(path: pathlib.Path, text: str) -> None:
    """Write a file that is missing or empty: all of it, or nothing."""
    try:
        if path.read_bytes().strip():
            return
        put = os.replace
    except FileNotFoundError:
        put = os.link  # which leaves alone what somebody else makes meanwhile
    descriptor, name = tempfile.mkstemp(dir=path.parent)
    try:
        with open(descriptor, 'w', encoding='ascii') as file:
            file.write(f'{text}\n')
            file.flush()
            os.fchmod(descriptor, 0o644)
            os.fsync(descriptor)
        with contextlib.suppress(FileExistsError):
            put(name, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


@contextlib.contextmanager
def _node(controller: str, instance: int) -> Iterator[int]:
    """A descriptor of the node of a controller, and of no other one."""
    with _directory(controller, instance) as directory:
        descriptor = os.open(f'/dev/{controller}', os.O_RDONLY | os.O_CLOEXEC)
        try:
            # The controller has had its number since before the node was
            # opened if it has it now.
            number = os.open('dev', os.O_RDONLY, dir_fd=directory)
            with open(number, encoding='ascii') as file:
                expected = file.read().strip()
            opened = os.fstat(descriptor).st_rdev
            if f'{os.major(opened)}:{os.minor(opened)}' != expected:
                raise OSError(
                    errno.ESTALE, f'/dev/{controller} is another one by now'
                )
            yield descriptor
        finally:
            os.close(descriptor)


@privileged.default.entrypoint
def identify(controller: str, instance: int, nsid: int, page: int) -> bytes:
    """A page of Identify data, as a controller gives it now.

    :param instance: see :func:`delete`
    :param nsid: of the namespace
    :param page: the field CNS of the command
    :returns: 4096 bytes
    :raises OSError: the controller does not answer, or refuses; EOPNOTSUPP:
        it does not have such a page
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
    with _node(controller, instance) as descriptor:
        status = fcntl.ioctl(descriptor, _NVME_IOCTL_ADMIN_CMD, command)
    if status & _STATUS in _NOT_SUPPORTED:
        raise OSError(errno.EOPNOTSUPP, f'NVMe status {status:#x}')
    if status:
        raise OSError(errno.EIO, f'NVMe status {status:#x}')
    return buffer.raw
