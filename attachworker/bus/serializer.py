# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Objects to primitives and back, on both sides of the bus.

Whatever has to happen to secrets on the wire happens in
:meth:`ObjectSerializer.serialize_entity` and :func:`from_wire`.
"""

from typing import Any
from typing import TypeVar

from oslo_versionedobjects import base as ovo_base
from oslo_versionedobjects import exception as ovo_exception

from attachworker import context
from attachworker import exception
from attachworker import objects
from attachworker.bus.secrets import WireSecrets
from attachworker.objects import base
from attachworker.objects import rules

_Object = TypeVar('_Object', bound=base.AttachWorkerObject)
_NAME_KEY = f'{base.AttachWorkerObject.OBJ_SERIAL_NAMESPACE}.name'


class ObjectSerializer(ovo_base.VersionedObjectSerializer):
    """The caller's side: sends objects and gets objects.

    :param secrets: seals those that leave
    :param host: whose worker opens them
    :param level: version of the interface that the peer knows; None: ours
    :raises ConfigurationError: there is no such version
    """

    def __init__(
        self,
        secrets: WireSecrets | None = None,
        level: str | None = None,
        host: str = '',
    ) -> None:
        super().__init__()
        self._secrets = secrets or WireSecrets()
        self._host = host
        if level is not None and level not in objects.HISTORY:
            raise exception.ConfigurationError(
                option='attachworker of group upgrade_levels',
                reason=f'{level!r} is none of {", ".join(objects.HISTORY)}',
            )
        self._versions = objects.HISTORY[level] if level else {}

    def serialize_context(self, ctxt: Any) -> dict[str, str]:
        """Send what the log of a worker shows of a context, and no token."""
        return context.to_send(ctxt)

    def serialize_entity(self, ctxt: Any, entity: Any) -> Any:
        """Turn objects into primitives, also within lists and dicts.

        What is a primitive already is made an object again only for a peer
        that knows an older one.
        """
        if isinstance(entity, dict) and _NAME_KEY in entity:
            if not self._versions:
                return self._secrets.seal(entity, self._host)
            entity = from_wire(entity, base.AttachWorkerObject, 'answer')
        if not isinstance(entity, base.AttachWorkerObject):
            return super().serialize_entity(ctxt, entity)
        version = self._versions.get(entity.obj_name())
        return self._secrets.seal(
            entity.obj_to_primitive(version, self._versions), self._host
        )

    def _process_object(self, ctxt: Any, objprim: Any) -> Any:
        return from_wire(objprim, base.AttachWorkerObject, 'result')


class WorkerSerializer(ObjectSerializer):
    """The worker's side: arguments stay primitives.

    oslo.messaging can do nothing about an argument that cannot be decoded
    but raise, and a cast has nobody to raise to. So the endpoint decodes,
    by :func:`from_wire`, and answers.
    """

    def deserialize_entity(self, ctxt: Any, entity: Any) -> Any:
        return entity


def from_wire(
    primitive: Any,
    expected: type[_Object],
    name: str,
    secrets: WireSecrets | None = None,
) -> _Object:
    """Decode what somebody sent; the content is not validated yet.

    :param expected: the class it must be, or a subclass of which.
    :param name: what an error calls it: 'request', 'connection_info', ...
    :param secrets: opens those that come in
    :raises InvalidConnectionInfo: it is no such object, or of a version
        that this side does not know. No value is quoted.
    """
    decoded = None
    if isinstance(primitive, dict) and _NAME_KEY in primitive:
        try:
            opened = primitive if secrets is None else secrets.open(primitive)
            decoded = base.AttachWorkerObject.obj_from_primitive(opened)
        except RecursionError:
            raise rules.invalid(name, 'is nested too deeply') from None
        except ovo_exception.VersionedObjectsException as error:
            # No "from error": its text may quote what was sent.
            raise rules.invalid(
                name, f'cannot be decoded ({type(error).__name__})'
            ) from None
    if not isinstance(decoded, expected):
        raise rules.invalid(name, f'must be a serialised {expected.__name__}')
    return decoded
