# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Identifiers in SCSI vital product data (SPC-5, 7.7.6)."""

from collections.abc import Iterator

_UNIT_SERIAL_NUMBER = 0x80
_DEVICE_IDENTIFICATION = 0x83
_ASSOCIATION_MASK = 0x30
_TYPE_MASK = 0x0F
_ASCII_CODE_SETS = (2, 3)

_T10, _EUI64, _NAA, _NAME = 1, 2, 3, 8
#: NAA formats from the most to the least specific, as udev's scsi_id ranks.
_NAA_FORMATS = (6, 5, 3, 2)


def wwn(page: bytes) -> str | None:
    """The identifier of the logical unit as udev and os-brick spell it.

    A digit for the kind (3 NAA, 2 EUI-64, 1 vendor) and the identifier in
    lower case, for example ``36001405…``.

    :param page: page 0x83 as the device sent it
    :returns: None if the page has no identifier of the logical unit
    """
    if len(page) < 4 or page[1] != _DEVICE_IDENTIFICATION:
        return None
    ranked = [found for one in _designators(page) if (found := _rank(*one))]
    # the first one of several that are as good
    return min(ranked, key=lambda found: found[0])[1] if ranked else None


def serial(page: bytes) -> str | None:
    """The unit serial number (SPC-5, 7.7.19).

    :param page: page 0x80 as the device sent it
    :returns: None if the device has none
    """
    if len(page) < 4 or page[1] != _UNIT_SERIAL_NUMBER:
        return None
    length = int.from_bytes(page[2:4], 'big')
    return text(page[4 : 4 + length].strip(b' \t\r\n\0')) or None


def wwn_of_serial(vendor: str, model: str, serial: str) -> str:
    """The identifier of a logical unit that has no better one.

    As udev's scsi_id makes it: an S, and what is enough to tell it from all
    others, with ``_`` for white space.
    """
    return 'S' + '_'.join(f'{vendor:8}{model:16}{serial}'.split())


def text(value: bytes) -> str:
    """What a device says in text.

    What nobody can print is spelt out: it tells one volume from another all
    the same, and does no harm in a log or a file.
    """
    return ''.join(
        one if one.isprintable() else f'\\x{ord(one):02x}'
        for one in value.decode('ascii', 'backslashreplace')
    )


def _designators(page: bytes) -> Iterator[tuple[int, bool, bytes]]:
    """Kind, whether it is text, and value of those of the logical unit."""
    position = 4
    end = min(len(page), 4 + int.from_bytes(page[2:4], 'big'))
    while position + 4 <= end:
        length = page[position + 3]
        value = page[position + 4 : position + 4 + length]
        if position + 4 + length > end:
            break  # cut off: what is left of it may be like another's
        if not page[position + 1] & _ASSOCIATION_MASK:
            yield (
                page[position + 1] & _TYPE_MASK,
                page[position] & 0x0F in _ASCII_CODE_SETS,
                value,
            )
        position += 4 + length


def _rank(kind: int, ascii_text: bool, value: bytes) -> tuple[int, str] | None:
    if kind == _NAA and value and value[0] >> 4 in _NAA_FORMATS:
        return _NAA_FORMATS.index(value[0] >> 4), f'3{value.hex()}'
    if kind == _EUI64 and value:
        return 10, f'2{value.hex()}'
    if kind == _T10 and ascii_text and (words := value.rstrip(b'\0').split()):
        return 20, '1' + '_'.join(map(text, words))
    return None
