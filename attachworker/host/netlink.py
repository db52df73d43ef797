# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Uevents of the kernel, by netlink."""

import errno
from typing import Any

import pyudev

from attachworker.host import uevents


class NetlinkSource:
    """The kernel's own uevents, before any udev rule has run.

    Objects of libudev belong to the thread that uses them: only the monitor
    thread calls :meth:`receive`, and it hands on plain dicts.
    """

    def __init__(self) -> None:
        monitor = pyudev.Monitor.from_netlink(pyudev.Context(), 'kernel')
        monitor.start()
        self._monitor = monitor

    def fileno(self) -> int:
        number: int = self._monitor.fileno()
        return number

    def receive(self) -> uevents.Uevent | None:
        try:
            # Monitor.poll() fails for ever after one overrun (pyudev issue
            # 194); what it calls does not.
            device = self._monitor._receive_device()
        except OSError as error:
            # libudev reports the overrun without a number in some versions
            raise OSError(
                error.errno or errno.ENOBUFS, 'uevents were lost'
            ) from error
        if device is None:
            return None
        return event_of(device)

    def close(self) -> None:
        self._monitor = None


def event_of(device: Any) -> uevents.Uevent:
    """What matters of a uevent, and no text of its device.

    :raises OSError: ENOBUFS: it cannot be read, and may be about anything
    """
    try:
        return {
            'ACTION': device.action or '',
            'DEVPATH': device.device_path,
            'SUBSYSTEM': device.subsystem or '',
        }
    except UnicodeDecodeError as error:
        raise OSError(errno.ENOBUFS, 'a uevent is no text') from error
