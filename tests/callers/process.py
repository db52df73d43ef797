# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Nova's and Cinder's own code, in processes of its own environment."""

import json
import os
import pathlib
import subprocess
from typing import Any

_PROJECT = pathlib.Path(__file__).resolve().parents[2]
_PYTHON = _PROJECT / '.venv-callers/bin/python'


class Caller:
    """A program that answers each line of JSON with another.

    :param program: in this directory
    :param environment: what it is told
    :param log: where its messages go
    """

    def __init__(
        self, program: str, environment: dict[str, str], log: pathlib.Path
    ) -> None:
        assert _PYTHON.exists(), 'tools/setup.sh makes it'
        self._log = log
        with open(log, 'wb') as errors:
            self._process = subprocess.Popen(
                [str(_PYTHON), f'tests/callers/{program}'],
                cwd=_PROJECT,
                env=os.environ | environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)

    def ask(self, do: str, driver: str, **values: Any) -> Any:
        """What it answers, an error too."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {'do': do, 'driver': driver}
        print(json.dumps(asked | values), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        assert line, self._log.read_text()
        return json.loads(line)

    def __call__(self, do: str, driver: str, **values: Any) -> Any:
        found = self.ask(do, driver, **values)
        assert 'raised' not in found, self._log.read_text()
        return found


def nova(url: str, host: str, directory: pathlib.Path) -> Caller:
    """Nova's libvirt volume drivers, on a bus and a host.

    ``ask`` and calls take ``connection_info``, ``multipath`` and ``size``.
    """
    environment = {
        'OS_DEFAULT__TRANSPORT_URL': url,
        'OS_DEFAULT__HOST': host,
    }
    return Caller('nova_driver.py', environment, directory / 'nova.log')


def cinder(addresses: tuple[str, ...], directory: pathlib.Path) -> Caller:
    """Cinder's target drivers, for targets that listen there.

    ``ask`` and calls take ``volume``, ``port``, ``path``, ``connector`` and
    ``version`` (of the connection_info of NVMe).
    """
    environment = {'OS_TARGET__ADDRESSES': ','.join(addresses)}
    return Caller('cinder_target.py', environment, directory / 'cinder.log')
