# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Whether this host is ready for the worker of this release."""

import contextlib
import pathlib
from typing import Any

from oslo_config import cfg
from oslo_upgradecheck import upgradecheck

from attachworker import exception
from attachworker import objects
from attachworker.cmd import options
from attachworker.journal import Reader
from attachworker.journal import Records
from attachworker.journal import database

_Result = upgradecheck.Result
_Code = upgradecheck.Code


def check(conf: cfg.ConfigOpts) -> int:
    """Print what was looked at, and return the exit code.

    :param conf: as it was parsed; its values may make no sense
    """
    found = options.faults(conf)
    # What depends on such a value cannot be looked at.
    readable = not any(one.fatal for one in found)
    return int((_Checks if readable else _Options)(conf, found).check())


class _Options(upgradecheck.UpgradeCommands):
    """To be run with the new release, before its worker is started."""

    display_title = 'Upgrade of attachworker'

    def __init__(
        self, conf: cfg.ConfigOpts, faults: list[options.Fault]
    ) -> None:
        self.conf = conf
        self.faults = faults

    def _options(self) -> Any:
        """What makes no sense, or is not of this release."""
        if not self.faults:
            return _Result(_Code.SUCCESS)
        fatal = any(one.fatal for one in self.faults)
        return _Result(
            _Code.FAILURE if fatal else _Code.WARNING,
            ' '.join(f'{one}.' for one in self.faults),
        )

    _upgrade_checks: Any = (('Options', _options),)


class _Checks(_Options):
    def _journal(self) -> Any:
        """An older one is made one of this release when it is opened."""
        try:
            version = database.version(pathlib.Path(self.conf.state_path))
        except exception.JournalUnavailable as error:
            return _Result(_Code.FAILURE, str(error))
        ours = database.SCHEMA_VERSION
        if version is None:
            return _Result(_Code.SUCCESS, 'There is none yet.')
        if version > ours:
            return _Result(
                _Code.FAILURE,
                f'Its version is {version}, this release knows {ours}: start '
                'the release that wrote it.',
            )
        if version < ours:
            return _Result(
                _Code.WARNING,
                f'Its version is {version}. The first start makes it version '
                f'{ours}, which the release before cannot read: keep a copy '
                'of state_path, made while no worker runs, if you may have to '
                'go back.',
            )
        return _Result(_Code.SUCCESS)

    def _unfinished(self) -> Any:
        try:
            found = Reader(pathlib.Path(self.conf.state_path))
        except exception.JournalUnavailable:
            return _Result(_Code.SUCCESS, 'Not looked at.')
        with contextlib.closing(found):
            count = len(Records(found).unfinished())
        if not count:
            return _Result(_Code.SUCCESS)
        return _Result(
            _Code.WARNING,
            f'{count} requests are unfinished; the new worker goes on with '
            'them. Stop the old one first, and give it time (stop_timeout).',
        )

    def _level(self) -> Any:
        level = self.conf.upgrade_levels.attachworker
        *_, ours = objects.HISTORY
        if level is None or level == ours:
            return _Result(_Code.SUCCESS)
        if level not in objects.HISTORY:
            return _Result(
                _Code.FAILURE,
                f'attachworker = {level} in group upgrade_levels: this '
                f'release speaks {", ".join(objects.HISTORY)}.',
            )
        return _Result(
            _Code.WARNING,
            f'attachworker = {level} in group upgrade_levels: take it out '
            'once all workers and callers are of this release.',
        )

    _upgrade_checks = (
        *_Options._upgrade_checks,
        ('Journal', _journal),
        ('Unfinished requests', _unfinished),
        ('Upgrade level', _level),
    )
