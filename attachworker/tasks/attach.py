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


"""The steps of an attach that are the same for every protocol."""

from typing import Any

from attachworker import exception
from attachworker import objects
from attachworker.connectors import base as connectors
from attachworker.tasks import base


class GetConnector(base.Task):
    """Find out how this host connects the volume's protocol.

    Reversion strategy: nothing to undo.
    """

    default_provides = 'connector'

    def execute(self) -> connectors.Connector:
        if self.run.encrypted:
            raise exception.EncryptionFailed(
                device='the volume',
                reason='this version cannot open encrypted volumes',
            )
        if self.run.enforce_multipath:
            raise exception.MultipathFailed(
                reason='this version cannot make multipath maps'
            )
        return self.run.get_connector(self.run.info.protocol)


class ConnectTarget(base.Task):
    """Connect one target, or learn that others were quicker.

    That a target cannot be connected is an outcome and not an error: TaskFlow
    would undo the good ones too. GatherPaths judges.

    Reversion strategy: stop the attempt and disconnect the target, whether
    the attempt had succeeded, failed, or not yet ended.
    """

    def __init__(self, run: Any, target: connectors.Target) -> None:
        super().__init__(run, target, provides=outcome_key(target))
        self._target = target

    def execute(
        self, connector: connectors.Connector
    ) -> connectors.PathOutcome:
        run = self.run
        run.attempts.start(
            connector, run.info, self._target, run.claims, run.deadline
        )
        return run.attempts.wait(self._target, run.deadline)

    def revert(self, **kwargs: Any) -> None:
        self.run.leftovers += self.run.let_go(self._target)


class GatherPaths(base.Task):
    """Decide whether enough targets are connected.

    Reversion strategy: nothing to undo.
    """

    default_provides = 'outcomes'

    def __init__(self, run: Any) -> None:
        super().__init__(
            run, requires=[outcome_key(target) for target in run.targets]
        )

    def execute(self, **outcomes: Any) -> list[connectors.PathOutcome]:
        found = [outcomes[outcome_key(target)] for target in self.run.targets]
        good = [outcome for outcome in found if outcome.path]
        errors = [outcome for outcome in found if outcome.error]
        if errors and not good:
            errors[0].error.step = f'ConnectTarget:{errors[0].target}'
            raise errors[0].error
        # Without a map a device has one path, however many are connected.
        usable = min(len(good), self.run.wanted_paths)
        wanted = max(self.run.wanted_paths, self.run.min_paths)
        if usable < wanted:
            raise exception.NotEnoughPaths(found=usable, wanted=wanted)
        return found


class FindWwn(base.Task):
    """Learn which volume the paths lead to, and that it is the right one.

    Reversion strategy: nothing to undo.
    """

    default_provides = 'wwn'

    def execute(
        self,
        connector: connectors.Connector,
        outcomes: list[connectors.PathOutcome],
    ) -> str:
        expected = self.run.expected_wwn
        for path in [one.path for one in outcomes if one.path]:
            found = connector.identify(path, self.run.deadline)
            if expected is None:
                expected = found
            if objects.normalise_wwn(found) != objects.normalise_wwn(expected):
                raise exception.IdentityMismatch(
                    device=path.disk, found=found, expected=expected
                )
        assert expected is not None
        return found


class VerifyDevice(base.Task):
    """Read from the device and describe it.

    Reversion strategy: nothing to undo.
    """

    default_provides = 'device'

    def execute(
        self, outcomes: list[connectors.PathOutcome], wwn: str
    ) -> objects.DeviceInfo:
        path = next(one.path for one in outcomes if one.path)
        size = self.run.host.block.size(path.disk)
        if not size:
            raise exception.DeviceNotFound(
                lun=path.target.lun,
                target=path.target.name,
                portal=path.target.portal,
            )
        try:
            self.run.host.block.read_first_block(path.disk, self.run.deadline)
        except OSError as error:
            raise exception.HostToolFailed(
                tool=f'Reading {path.disk}', reason=str(error)
            ) from error
        if self.run.multipath:
            self.run.warnings.append(
                'a single path: this version cannot make multipath maps'
            )
        return objects.DeviceInfo(
            type='block',
            path=f'/dev/{path.disk}',
            scsi_wwn=wwn,
            size=size,
            degraded=self.run.multipath,
            paths=[
                _path_info(one, path)
                for one in outcomes
                if one.path is path or one.error
            ],
        )


def outcome_key(target: connectors.Target) -> str:
    """The store key of a target's PathOutcome."""
    return f'outcome:{target}'


def _path_info(
    outcome: connectors.PathOutcome, used: connectors.Path
) -> objects.PathInfo:
    return objects.PathInfo(
        device=used.disk if outcome.path is used else None,
        portal=outcome.target.portal,
        target=outcome.target.name,
        lun=outcome.target.lun,
        state='connected' if outcome.path is used else 'failed',
        error=outcome.error.code if outcome.error else None,
    )
