# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Tests over a real bus: a private RabbitMQ node, one a test run."""
