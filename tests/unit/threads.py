# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A process that is at its limit of threads."""

import threading

import pytest


def exhaust(
    monkeypatch: pytest.MonkeyPatch, times: int | None = None, skip: int = 0
) -> list[str]:
    """Have threads not be started, as the system does.

    :param times: how many are refused; None: all, until the test ends
    :param skip: how many are started before that
    :returns: the names of those that were refused, as they are
    """
    refused: list[str] = []
    lock = threading.Lock()
    start = threading.Thread.start
    passed = 0

    def refuse(thread: threading.Thread) -> None:
        nonlocal passed
        with lock:
            passed += 1
            full = passed > skip and (times is None or len(refused) < times)
            if full:
                refused.append(thread.name)
        if full:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, 'start', refuse)
    return refused
