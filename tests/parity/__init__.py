# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The same volumes on the same kernel, by os-brick and by attachworker."""
