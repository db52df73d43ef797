# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A simulated host: kernel, iscsid and storage in a process of their own.

``server`` owns a directory tree with the kernel's names and layout and serves
the privileged verbs; ``client`` is what the worker under test imports;
``bed`` puts both together for tests; ``faults`` is what can go wrong.
"""
