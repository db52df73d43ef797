# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Finding out what there is to connect to."""

from oslo_log import log as logging

from attachworker import exception
from attachworker.connectors import base as connectors
from attachworker.tasks import base

LOG = logging.getLogger(__name__)


class DiscoverTargets(base.Task):
    """Ask the storage for the targets that the request does not name.

    Where it does not say, the target that is named has to do, unless several
    paths are a must.

    Reversion strategy: nothing to undo.
    """

    default_provides = 'targets'

    def execute(self) -> list[connectors.Target]:
        run = self.run
        try:
            return self._discover()
        except exception.AttachWorkerError as error:
            if run.enforce_multipath:
                raise
            LOG.warning('%s: discovery: %s', run.name, error)
            run.warnings.append(f'discovery has found no other path: {error}')
            return run.info.targets

    def _discover(self) -> list[connectors.Target]:
        run = self.run
        try:
            return run.connector.discover(
                run.info, run.multipath, run.deadline
            )
        except OSError as error:
            raise exception.HostToolFailed(
                what='Discovery', reason=str(error)
            ) from error
