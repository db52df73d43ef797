# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Whether this host is ready for the worker of this release."""

import contextlib
import dataclasses
import pathlib
from typing import Any

from oslo_config import cfg
from oslo_upgradecheck import upgradecheck

from attachworker import exception
from attachworker import objects
from attachworker.journal import Reader
from attachworker.journal import Records
from attachworker.journal import database

_Result = upgradecheck.Result
_Code = upgradecheck.Code


@dataclasses.dataclass(frozen=True)
class Checks(upgradecheck.UpgradeCommands):
    """To be run with the new release, before its worker is started."""

    conf: cfg.ConfigOpts

    display_title = 'Upgrade of attachworker'

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
        ('Journal', _journal),
        ('Unfinished requests', _unfinished),
        ('Upgrade level', _level),
    )
