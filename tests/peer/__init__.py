# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""os-brick as another process of the host: what it does, and how long."""
