# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The bus: what travels between callers and workers, and how.

Modules of this package are used on both sides and load no host-side code,
unless their docstring says that they belong to the worker.
"""

from attachworker import threading_backend  # noqa: F401
