# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Tests for the modules that User-Mode Linux does not have."""

from tests.kernel.conftest import bed

__all__ = ('bed',)
