# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""Writes the known differences as a page: ``python -m tests.parity.page``."""

import pathlib

from tests.parity import table

PAGE = (
    pathlib.Path(__file__).resolve().parents[2]
    / 'doc/source/contributor/parity-table.inc'
)


def text() -> str:
    """All rows of the table, in reStructuredText."""
    lines = ['.. Written by "python -m tests.parity.page".', '']
    for row in table.ROWS:
        lines.append(row.name)
        if not row.differences:
            lines.append('    Equal.')
        for known in row.differences:
            lines.append(
                f'    {known.field}: os-brick ``{known.os_brick!r}``, '
                f'attachworker ``{known.attachworker!r}``. {known.reason}'
            )
        lines.append('')
    return '\n'.join(lines)


if __name__ == '__main__':
    PAGE.write_text(text())
