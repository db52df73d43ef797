# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What callers ask for."""

from collections.abc import Mapping
from typing import Any

from oslo_versionedobjects import fields as ovo_fields

from attachworker.objects import base
from attachworker.objects import connection_info
from attachworker.objects import fields
from attachworker.objects import rules

#: Longest time that a request may be given; seconds.
MAX_DEADLINE = 86400
#: As many as a connection may have targets.
MAX_PATHS = 64
#: What AMQP has for the address of a message on its exchange, in bytes.
MAX_ROUTING_KEY = 255
#: The kernel counts bytes of a block device in a signed 64-bit number.
MAX_SIZE = 2**63 - 1


@base.AttachWorkerObjectRegistry.register
class ReplyTo(base.AttachWorkerObject):
    """The caller's own RPC server, which the result is sent to."""

    # Version 1.0: Initial version
    VERSION = '1.0'

    fields = {
        #: Names on the bus, as oslo.messaging has them.
        'exchange': fields.TextField(rules.identifier),
        'topic': fields.TextField(rules.identifier),
        'server': fields.TextField(rules.identifier),
    }

    def validate(self) -> None:
        super().validate()
        if len(f'{self.topic}.{self.server}') > MAX_ROUTING_KEY:
            raise rules.invalid(
                'server',
                f'must have at most {MAX_ROUTING_KEY} characters together '
                'with topic and the dot between them',
            )


@base.AttachWorkerObjectRegistry.register
class Encryption(base.AttachWorkerObject):
    """How to open a volume that this host encrypts."""

    # Version 1.0: Initial version
    VERSION = '1.0'

    fields = {
        #: Format: 'luks' (version 1), 'luks2' or 'plain' dm-crypt.
        'provider': fields.ChoiceField('luks', 'luks2', 'plain'),
        #: The passphrase.
        'key': fields.SecretField(rules.secret),
        #: Whether an empty volume may be formatted.
        'may_format': fields.FlagField(default=False),
    }


class Request(base.AttachWorkerObject):
    """What all requests share.

    The constructor takes dicts for the objects in a request: that of a
    driver for connection_info, the fields for the others.
    """

    fields = {
        #: Chosen by the caller; the same again means the same operation.
        'request_id': fields.TextField(rules.identifier),
        #: Seconds from acceptance to the end; null: the worker's default.
        'deadline_seconds': fields.BoundedIntegerField(
            1, MAX_DEADLINE, nullable=True
        ),
        #: Who is told the result of a cast; null: nobody.
        'reply_to': ovo_fields.ObjectField('ReplyTo', nullable=True),
    }

    #: A request that is sent again joins the first one, even if it is to be
    #: answered to somebody else or with less patience.
    IGNORED_IN_DIGEST = frozenset(
        {'request_id', 'reply_to', 'deadline_seconds'}
    )

    def __init__(self, context: Any = None, **kwargs: Any) -> None:
        info = kwargs.get('connection_info')
        if not isinstance(info, base.AttachWorkerObject | None):
            info = connection_info.ConnectionInfo.from_dict(info)
            kwargs['connection_info'] = info
        for name, cls in (('encryption', Encryption), ('reply_to', ReplyTo)):
            if isinstance(kwargs.get(name), Mapping):
                kwargs[name] = cls(**kwargs[name])
        super().__init__(context, **kwargs)


