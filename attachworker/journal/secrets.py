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


"""What may be written down."""

import copy
from typing import Any

from attachworker import objects
from attachworker.objects import fields


def without_secrets(thing: objects.AttachWorkerObject) -> dict[str, Any]:
    """An object as a primitive that holds no secret.

    It can be made an object again; that one does not pass validate() where
    it would need the secret.
    """
    clone = copy.deepcopy(thing)
    _clear(clone)
    primitive: dict[str, Any] = clone.obj_to_primitive()
    return primitive


def _clear(thing: objects.AttachWorkerObject) -> None:
    for name, field in thing.fields.items():
        if not thing.obj_attr_is_set(name):
            continue
        value = getattr(thing, name)
        if isinstance(field, fields.SecretField):
            delattr(thing, f'_obj_{name}')
        elif isinstance(value, objects.AttachWorkerObject):
            _clear(value)
