# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Chooses threads for oslo.service; to be imported before what uses it.

oslo.messaging and oslo.versionedobjects choose the eventlet backend of
oslo.service for good when they are imported before this. Where the program has
chosen already, its choice stays: it may only be a caller.

The package does not import it by itself, since it takes half a second: what
needs neither of the two, as the help of a command, does without.
"""

import warnings

from oslo_service import backend

with warnings.catch_warnings():
    # futurist looks whether eventlet is installed, and eventlet complains.
    warnings.filterwarnings('ignore', r'\s*Eventlet is deprecated')
    if backend.get_backend_type() is None:
        backend.init_backend(backend.BackendType.THREADING)
