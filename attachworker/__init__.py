# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Attaches block volumes to this host, as asked over RabbitMQ."""
