# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What must hold whatever happens when, and whatever cannot be read.

``schedules`` are operations that take turns at chosen points; ``reads`` are
looks at the host that fail once.
"""
