# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Vital product data of a disk, as LIO sends it (SPC-5, 7.7)."""

from tests.simulator import storage

SUPPORTED_PAGES = 0x00
UNIT_SERIAL_NUMBER = 0x80
DEVICE_IDENTIFICATION = 0x83

VENDOR = 'LIO-ORG'
MODEL = 'simulated'

_BINARY, _ASCII, _UTF8 = 1, 2, 3
_T10, _NAA, _PORT, _PORT_GROUP, _NAME = 1, 3, 4, 5, 8
_OF_UNIT, _OF_PORT, _OF_TARGET = 0x00, 0x90, 0xA0
_ISCSI = 0x50


def page(volume: storage.Volume, target_name: str, number: int) -> bytes:
    """One page, with its header.

    :raises KeyError: a disk has no such page
    """
    body = {
        SUPPORTED_PAGES: bytes(
            (SUPPORTED_PAGES, UNIT_SERIAL_NUMBER, DEVICE_IDENTIFICATION)
        ),
        UNIT_SERIAL_NUMBER: volume.serial.encode() + b'\0',
        DEVICE_IDENTIFICATION: _identification(volume, target_name),
    }[number]
    return bytes((0, number)) + len(body).to_bytes(2, 'big') + body


def _identification(volume: storage.Volume, target_name: str) -> bytes:
    name = f'{target_name},t,0x0001'.encode() + b'\0'
    name += b'\0' * (-len(name) % 4)
    vendor = f'{VENDOR:8}{MODEL}:{volume.serial}\0'.encode()
    return b''.join(
        (
            _designator(_BINARY, _OF_UNIT | _NAA, bytes.fromhex(volume.wwn)),
            _designator(_ASCII, _OF_UNIT | _T10, vendor),
            _designator(_ISCSI | _BINARY, _OF_PORT | _PORT, b'\0\0\0\1'),
            _designator(_ISCSI | _BINARY, _OF_PORT | _PORT_GROUP, bytes(4)),
            _designator(_ISCSI | _UTF8, _OF_PORT | _NAME, name),
            _designator(
                _ISCSI | _UTF8, _OF_TARGET | _NAME, target_name.encode()
            ),
        )
    )


def _designator(first: int, second: int, value: bytes) -> bytes:
    return bytes((first, second, 0, len(value))) + value
