# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The dashboard is one that Grafana takes; see also test_prometheus."""

import json
import pathlib
from typing import Any

import jsonschema

_DASHBOARD = (
    pathlib.Path(__file__).resolve().parents[2]
    / 'etc/grafana/grafana-dashboard.json'
)

# Of Grafana's classic model of a dashboard, what this one uses.
_TARGET = {
    'type': 'object',
    'required': ['refId', 'expr', 'legendFormat'],
    'properties': {
        'refId': {'pattern': '^[A-Z]$'},
        'expr': {'type': 'string', 'minLength': 1},
    },
}
_SOURCE = {
    'type': 'object',
    'properties': {
        'type': {'const': 'prometheus'},
        'uid': {'const': '${datasource}'},
    },
    'required': ['type', 'uid'],
}
_PANEL = {
    'type': 'object',
    'required': ['id', 'type', 'title', 'gridPos', 'datasource', 'targets'],
    'properties': {
        'id': {'type': 'integer', 'minimum': 1},
        'type': {'enum': ['stat', 'timeseries']},
        'title': {'type': 'string', 'minLength': 1},
        'gridPos': {
            'type': 'object',
            'required': ['x', 'y', 'w', 'h'],
            'properties': {
                'x': {'type': 'integer', 'minimum': 0, 'maximum': 23},
                'y': {'type': 'integer', 'minimum': 0},
                'w': {'type': 'integer', 'minimum': 1, 'maximum': 24},
                'h': {'type': 'integer', 'minimum': 1},
            },
        },
        'datasource': _SOURCE,
        'targets': {'type': 'array', 'minItems': 1, 'items': _TARGET},
    },
}
_SCHEMA = {
    'type': 'object',
    'required': ['title', 'uid', 'schemaVersion', 'panels', 'templating'],
    'properties': {
        'uid': {'type': 'string', 'maxLength': 40},
        'schemaVersion': {'type': 'integer', 'minimum': 36},
        'panels': {'type': 'array', 'minItems': 1, 'items': _PANEL},
        'templating': {
            'type': 'object',
            'required': ['list'],
            'properties': {
                'list': {
                    'type': 'array',
                    'items': {
                        'type': 'object',
                        'required': ['name', 'type', 'query'],
                        'properties': {
                            'type': {'enum': ['datasource', 'query']}
                        },
                    },
                }
            },
        },
    },
}


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(_DASHBOARD.read_text())
    return loaded


def test_the_dashboard_is_one_of_grafana() -> None:
    board = dashboard()
    jsonschema.validate(board, _SCHEMA)
    panels = board['panels']
    assert len({panel['id'] for panel in panels}) == len(panels)
    # No panel covers another
    cells = [
        (x, y)
        for panel in panels
        for x in range(
            panel['gridPos']['x'],
            panel['gridPos']['x'] + panel['gridPos']['w'],
        )
        for y in range(
            panel['gridPos']['y'],
            panel['gridPos']['y'] + panel['gridPos']['h'],
        )
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
