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


"""The flow that detaches a volume; run again until it has succeeded."""

from taskflow import flow
from taskflow.patterns import linear_flow
from taskflow.patterns import unordered_flow

from attachworker.tasks import attach
from attachworker.tasks import detach
from attachworker.tasks import encryption
from attachworker.tasks import multipath
from attachworker.tasks.run import Run


def build(run: Run) -> flow.Flow:
    targets = unordered_flow.Flow('targets')
    targets.add(
        *(detach.DisconnectTarget(run, target) for target in run.targets)
    )
    return linear_flow.Flow('detach').add(
        attach.GetConnector(run),
        detach.FindPaths(run),
        multipath.FindMap(run),
        detach.CheckUnused(run),
        detach.FlushDevice(run),
        encryption.CloseEncryption(run),
        multipath.RemoveMap(run),
        targets,
        detach.VerifyGone(run),
    )
