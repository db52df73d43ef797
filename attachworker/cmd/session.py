# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What a command asks the worker, and what becomes of errors."""

from attachworker import threading_backend  # noqa: F401

# isort: split
from argparse import Namespace
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import difflib
import json
import sys
import threading
import time
from typing import Any
from typing import TextIO
import uuid

from oslo_config import cfg
from oslo_config import types
import oslo_messaging as messaging

from attachworker import client
from attachworker import conf
from attachworker import exception
from attachworker import objects
from attachworker.bus import transport as bus
from attachworker.cmd import exits
from attachworker.cmd import steps

#: Seconds for questions that a worker answers at once.
LOOK_TIMEOUT = 10.0
#: Seconds between two looks for a result, where no notification tells of it.
_LOOK_AGAIN = 5.0

#: Tells the user of what keeps a part of an answer from being there.
_Say = Callable[[exits.Failed], Any]


def request(kind: str | None, options: Namespace) -> Any:
    """What the command sends; None if it only asks.

    :raises Failed: the options make no sense
    """
    with _bad_input():
        _check_host(options.host)
        if getattr(options, 'enforce_multipath', None) and (
            not options.multipath
        ):
            raise exits.bad_input(
                '--enforce-multipath needs --multipath: without it no map is '
                'made'
            )
        if kind is None:
            return None
        made = _made(objects.REQUESTS[kind], options)
        made.validate()
        return made


def _made(request_class: type[Any], options: Namespace) -> Any:
    values = {
        name: value
        for name, value in vars(options).items()
        if name in request_class.fields
    }
    if 'attachment_id' in values and values['attachment_id'] is None:
        if request_class is objects.AttachRequest:
            values['attachment_id'] = str(uuid.uuid4())
        elif not options.file:
            raise exits.bad_input(
                'detach needs the ID of an attachment, or --connection-info'
            )
    if 'encryption' in values:
        values['encryption'] = _encryption(options)
    values |= {
        name: _key(getattr(options, f'{name}_file'))
        for name in ('old_key', 'new_key')
        if name in request_class.fields
    }
    if getattr(options, 'file', None):
        values['connection_info'] = objects.ConnectionInfo.from_dict(
            _read_json(options.file)
        )
    return request_class(request_id=str(uuid.uuid4()), **values)


def _encryption(options: Namespace) -> dict[str, Any] | None:
    may_format = getattr(options, 'may_format', False)
    if options.encryption is None:
        if options.key_file or may_format:
            raise exits.bad_input(
                '--key-file and --may-format go with --encryption'
            )
        return None
    if options.key_file is None:
        raise exits.bad_input('--encryption needs --key-file')
    if options.key_file == getattr(options, 'file', None) == '-':
        raise exits.bad_input(
            'only one of FILE and --key-file can be the standard input'
        )
    found = {
        'provider': options.encryption,
        'key': _key(options.key_file),
    }
    return found | ({'may_format': True} if may_format else {})


def _key(path: str) -> str:
    """The passphrase that a file holds."""
    return _read(path).removesuffix('\n')


def _check_host(host: str | None) -> None:
    if host is None:
        return
    try:
        types.HostAddress()(host)
    except ValueError:
        raise exits.bad_input(
            f'{host!r} is no name or address of a host'
        ) from None


def _read(path: str) -> str:
    name = 'standard input' if path == '-' else path
    try:
        if path == '-':
            return sys.stdin.read()
        with open(path, encoding='utf-8') as file:
            return file.read()
    except OSError as error:
        raise exits.bad_input(
            f'cannot read {name}: {error.strerror}'
        ) from None


def _read_json(path: str) -> Any:
    name = 'standard input' if path == '-' else path
    try:
        return json.loads(_read(path))
    except (ValueError, RecursionError) as error:
        # The position alone: what is there may be a secret.
        where = (
            f' (line {error.lineno}, column {error.colno})'
            if isinstance(error, json.JSONDecodeError)
            else ''
        )
        raise exits.bad_input(f'{name} is not JSON{where}') from None


