# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Tables: what people see."""

import re

import pytest

from attachworker.cmd import tables

LONG = 'iqn.2010-10.org.openstack:volume-' + 'x' * 100


def test_nothing_is_wider_than_80_columns() -> None:
    rows = [{'attachment_id': LONG, 'state': 'attached', 'device': LONG}]
    for text in (
        tables.listing(('attachment_id', 'state', 'device'), rows),
        tables.details(
            {
                'device': {
                    'path': LONG,
                    'paths': [
                        {'target': LONG, 'lun': 1},
                        {'target': LONG, 'lun': 2},
                    ],
                }
            }
        ),
    ):
        assert max(len(line) for line in text.splitlines()) <= 80


def test_empty_values_are_left_out() -> None:
    text = tables.details(
        {
            'error': None,
            'leftovers': [],
            'old_size': 0,
            'device': {'degraded': False},
        }
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
    tables.show(tables.listing(('state',), [{'state': 'ok'}]))
    assert ('\033[' in capsys.readouterr().out) is colours
