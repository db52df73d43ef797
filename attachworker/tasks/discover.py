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

    def execute(
        self, connector: connectors.Connector
    ) -> list[connectors.Target]:
        run = self.run
        try:
            return self._discover(connector)
        except exception.AttachWorkerError as error:
            if run.enforce_multipath:
                raise
            LOG.warning('%s: discovery: %s', run.name, error)
            run.warnings.append(f'discovery has found no other path: {error}')
            return run.info.targets

    def _discover(
        self, connector: connectors.Connector
    ) -> list[connectors.Target]:
        run = self.run
        try:
            return connector.discover(run.info, run.multipath, run.deadline)
        except OSError as error:
            raise exception.HostToolFailed(
                tool='Discovery', reason=str(error)
            ) from error
