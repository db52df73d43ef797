# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Identifiers in vital product data."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
import pytest

from attachworker.host import vpd

NAA6 = bytes.fromhex('6001405a1b2c3d4e5f60718293a4b5c6')
NAA5 = bytes.fromhex('5001405a1b2c3d4e')
EUI = bytes.fromhex('0011223344556677')
T10 = b'LIO-ORG  block   :serial'

_BINARY, _ASCII = 1, 2
_T10, _EUI64, _NAA, _RELATIVE_PORT = 1, 2, 3, 4
_OF_PORT = 0x10


def designator(code_set: int, kind: int, value: bytes) -> bytes:
    return bytes((code_set, kind, 0, len(value))) + value


def page(designators: Sequence[bytes], number: int = 0x83) -> bytes:
    body = b''.join(designators)
    return bytes((0, number)) + len(body).to_bytes(2, 'big') + body


NAA6_OF_UNIT = designator(_BINARY, _NAA, NAA6)
NAA5_OF_UNIT = designator(_BINARY, _NAA, NAA5)
EUI_OF_UNIT = designator(_BINARY, _EUI64, EUI)
T10_OF_UNIT = designator(_ASCII, _T10, T10)


@pytest.mark.parametrize(
    ('designators', 'wanted'),
    [
        ([NAA6_OF_UNIT], f'3{NAA6.hex()}'),
        ([NAA5_OF_UNIT], f'3{NAA5.hex()}'),
        ([EUI_OF_UNIT], f'2{EUI.hex()}'),
        ([T10_OF_UNIT], '1LIO-ORG_block_:serial'),
        # the most specific one, wherever it stands
        (
            [T10_OF_UNIT, EUI_OF_UNIT, NAA5_OF_UNIT, NAA6_OF_UNIT],
            f'3{NAA6.hex()}',
        ),
        ([NAA6_OF_UNIT, T10_OF_UNIT], f'3{NAA6.hex()}'),
        # of two alike the first
        (
            [NAA5_OF_UNIT, designator(_BINARY, _NAA, NAA5[::-1])],
            f'3{NAA5.hex()}',
        ),
        # that of a port tells nothing of the volume
        ([designator(_BINARY, _OF_PORT | _NAA, NAA6)], None),
        ([designator(_BINARY, _RELATIVE_PORT, b'\0\0\0\1')], None),
        # locally assigned formats are nothing unique
        ([designator(_BINARY, _NAA, b'\xf0' + bytes(7))], None),
        ([designator(_BINARY, _NAA, b'')], None),
        ([], None),
    ],
)
def test_identifier(designators: list[bytes], wanted: str | None) -> None:
    assert vpd.wwn(page(designators)) == wanted


def test_another_page_has_no_identifier() -> None:
    assert vpd.wwn(page([NAA6_OF_UNIT], number=0x80)) is None


def test_a_page_longer_than_it_says() -> None:
    whole = page([NAA6_OF_UNIT])
    assert vpd.wwn(whole + bytes(100)) == f'3{NAA6.hex()}'


@given(st.integers(0, 100))
def test_a_page_that_is_cut_never_gives_half_an_identifier(cut: int) -> None:
    """Half an identifier would be the same for several volumes."""
    whole = page([T10_OF_UNIT, NAA6_OF_UNIT])
    found = vpd.wwn(whole[:cut])
    assert found in (None, '1LIO-ORG_block_:serial', f'3{NAA6.hex()}')


@given(st.binary(max_size=300))
def test_no_page_is_too_strange(noise: bytes) -> None:
    for data in (noise, b'\0\x83' + noise, page([noise])[:1024]):
        found = vpd.wwn(data)
        assert found is None or found[0] in '123'
        assert found is None or found.isprintable()


def test_what_nobody_can_print_is_spelt_out() -> None:
    """It ends in logs, in results and in the journal."""

    def wwn(text: bytes) -> str | None:
        return vpd.wwn(page([designator(_ASCII, _T10, text)]))

    assert wwn(b'ACME  disk\x1b[31m\0one') == '1ACME_disk\\x1b[31m\\x00one'
    # Volumes that differ in that stay different ones
    assert len({wwn(bytes((65, byte))) for byte in (1, 2, 127, 254, 255)}) == 5
    # And what fills up a field is no part of it
    assert wwn(b'ACME one\0\0\0') == wwn(b'ACME one    ') == '1ACME_one'


@pytest.mark.parametrize(
    ('text', 'serial'),
    [
        (b'  0123\0\0', '0123'),
        (b'a\nb\xff', 'a\\x0ab\\xff'),
        (b'\0\0\0\0', None),
        (b'    ', None),
    ],
)
def test_serial_numbers(text: bytes, serial: str | None) -> None:
    assert vpd.serial(page([text], number=0x80)) == serial
