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


"""The options of the worker, a group a file."""

from oslo_config import cfg

from attachworker.conf import multipath
from attachworker.conf import rpc
from attachworker.conf import secrets
from attachworker.conf import worker

CONF = cfg.CONF

worker.register(CONF)
rpc.register(CONF)
multipath.register(CONF)
secrets.register(CONF)
