# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The table of the privileged verbs for the documentation.

``python -m tools.verbs`` writes it; a test sees that it is fresh. What a verb
does to the host is in a record of what was seen on a real kernel
(``tests/kernel/measured.py``); what it takes is in the code.
"""

import inspect
import json
import pathlib
import re
from typing import Any

from attachworker import privileged

_PROJECT = pathlib.Path(__file__).resolve().parents[1]
TABLE = _PROJECT / 'doc/source/contributor/verbs-table.inc'
RECORD = _PROJECT / 'tests/recorded/verbs.json'

_CONTEXTS = {'default': privileged.default, 'readonly': privileged.readonly}
_QUOTE = re.compile(r"'(\w+)'")
_HEAD = """\
.. list-table::
   :header-rows: 1
   :widths: 30 35 35

   * - Verb
     - Reads
     - Writes, calls and runs
"""


def verbs() -> dict[str, dict[str, str]]:
    """What the code says of each verb: its context, and its signature."""
    found = {}
    for module, inside in vars(privileged).items():
        if not inspect.ismodule(inside):
            continue
        for name, verb in vars(inside).items():
            for context, one in _CONTEXTS.items():
                if one.is_entrypoint(verb):
                    found[f'{module}.{name}'] = {
                        'context': context,
                        'signature': _signature(verb.args[0]),
                    }
    return dict(sorted(found.items()))


def _signature(function: Any) -> str:
    return _QUOTE.sub(r'\1', str(inspect.signature(function)))


def recorded() -> dict[str, dict[str, Any]]:
    """What was reviewed of each verb, and what was seen of it."""
    found: dict[str, dict[str, Any]] = json.loads(RECORD.read_text())
    return found


def table() -> str:
    return _HEAD + ''.join(
        _row(name, **entry) for name, entry in recorded().items()
    )


def _row(
    name: str,
    context: str,
    signature: str,
    reads: list[str],
    writes: list[str],
    calls: list[str],
    tools: list[str],
) -> str:
    first = [f'**{name}**', f'{context}', f'``{signature}``']
    acts = [
        *(f'``{path}``' for path in writes),
        *(f'{call}' for call in calls),
        *(f'runs ``{tool}``' for tool in tools),
    ]
    columns = (first, [f'``{path}``' for path in reads], acts)
    lines = ''
    for start, column in zip('*  ', columns, strict=True):
        rows = [f'| {one}' for one in column] or ['nothing']
        lines += f'   {start} - {rows[0]}\n'
        lines += ''.join(f'       {row}\n' for row in rows[1:])
    return lines


if __name__ == '__main__':
    TABLE.write_text(table(), encoding='utf-8')