@base.AttachWorkerObjectRegistry.register
class AttachRequest(Request):
    """Make a volume usable on this host."""

    # Version 1.0: Initial version
    VERSION = '1.0'

    fields = {
        #: Chosen by the caller; names the attachment in later requests.
        'attachment_id': fields.TextField(rules.identifier),
        'connection_info': ovo_fields.ObjectField(
            'ConnectionInfo', subclasses=True
        ),
        #: Id in the caller's world; null: that of connection_info.
        'volume_id': fields.TextField(rules.identifier, nullable=True),
        #: Whether all paths are wanted, under a multipath map.
        'multipath': fields.FlagField(default=False),
        #: Whether no map is a failure; null: as connection_info says.
        'enforce_multipath': fields.FlagField(nullable=True),
        #: Identity that the device must have, as normalise_wwn() gives it;
        #: null: that of connection_info, if any.
        'expected_wwn': fields.TextField(rules.wwn, nullable=True),
        #: Paths that must be usable for success.
        'min_paths': fields.BoundedIntegerField(1, MAX_PATHS, default=1),
        #: How to open the volume; null: the device as it is.
        'encryption': ovo_fields.ObjectField('Encryption', nullable=True),
    }

    def validate(self) -> None:
        """Check everything, and take from the data what was left to it.

        Afterwards volume_id, enforce_multipath and expected_wwn are final.
        """
        super().validate()
        info = self.connection_info
        if self.volume_id is None:
            self.volume_id = info.volume_id
        if self.enforce_multipath is None:
            self.enforce_multipath = info.enforce_multipath
        if self.expected_wwn is None:
            self.expected_wwn = info.wwn

    @property
    def connection_key(self) -> str:
        """One text for each connection, see ConnectionInfo.

        A volume that is opened is another one than the same as it is.
        """
        key = self.connection_info.connection_key(self.multipath)
        if self.encryption is None:
            return str(key)
        return f'{key} {self.encryption.provider}'


@base.AttachWorkerObjectRegistry.register
class DetachRequest(Request):
    """Take a volume off this host.

    It is named by its attachment_id or, if somebody else attached it, by its
    connection_info; with both, attachment_id is tried first.
    """

    # Version 1.0: Initial version
    VERSION = '1.0'

    fields = {
        #: The attachment; null: what connection_info says.
        'attachment_id': fields.TextField(rules.identifier, nullable=True),
        #: Where the volume is; null: as the attachment was made.
        'connection_info': ovo_fields.ObjectField(
            'ConnectionInfo', subclasses=True, nullable=True
        ),
        #: Whether to go on, and lose data, if the device is in use or cannot
        #: be flushed.
        'force': fields.FlagField(default=False),
    }

    def validate(self) -> None:
        super().validate()
        if self.attachment_id is None and self.connection_info is None:
            raise rules.invalid(
                'attachment_id',
                'is required where there is no connection_info',
            )


@base.AttachWorkerObjectRegistry.register
class ExtendRequest(Request):
    """Make the new size of a volume known to this host."""

    # Version 1.0: Initial version
    VERSION = '1.0'

    fields = {
        'attachment_id': fields.TextField(rules.identifier),
        #: Size that the device must have then, in bytes; null: any.
        'expected_size': fields.BoundedIntegerField(
            1, MAX_SIZE, nullable=True
        ),
        #: How the volume was opened, where resizing needs the key (LUKS2).
        'encryption': ovo_fields.ObjectField('Encryption', nullable=True),
    }


@base.AttachWorkerObjectRegistry.register
class RotateKeyRequest(Request):
    """Give an encrypted volume that is attached another key.

    The keys are no part of its content: a request that is sent again joins
    the first one, whatever keys it brings.
    """

    # Version 1.0: Initial version
    VERSION = '1.0'

    fields = {
        'attachment_id': fields.TextField(rules.identifier),
        #: The passphrase that opens the volume now, and no more afterwards.
        'old_key': fields.SecretField(rules.secret),
        #: The one that opens it afterwards.
        'new_key': fields.SecretField(rules.secret),
    }

    def validate(self) -> None:
        super().validate()
        if self.old_key == self.new_key:
            raise rules.invalid('new_key', 'must be another one than old_key')


AnyRequest = AttachRequest | DetachRequest | ExtendRequest | RotateKeyRequest

#: By the kind of operation that they ask for.
REQUESTS: dict[str, type[AnyRequest]] = {
    'attach': AttachRequest,
    'detach': DetachRequest,
    'extend': ExtendRequest,
    'rotate': RotateKeyRequest,
}

#: By the same, the method of the RPC interface that takes such a request.
METHODS = {
    'attach': 'attach_volume',
    'detach': 'detach_volume',
    'extend': 'extend_volume',
    'rotate': 'rotate_encryption_key',
}