@contextlib.contextmanager
def _bad_input() -> Iterator[None]:
    try:
        yield
    except (
        exception.InvalidConnectionInfo,
        exception.UnsupportedProtocol,
        exception.ConfigurationError,
    ) as error:
        raise exits.Failed(error.code, str(error), exits.BAD_INPUT) from None


@contextlib.contextmanager
def opened(options: Namespace, in_process: bool) -> Iterator['Session']:
    """What the worker is asked through; errors of its use are of ours then.

    :param in_process: whether the worker may be in this process
    :raises Failed: whatever keeps the command from being done
    """
    try:
        settings = conf.read(options.config_file)
    except (cfg.Error, OSError, ValueError) as error:
        raise exits.bad_input(f'configuration: {error}') from None
    host = options.host or settings.host
    url = options.transport_url
    with _bad_input():
        if bus.is_in_process(settings, url) and not in_process:
            raise exits.bad_input(
                'kombu+memory:// does not leave its process, so no '
                'worker can be reached by it; use rabbit://'
            )
        worker = client.AttachWorkerClient(
            url,
            host,
            conf=settings,
            timeout=options.timeout or LOOK_TIMEOUT,
            key_file=settings.secrets.key_file,
            level=settings.upgrade_levels.attachworker,
        )
    with worker, _translated(host), _bad_input():
        yield Session(options, worker)


@contextlib.contextmanager
def _translated(host: str) -> Iterator[None]:
    try:
        yield
    except (exception.HostNotFound, exception.BusUnavailable) as error:
        raise exits.Failed(
            'no_worker', _first(error), exits.NO_WORKER
        ) from None
    except messaging.MessagingTimeout:
        raise exits.Failed(
            'no_worker',
            f'the worker of host {host} did not answer in time',
            exits.NO_WORKER,
        ) from None
    except messaging.RemoteError as error:
        raise exits.Failed(
            'internal',
            f'the worker failed: {error.exc_type}: {error.value}',
            exits.FAILED,
        ) from None
    except exception.AttachWorkerError as error:
        raise exits.Failed(error.code, _first(error), exits.FAILED) from None
    except messaging.MessagingException as error:
        raise exits.Failed('internal', _first(error), exits.FAILED) from None


def _first(error: Exception) -> str:
    # The text of an exception from the worker has its traceback appended;
    # its first argument has not.
    return str(error.args[0] if error.args else error)


