# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""``python -m tests.properties 'Schedule(...)'``: have a schedule again."""

import contextlib
import sys

from tests.properties import schedule
from tests.properties import workers
from tests.properties import world


def main() -> int:
    (text,) = sys.argv[1:]
    one = eval(text, vars(schedule))
    with contextlib.closing(world.World()) as made:
        try:
            print(*made.run(one), sep='\n')
        except workers.Violation as error:
            print(error, *error.__notes__, sep='\n')
            return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
