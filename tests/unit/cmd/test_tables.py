# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Tables: what people see."""

import argparse
import datetime
import re
import sys

import pytest

from attachworker.cmd import tables

LONG = 'iqn.2010-10.org.openstack:volume-' + 'x' * 100


def test_nothing_is_wider_than_the_terminal_but_words() -> None:
    # Given a table of text, and one with a word that does not fit
    wide = {'detail': 'some words ' * 20, 'state': 'attached'}
    for most in (60, 80, 132):
        for text in (
            tables.listing(('state', 'detail'), [wide], most),
            tables.details(wide, most),
        ):
            assert max(len(line) for line in text.splitlines()) <= most
    # Then nobody has to put a name together from two lines
    for text in (
        tables.listing(('state', 'device'), [{'device': LONG}], 80),
        tables.details({'device': {'paths': [{'target': LONG}]}}, 80),
    ):
        assert LONG in text


def test_what_no_terminal_bounds_is_not_wrapped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv('COLUMNS', raising=False)
    monkeypatch.setattr('sys.stdout.isatty', lambda: False)
    assert tables.width() is None
    text = tables.details({'detail': 'some words ' * 20}, tables.width())
    assert len(text.splitlines()) == 5
    monkeypatch.setenv('COLUMNS', '100')
    assert tables.width() == 100
    assert tables.width(argparse.Namespace(max_width=70)) == 70


@pytest.mark.parametrize(
    ('count', 'text'),
    [
        (0, '0 B'),
        (1023, '1023 B'),
        (1024, '1 KiB'),
        (20 << 30, '20 GiB'),
        ((20 << 30) + (512 << 20), '20.5 GiB'),
        (1 << 40, '1 TiB'),
        (2**63 - 1, '8 EiB'),
    ],
)
def test_sizes_have_units(count: int, text: str) -> None:
    assert tables.size(count) == text


@pytest.mark.parametrize(
    ('ago', 'text'),
    [(0, '0 s'), (59, '59 s'), (61, '1 min'), (7300, '2 h'), (9e5, '10 d')],
)
def test_ages_have_units(ago: float, text: str) -> None:
    now = datetime.datetime.now(datetime.UTC)
    created = now - datetime.timedelta(seconds=ago)
    # As JSON has it
    assert tables.age(created.isoformat()) == text
    assert tables.age(created.strftime('%Y-%m-%dT%H:%M:%SZ')) == text


def test_seconds_of_steps_are_for_who_asks() -> None:
    value = {
        'status': 'extended',
        'old_size': 1 << 30,
        'device': {'path': '/dev/sda', 'size': 2 << 30},
        'timings': {'GetConnector': 0.25},
    }
    shown = tables.details(tables.result(value, verbose=False), None)
    assert 'GetConnector' not in shown
    assert '1 GiB' in shown
    assert '2 GiB' in shown
    verbose = tables.details(tables.result(value, verbose=True), None)
    assert '| timings.GetConnector | 0.250 s' in verbose


def test_empty_values_are_left_out() -> None:
    text = tables.details(
        {
            'error': None,
            'leftovers': [],
            'old_size': 0,
            'device': {'degraded': False},
        },
        80,
    )
    assert 'error' not in text
    assert 'leftovers' not in text
    assert 'old_size' in text
    assert 'device.degraded | no' in text


def test_text_cannot_steer_the_terminal() -> None:
    assert tables.one_line('a\x1b[2Jb\r\nc\u202ed') == 'a [2Jb c d'


def test_colours_are_those_of_states_alone() -> None:
    table = tables.listing(
        ('name', 'state'),
        [
            {'name': 'failed ok', 'state': 'attached'},
            {'name': 'a', 'state': 'degraded'},
            {'name': 'b', 'state': 'failed'},
        ],
        80,
    )
    coloured = tables.coloured(table)
    found = re.findall('\033\\[([0-9]+)m(.*?)\033\\[0m', coloured)
    assert found == [('32', 'attached'), ('33', 'degraded'), ('31', 'failed')]
    # And nothing else has changed
    assert re.sub('\033\\[[0-9]+m', '', coloured) == table


@pytest.mark.parametrize(
    ('terminal', 'environment', 'colours'),
    [
        (True, {'TERM': 'xterm'}, True),
        (True, {'TERM': 'dumb'}, False),
        (True, {'TERM': 'xterm', 'NO_COLOR': '1'}, False),
        (False, {'TERM': 'xterm'}, False),
    ],
)
def test_colours_on_terminals_only(
    terminal: bool,
    environment: dict[str, str],
    colours: bool,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv('NO_COLOR', raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr('sys.stdout.isatty', lambda: terminal)
    table = tables.listing(('state',), [{'state': 'ok'}], 80)
    tables.show(table, sys.stdout)
    assert ('\033[' in capsys.readouterr().out) is colours
