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

"""Attaches block volumes to this host, as asked over RabbitMQ."""

import warnings

from oslo_service import backend

# oslo.messaging and oslo.versionedobjects choose the eventlet backend of
# oslo.service for good when they are imported before this. Where the program
# has chosen already, its choice stays: it may only be a caller.
with warnings.catch_warnings():
    # futurist looks whether eventlet is installed, and eventlet complains.
    warnings.filterwarnings('ignore', r'\s*Eventlet is deprecated')
    if backend.get_backend_type() is None:
        backend.init_backend(backend.BackendType.THREADING)
