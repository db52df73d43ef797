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

import copy

from oslo_config import cfg

from attachworker.conf import opts


def register(conf: cfg.ConfigOpts) -> None:
    """Register all options of the worker.

    Not at import: a program that calls the worker has options of its own
    names in the global configuration.
    """
    for group, options in opts.list_opts():
        # oslo.config lets all that register one object share what is set in
        # it.
        conf.register_opts(options, group=copy.deepcopy(group))
