# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""What is seen of operations: log, notifications, metrics, traces."""
