# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""``attachworker``: the worker daemon."""

from collections.abc import Sequence
import gc
from importlib import metadata
import logging as stdlib_logging
import os
import re
import signal
import socket
import sys
import threading
import time
from typing import Any
from typing import NoReturn

from oslo_config import cfg
from oslo_log import log as logging
from oslo_reports import opts as report_options

from attachworker import conf
from attachworker import exception
from attachworker.cmd import options
from attachworker.worker import service

CONF = cfg.CONF
LOG = logging.getLogger(__name__)

_STOP = (signal.SIGTERM, signal.SIGINT)
_SIGNALS = (*_STOP, signal.SIGHUP, signal.SIGUSR2)
#: What begins a line, moves the cursor, turns the direction of a text, or
#: cannot be written.
_CONTROL = re.compile(
    '[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]'
)
#: Seconds between two looks at the watchdog where systemd wants none.
_IDLE = 3600.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM; the exit code is 1 if the worker cannot start."""
    # Before any thread or child exists: only the main loop takes signals,
    # and Ctrl-C in a terminal does not end the privileged helper.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    conf.register(CONF)
    logging.register_options(CONF)
    report_options.set_defaults(CONF)
    try:
        CONF(
            sys.argv[1:] if argv is None else argv,
            project=conf.PROJECT,
            version=metadata.version('attachworker'),
        )
        if CONF.config_file == CONF.default_config_files:
            conf.check_readable()
        faults = options.faults(CONF)
    except (cfg.Error, OSError) as error:
        print(f'attachworker: {_one_line(error)}', file=sys.stderr)
        return 1
    failure: Exception
    try:
        stdlib_logging.setLogRecordFactory(LogRecord)
        logging.setup(CONF, 'attachworker')
        _refuse(faults)
        service.forbid_core_dumps()
        service.start_helper(CONF)
        service.check_directories(CONF)
        _Main().run()
    except (exception.AttachWorkerError, cfg.Error) as error:
        failure = error
    # Not above, where oslo.log would say the error a second time.
    return _cannot_start(failure)


def _refuse(faults: list[options.Fault]) -> None:
    """Tell of what the configuration says wrongly.

    :raises ConfigurationError: a value makes no sense
    """
    for fault in faults:
        if not fault.fatal:
            LOG.warning('%s', fault)
    fatal = [str(fault) for fault in faults if fault.fatal]
    if fatal:
        raise exception.ConfigurationError('; '.join(fatal))


class LogRecord(stdlib_logging.LogRecord):
    """One line of the log, whatever text of others is in it.

    Of a traceback only the lines stay, each of which oslo.log begins.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ('message', 'error_summary'):
            value = _escaped(value)
        elif name == 'exc_text' and value:
            value = '\n'.join(map(_escaped, value.split('\n')))
        super().__setattr__(name, value)


def _escaped(text: str) -> str:
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


class _Main:
    """The main thread: starts the worker and takes signals."""

    def __init__(self) -> None:
        self._worker = service.Worker(CONF, service.this_host())
        self._failure: BaseException | None = None
        usec = os.environ.get('WATCHDOG_USEC', '')
        self._interval = int(usec) / 2e6 if usec.isdigit() else _IDLE

    def run(self) -> NoReturn:
        threading.Thread(target=self._start, name='start', daemon=True).start()
        while True:
            received = signal.sigtimedwait(_SIGNALS, self._interval)
            if received is None:
                self._feed()
            elif received.si_signo == signal.SIGHUP:
                self._reload()
            elif received.si_signo == signal.SIGUSR2:
                self._report()
            else:
                break
        if self._failure is not None:
            _end(_cannot_start(self._failure))
        self._stop()

    def _report(self) -> None:
        # In a thread: what it looks at may be what hangs.
        try:
            threading.Thread(
                target=self._worker.report,
                args=(CONF.oslo_reports.log_dir,),
                name='report',
                daemon=True,
            ).start()
        except (RuntimeError, MemoryError) as error:
            LOG.error('There is no report: %s', error)

    def _start(self) -> None:
        # In a thread: it blocks while the broker is away.
        try:
            self._worker.start()
        except BaseException as error:
            if not isinstance(error, exception.AttachWorkerError):
                LOG.exception('Starting the worker')
            self._failure = error
            os.kill(os.getpid(), signal.SIGTERM)
            return
        # What there is by now stays. To look through all of it for what
        # nobody refers to took longer than an attach, each time.
        gc.collect()
        gc.freeze()
        _notify('READY=1')

    def _reload(self) -> None:
        stamp = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        _notify(f'RELOADING=1\nMONOTONIC_USEC={stamp}')
        try:
            _refuse(options.faults(CONF))
            CONF.mutate_config_files()
            self._worker.take_over_options()
        except (
            exception.ConfigurationError,
            cfg.Error,
            OSError,
            ValueError,
        ) as error:
            LOG.error('The options stay as they were: %s', _one_line(error))
        except SystemExit:
            # oslo.config has printed which value makes no sense.
            LOG.error('The options stay as they were: a value is invalid')
        _notify('READY=1')

    def _stop(self) -> NoReturn:
        LOG.info('Stopping')
        _notify('STOPPING=1')
        if self._worker.ready.is_set():
            stopping = threading.Thread(
                target=self._worker.stop,
                args=(CONF.stop_timeout,),
                name='stop',
                daemon=True,
            )
            try:
                stopping.start()
            except (RuntimeError, MemoryError) as error:
                # The next start finds in the journal what is unfinished.
                LOG.error('What runs is cut short: %s', error)
            while stopping.is_alive():
                self._feed()
                stopping.join(self._interval)
        _end(0)

    def _feed(self) -> None:
        """Tell systemd that all is well, if it is."""
        if self._worker.works():
            _notify('WATCHDOG=1')
        else:
            LOG.critical('No operation is begun any more')


def _cannot_start(error: BaseException) -> int:
    LOG.critical('The worker cannot start: %s', _one_line(error))
    return 1


def _one_line(error: BaseException) -> str:
    return ' '.join(str(error).split())


def _end(code: int) -> NoReturn:
    # Threads that are stuck in the kernel do not keep the process.
    stdlib_logging.shutdown()
    os._exit(code)


def _notify(state: str) -> None:
    """Tell systemd, if it wants to know (sd_notify(3))."""
    address = os.environ.get('NOTIFY_SOCKET')
    if not address:
        return
    if address.startswith('@'):
        address = '\0' + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.sendto(state.encode(), address)


if __name__ == '__main__':
    sys.exit(main())
