# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""SCSI devices: look for one LUN, ask it who it is, take it away."""

import ctypes
import fcntl
import os

from attachworker import privileged
from attachworker.privileged import block
from attachworker.privileged import names
from attachworker.privileged import sysfs

_hctl = names.rule(
    r'\d{1,9}:\d{1,9}:\d{1,9}:\d{1,20}', 'a SCSI address (H:C:T:L)'
)

_SG_IO = 0x2285
_SG_DXFER_FROM_DEV = -3
_INQUIRY = 0x12
_PAGE_LENGTH = 1024
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
    sysfs.write(
        f'/sys/class/scsi_host/host{int(host)}/scan',
        f'{int(channel)} {int(target)} {int(lun)}',
    )


@privileged.default.entrypoint
def delete(hctl: str) -> None:
    """Let the kernel remove one SCSI device.

    :raises OSError: there is no such device
    """
    sysfs.write(f'/sys/class/scsi_device/{_hctl(hctl)}/device/delete', '1')


@privileged.default.entrypoint
def rescan(hctl: str) -> None:
    """Let the kernel read size and identity of one device again.

    :raises OSError: there is no such device
    """
    sysfs.write(f'/sys/class/scsi_device/{_hctl(hctl)}/device/rescan', '1')


@privileged.default.entrypoint
def inquiry(device: str, instance: int, page: int) -> bytes:
    """A page of vital product data, from the target and not from a cache.

    :param device: kernel name, for example ``sda``
    :param instance: see :func:`attachworker.privileged.block.opened`
    :raises OSError: the device does not answer, does not have that page, or
        is another one by now
    """
    names.scsi_disk(device)
    command = ctypes.create_string_buffer(
        bytes((_INQUIRY, 1, page & 0xFF, *divmod(_PAGE_LENGTH, 256), 0)), 6
    )
    data = ctypes.create_string_buffer(_PAGE_LENGTH)
    sense = ctypes.create_string_buffer(32)
    header = _SgIoHeader(
        interface_id=ord('S'),
        dxfer_direction=_SG_DXFER_FROM_DEV,
        cmd_len=len(command),
        mx_sb_len=len(sense),
        dxfer_len=_PAGE_LENGTH,
        dxferp=ctypes.addressof(data),
        cmdp=ctypes.addressof(command),
        sbp=ctypes.addressof(sense),
        timeout=_TIMEOUT_MS,
    )
    flags = os.O_RDONLY | os.O_NONBLOCK
    with block.opened(device, instance, flags) as descriptor:
        fcntl.ioctl(descriptor, _SG_IO, header)
    if header.status or header.host_status or header.driver_status:
        raise OSError(5, f'{device} did not answer an inquiry')
    length = 4 + int.from_bytes(data.raw[2:4], 'big')
    return data.raw[: min(length, _PAGE_LENGTH - header.resid)]
