# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The commands: thin, each turns arguments into calls and answers."""
