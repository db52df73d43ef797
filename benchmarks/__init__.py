# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""How long attaching takes: attachworker, os-brick, and what it has to cost.

``python -m benchmarks`` boots the lab, measures there, and prints a table.
``python -m benchmarks.simulated`` needs no lab: it measures what an operation
costs the worker.
"""
