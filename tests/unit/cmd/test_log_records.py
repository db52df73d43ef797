# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Lines of the worker's log, and who may begin one."""

import logging
import sys

from oslo_config import cfg
from oslo_log import formatters
from oslo_log import log

from attachworker.cmd import worker

FORGED = '2026-01-01 00:00:00 CRITICAL forged'


def written(message: str, *values: object, exc_info: bool = False) -> str:
    """What is in the log of a message."""
    conf = cfg.ConfigOpts()
    log.register_options(conf)
    conf([])
    record = worker.LogRecord(
        'name',
        logging.ERROR,
        'path',
        1,
        message,
        values,
        sys.exc_info() if exc_info else None,
    )
    return formatters.ContextFormatter(config=conf).format(record)


def test_a_value_begins_no_line() -> None:
    text = written('Attachment %s', f'x\n{FORGED}\r\x1b[2J\u2028\ud800')
    assert text.count('\n') == 0
    assert rf'Attachment x\n{FORGED}\r\x1b[2J\u2028\ud800' in text
    text.encode()


def test_the_text_of_an_error_begins_no_line() -> None:
    try:
        raise OSError(f'x\n{FORGED}\x1b[2J')
    except OSError:
        texts = [written('It failed'), written('It failed', exc_info=True)]
    for text in texts:
        assert '\x1b' not in text
        for line in text.split('\n'):
            assert not line.startswith(FORGED)
    assert 'Traceback' in texts[1]


def test_a_letter_of_any_language_stays() -> None:
    assert 'Träger 卷' in written('Träger %s', '卷')
