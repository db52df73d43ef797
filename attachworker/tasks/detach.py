# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.


"""The steps of a detach; each can be run again until all is gone."""

from typing import Any

from attachworker import exception
from attachworker.connectors import base as connectors
from attachworker.tasks import base


class FindPaths(base.Task):
    """See which devices of the volume this host has, and nobody shares.

    Reversion strategy: nothing to undo; a detach is finished, not undone.
    """

    default_provides = 'paths'

    def execute(
        self, connector: connectors.Connector
    ) -> list[connectors.Path]:
        run = self.run
        shared = [one for one in run.targets if run.claims.shared(one)]
        if shared:
            run.warnings.append(
                'the device stays: another attachment of this host uses it'
            )
        return [
            path
            for target in run.targets
            if target not in shared
            for path in connector.paths(target)
        ]


class CheckUnused(base.Task):
    """Make sure that nobody uses the devices.

    Reversion strategy: nothing to undo; a detach is finished, not undone.
    """

    def execute(self, paths: list[connectors.Path]) -> None:
        for path in paths:
            users = self._users(path)
            if users and not self.run.force:
                raise exception.DeviceInUse(
                    device=path.disk, users=', '.join(users)
                )
            self.run.warnings += [
                f'{path.disk} was in use by {user}' for user in users
            ]

    def _users(self, path: connectors.Path) -> list[str]:
        try:
            return self.run.host.block.users(path.disk, self.run.deadline)
        except OSError as error:
            if not self.run.force:
                raise exception.HostToolFailed(
                    tool=f'Looking for users of {path.disk}',
                    reason=str(error),
                ) from error
            return [f'nobody knows whom ({error})']


class FlushDevice(base.Task):
    """Write back what the kernel still holds for the volume.

    Reversion strategy: nothing to undo; a detach is finished, not undone.
    """

    def execute(self, paths: list[connectors.Path]) -> None:
        for path in paths:
            try:
                self.run.host.block.flush(path.disk, self.run.deadline)
            except FileNotFoundError:
                continue  # gone meanwhile, and with it what it held
            except OSError as error:
                if not self.run.force:
                    raise exception.FlushFailed(
                        device=path.disk, reason=str(error)
                    ) from error
                self.run.warnings.append(
                    f'{path.disk} could not be flushed ({error}): data that '
                    'was written last may be lost'
                )


class DisconnectTarget(base.Task):
    """Take one target away, as the revert of ConnectTarget does.

    Reversion strategy: nothing to undo; a detach is finished, not undone.
    """

    def __init__(self, run: Any, target: connectors.Target) -> None:
        super().__init__(run, target)
        self._target = target

    def execute(self, connector: connectors.Connector) -> None:
        self.run.leftovers += connector.disconnect(
            self._target, self.run.claims, self.run.deadline, keep_found=False
        )


class VerifyGone(base.Task):
    """Prove that nothing of the volume is left.

    Reversion strategy: nothing to undo; a detach is finished, not undone.
    """

    def execute(self, connector: connectors.Connector) -> None:
        run = self.run
        for target in run.targets:
            if run.claims.shared(target):
                continue
            run.leftovers += [
                f'device {path.disk}'
                for path in connector.paths(target)
                if f'device {path.disk}' not in run.leftovers
            ]
        if run.leftovers:
            raise exception.HostToolFailed(
                tool='The detach', reason='; '.join(run.leftovers)
            )
