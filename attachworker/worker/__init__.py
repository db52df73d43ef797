# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""What happens to a request, from its acceptance to its final result."""

from attachworker import threading_backend  # noqa: F401
