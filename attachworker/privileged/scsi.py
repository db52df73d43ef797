# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""SCSI devices: look for one LUN, ask it who it is, take it away."""

from collections.abc import Callable
import ctypes
import errno
import fcntl
import os
import pathlib

from attachworker import privileged
from attachworker.privileged import block
from attachworker.privileged import made
from attachworker.privileged import names
from attachworker.privileged import removals
from attachworker.privileged import sysfs

_hctl = names.rule(
    r'\d{1,9}:\d{1,9}:\d{1,9}:\d{1,20}', 'a SCSI address (H:C:T:L)'
)

DEVICES = pathlib.Path('/sys/class/scsi_device')

_SG_IO = 0x2285
_SG_DXFER_FROM_DEV = -3
_INQUIRY = 0x12
#: Bytes that are asked for first: SPC-2 has one byte for their number, and
#: there are targets that refuse whoever asks for more.
_FIRST_LENGTH = 252
#: The kernel's SCAN_WILD_CARD is the number above: it means all.
_MAX_NUMBER = 2**32 - 2
_MAX_LUN = 2**64 - 2
#: No page that anybody needs is longer.
_LONGEST = 4096
_CHECK_CONDITION = 2
_ILLEGAL_REQUEST = 5
_TIMEOUT_MS = 10_000


class _SgIoHeader(ctypes.Structure):
    """struct sg_io_hdr of <scsi/sg.h>."""

    _fields_ = (
        ('interface_id', ctypes.c_int),
        ('dxfer_direction', ctypes.c_int),
        ('cmd_len', ctypes.c_ubyte),
        ('mx_sb_len', ctypes.c_ubyte),
        ('iovec_count', ctypes.c_ushort),
        ('dxfer_len', ctypes.c_uint),
        ('dxferp', ctypes.c_void_p),
        ('cmdp', ctypes.c_void_p),
        ('sbp', ctypes.c_void_p),
        ('timeout', ctypes.c_uint),
        ('flags', ctypes.c_uint),
        ('pack_id', ctypes.c_int),
        ('usr_ptr', ctypes.c_void_p),
        ('status', ctypes.c_ubyte),
        ('masked_status', ctypes.c_ubyte),
        ('msg_status', ctypes.c_ubyte),
        ('sb_len_wr', ctypes.c_ubyte),
        ('host_status', ctypes.c_ushort),
        ('driver_status', ctypes.c_ushort),
        ('resid', ctypes.c_int),
        ('duration', ctypes.c_uint),
        ('info', ctypes.c_uint),
    )


@privileged.default.entrypoint
def scan(host: int, channel: int, target: int, lun: int) -> None:
    """Let the kernel probe one LUN; it has done so on return.

    :raises OSError: there is no such SCSI host
    """
    for number in (host, channel, target):
        names.number(number, _MAX_NUMBER, 'the number of a SCSI device')
    names.number(lun, _MAX_LUN, 'the number of a SCSI device')
    device = DEVICES / f'{host}:{channel}:{target}:{lun}' / 'device'
    was_there = device.exists()
    sysfs.write(
        f'/sys/class/scsi_host/host{host}/scan', f'{channel} {target} {lun}'
    )
    if not was_there and device.exists():
        made.note(device)


@privileged.default.entrypoint
def delete(hctl: str) -> None:
    """Let the kernel remove one SCSI device.

    :raises OSError: there is no such device; EPERM: see
        :func:`attachworker.privileged.removals.check`
    """
    device = DEVICES / _hctl(hctl) / 'device'
    instance = os.stat(device).st_ino
    removals.check(removals.of_scsi_device(hctl), instance)
    with sysfs.opened(str(device), instance) as directory:
        sysfs.write('delete', '1', directory)


@privileged.default.entrypoint
def rescan(hctl: str) -> None:
    """Let the kernel read size and identity of one device again.

    :raises OSError: there is no such device
    """
    sysfs.write(f'/sys/class/scsi_device/{_hctl(hctl)}/device/rescan', '1')


@privileged.readonly.entrypoint
def inquiry(device: str, instance: int, page: int) -> bytes:
    """A page of vital product data, from the target and not from a cache.

    :param device: kernel name, for example ``sda``
    :param instance: see :func:`attachworker.privileged.block.opened`
    :raises OSError: the device does not answer, or is another one by now;
        EOPNOTSUPP: it does not have that page
    """
    names.scsi_disk(device)
    names.number(page, 0xFF, 'the number of a page')
    flags = os.O_RDONLY | os.O_NONBLOCK
    with block.opened(device, instance, flags) as descriptor:
        return _whole_page(lambda length: _ask(descriptor, page, length))


def _whole_page(ask: Callable[[int], bytes]) -> bytes:
    """A page of any length.

    :param ask: for as many bytes of it as that, and no more
    """
    data = ask(_FIRST_LENGTH)
    length = min(4 + int.from_bytes(data[2:4], 'big'), _LONGEST)
    if length > _FIRST_LENGTH:
        data = ask(length)
    return data[:length]


def _ask(descriptor: int, page: int, length: int) -> bytes:
    command = ctypes.create_string_buffer(
        bytes((_INQUIRY, 1, page, *divmod(length, 256), 0)), 6
    )
    data = ctypes.create_string_buffer(length)
    sense = ctypes.create_string_buffer(32)
    header = _SgIoHeader(
        interface_id=ord('S'),
        dxfer_direction=_SG_DXFER_FROM_DEV,
        cmd_len=len(command),
        mx_sb_len=len(sense),
        dxfer_len=length,
        dxferp=ctypes.addressof(data),
        cmdp=ctypes.addressof(command),
        sbp=ctypes.addressof(sense),
        timeout=_TIMEOUT_MS,
    )
    fcntl.ioctl(descriptor, _SG_IO, header)
    if header.status == _CHECK_CONDITION and _is_refusal(sense.raw):
        raise OSError(errno.EOPNOTSUPP, f'the device has no page 0x{page:02x}')
    if header.status or header.host_status or header.driver_status:
        raise OSError(errno.EIO, 'the device did not answer an inquiry')
    return data.raw[: length - header.resid]


def _is_refusal(sense: bytes) -> bool:
    """Whether a device says that it does not know what it is asked for."""
    descriptors = sense[0] & 0x7F in (0x72, 0x73)
    key = sense[1] if descriptors else sense[2]
    return key & 0x0F == _ILLEGAL_REQUEST
