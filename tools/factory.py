# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The table of os-brick's protocols for the documentation.

``python -m tools.factory`` writes it; a test sees that it is fresh.
"""

import pathlib

from attachworker.brick import factory

TABLE = (
    pathlib.Path(__file__).resolve().parents[1]
    / 'doc/source/user/factory-table.inc'
)
_HEAD = """\
.. list-table::
   :header-rows: 1
   :widths: 25 20 10 10 35

   * - Protocol
     - ``driver_volume_type``
     - s390x
     - ppc64le
     - Why it is refused
"""


def table() -> str:
    """All that os-brick 7.1.1 has, as reStructuredText."""
    text = _HEAD
    for name in sorted(factory.SERVED.keys() | factory.NOT_SERVED.keys()):
        served = factory.SERVED.get(name)
        cells = [
            f'``{served}``' if served else '\u2014',
            *(
                'yes' if name in factory.get_connector_mapping(arch) else 'no'
                for arch in ('s390x', 'ppc64le')
            ),
            factory.NOT_SERVED.get(name, ''),
        ]
        text += f'   * - ``{name}``\n'
        text += ''.join(
            f'     - {cell}\n'.replace('- \n', '-\n') for cell in cells
        )
    return text


if __name__ == '__main__':
    TABLE.write_text(table(), encoding='utf-8')
