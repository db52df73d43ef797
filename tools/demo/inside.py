# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""The part of the demo that runs inside the lab."""

import sys

from tests.kernel.bed import KernelBed
from tools.demo import scenario

if __name__ == '__main__':
    sys.exit(scenario.run(KernelBed(), 'a real kernel'))
