# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The lab itself: what it does with guests that boot, and that do not.

These tests boot their guests themselves, so they need root.
"""