class Session:
    """The worker of a host, as one command sees it."""

    def __init__(
        self, options: Namespace, worker: client.AttachWorkerClient
    ) -> None:
        self.options = options
        self.client = worker
        #: What the command sends; None if it only asks.
        self.request: Any = None

    def operate(self, kind: str, output: TextIO) -> dict[str, Any]:
        """Send the request, show what happens, and return the result."""
        request = self.request
        # A request to a worker that is down waits in its queue; whoever types
        # a command wants to know at once.
        self.client.ping()
        for_people = self.options.formatter == 'table'
        if for_people:
            print(f'Request {request.request_id}', file=output, flush=True)
        verbose = self.options.verbose_level > 1
        screen = steps.Screen(output, keep=verbose)

        def show(event: str, payload: Mapping[str, Any]) -> None:
            if payload.get('request_id') == request.request_id:
                screen.show(steps.step(payload))

        live = for_people and output.isatty()
        try:
            with (
                steps.StepWatcher(self.client.transport, show)
                if live
                else contextlib.nullcontext()
            ):
                result = self.client.send(
                    getattr(self.client.api, objects.METHODS[kind]),
                    request,
                    timeout=self.options.timeout,
                )
        except messaging.MessagingTimeout:
            raise exits.Failed(
                'no_worker',
                f'no answer to request {request.request_id}; it may still be '
                'carried out: attachctl result --wait '
                f'{request.request_id}',
                exits.NO_WORKER,
            ) from None
        finally:
            screen.clear()
        return dict(result.as_dict())

    def cast_attach(self) -> dict[str, Any]:
        """Send the request, and wait for nothing."""
        self.client.api.cast_attach_volume({}, self.client.host, self.request)
        return {
            'request_id': self.request.request_id,
            'attachment_id': self.request.attachment_id,
        }

    def is_unknown(self, result: Mapping[str, Any]) -> bool:
        """Whether a detach had nothing to do."""
        return objects.NOT_KNOWN in result['warnings']

    def not_found(self, attachment_id: str | None) -> exits.Failed:
        names = [one.attachment_id for one in self.client.list_attachments()]
        close = difflib.get_close_matches(attachment_id or '', names, 3)
        hint = (
            f'did you mean {" or ".join(close)}?'
            if close
            else 'see "attachctl list"'
        )
        return exits.Failed(
            'attachment_not_found',
            f'nothing was detached: host {self.client.host} has no attachment '
            f'{attachment_id}; {hint}',
            exits.FAILED,
        )

    def result(self, request_id: str, wait: bool) -> dict[str, Any] | None:
        """The result of a request; None while it is under way.

        :param wait: until there is one, for as long as the options say
        :raises Failed: there was none in that time
        """
        found = self.client.get_result(request_id)
        if found is None and wait:
            found = self._awaited(request_id)
        return None if found is None else dict(found.as_dict())

    def _awaited(self, request_id: str) -> objects.OperationResult:
        ended = threading.Event()

        def look(event: str, payload: Mapping[str, Any]) -> None:
            if payload.get('request_id') == request_id:
                if event.endswith(('.end', '.error')):
                    ended.set()

        timeout = self.options.timeout
        until = None if timeout is None else time.monotonic() + timeout
        with steps.StepWatcher(self.client.transport, look):
            while True:
                found = self.client.get_result(request_id)
                if found is not None:
                    return found
                left = _LOOK_AGAIN
                if until is not None:
                    left = min(left, until - time.monotonic())
                if left <= 0:
                    raise exits.Failed(
                        'deadline_exceeded',
                        f'request {request_id} is still under way after '
                        f'{timeout:g} s',
                        exits.FAILED,
                    )
                ended.wait(left)
                ended.clear()

    def attachments(self, say: _Say) -> list[dict[str, Any]]:
        """All that the host has, with what is there of each."""
        found = [dict(one.as_dict()) for one in self.client.list_attachments()]
        on_host = self._on_host(say) if found else {}
        return [
            one | {'on_host': on_host.get(one['attachment_id'])}
            for one in found
        ]

    def attachment(self, attachment_id: str, say: _Say) -> dict[str, Any]:
        """One of them."""
        found = dict(self.client.get_attachment(attachment_id).as_dict())
        return found | {'on_host': self._on_host(say).get(attachment_id)}

    def _on_host(self, say: _Say) -> dict[str, dict[str, Any]]:
        """What the host has of each attachment; the journal may not know."""
        try:
            found = self.client.audit().as_dict()['attachments']
        except (exception.HostNotFound, exception.BusUnavailable):
            raise
        except (
            exception.AttachWorkerError,
            messaging.MessagingException,
        ) as error:
            # What the journal says is better than nothing.
            code = getattr(error, 'code', 'internal')
            text = f'what the host has is not known: {_first(error)}'
            say(exits.Failed(code, text, exits.FAILED))
            return {}
        return {
            one['attachment_id']: {
                'state': one['state'],
                'detail': one['detail'],
            }
            for one in found
        }

    def watch(self, everywhere: bool, as_json: bool) -> None:
        """Show what is done, until the time is over, or for ever."""
        steps.watch(
            self.client.transport,
            None if everywhere else self.client.host,
            as_json,
            self.options.timeout,
        )
