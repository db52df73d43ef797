# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Runs os-brick for whoever writes requests to its standard input.

Started by :mod:`tests.peer.process` with the interpreter of os-brick's own
environment, which knows nothing of attachworker. A request is a line of JSON,
``{"call": NAME, "protocol": …, "connector": {…}, "arguments": {…}}``; NAME is
a method of os-brick's connectors, the next two are for its factory. The answer
is a line too: ``result``, or ``error`` with class and message, and the
``elapsed`` seconds of the call itself.
"""

import json
import logging
import os
import sys
import time

import os_brick
from os_brick import privileged
from os_brick.initiator import connector
from oslo_concurrency import lockutils
from oslo_config import cfg
from oslo_privsep import priv_context

CALLS = (
    'connect_volume',
    'disconnect_volume',
    'extend_volume',
    'get_volume_paths',
)


def start(lock_path):
    """Get os-brick ready as a service does; before there are threads."""
    logging.basicConfig(
        level=os.environ.get('LAB_OS_BRICK_LOG', 'ERROR'), stream=sys.stderr
    )
    os.makedirs(lock_path, exist_ok=True)
    cfg.CONF(args=[], project='os-brick', default_config_files=[])
    lockutils.set_defaults(lock_path)
    os_brick.setup(cfg.CONF)
    cfg.CONF.set_override('lock_path', lock_path, 'os_brick')
    privileged.default.start(priv_context.Method.FORK)


def answer(request):
    if request['call'] not in CALLS:
        raise ValueError(f'no call of os-brick: {request["call"]}')
    made = connector.InitiatorConnector.factory(
        request['protocol'], None, **request['connector']
    )
    found, error = None, None
    started = time.monotonic()
    try:
        found = getattr(made, request['call'])(**request['arguments'])
    except Exception as raised:
        error = {'class': type(raised).__name__, 'message': str(raised)}
    elapsed = time.monotonic() - started
    return {'result': found, 'error': error, 'elapsed': elapsed}


def main():
    # Commands that os-brick starts must not write between the answers.
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)
    start(sys.argv[1])
    print(json.dumps({'ready': True}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=answers, flush=True)


if __name__ == '__main__':
    main()
