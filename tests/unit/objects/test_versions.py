# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Versions of the objects, and what happens to them on the bus."""

import copy
import json

from oslo_versionedobjects import base as ovo_base
from oslo_versionedobjects import exception as ovo_exception
from oslo_versionedobjects import fields as ovo_fields
from oslo_versionedobjects import fixture
import pytest

from attachworker import exception
from attachworker import objects
from attachworker import rpcapi
from attachworker.objects import base
from attachworker.objects import fields
from tests.unit.objects import shapes

CLASSES = {
    name: classes
    for name, classes in ovo_base.VersionedObjectRegistry.obj_classes().items()
    if classes[0].OBJ_PROJECT_NAMESPACE == 'attachworker'
}

# A hash that changes means that what travels has changed. If it was released
# before, other workers and callers know the old form:
#  1. raise VERSION (a new field: the minor part) and say in a comment
#     "# Version 1.1: Added ...",
#  2. take the new field out in obj_make_compatible(), and test that,
#  3. add the manifest of the new RPC version to objects.HISTORY,
#  4. then write the new hash here.
HASHES = {
    'AttachRequest': '1.0-655c6f8aa92495afec3b8bfc879cbf81',
    'AuditFinding': '1.0-16c7c328d34f477df8fdd4854bc1fa69',
    'AuditReport': '1.0-aedca9a125411adeea1e473738d43e8b',
    'AuditedAttachment': '1.0-55eff0cc47c74badecd3b0ee2e0837d9',
    'Attachment': '1.0-cfc18247aaacebd740cc6d8d64118d68',
    'ConnectionInfo': '1.0-98a739099a21b4ac3914f312c116110d',
    'DetachRequest': '1.0-8b2ad992065ed7f9e7b3c89566b86450',
    'DeviceInfo': '1.0-b6ec8e839b7eb8d577f4c095436d71c5',
    'Encryption': '1.0-98955338404c334fe2d04451662138b5',
    'ExtendRequest': '1.0-eed2b92bc47bd88ebb0dee472628f3ec',
    'FibreChannelConnectionInfo': '1.0-2a1d84246f54e090d6f070367593887b',
    'FibreChannelTarget': '1.0-2ab864d3dc376fec3f910a4d0737773b',
    'FibreChannelZone': '1.0-26025ed68b6253f4266a50b91bc312f8',
    'ISCSIConnectionInfo': '1.0-543ad5d53287242ad5c532964701d839',
    'ISCSITarget': '1.0-de055799b42f078c17bd6b2183f0b6b0',
    'LocalConnectionInfo': '1.0-d221d0dcb617ade7409881026a53fe55',
    'MountConnectionInfo': '1.0-303003b358ca3c74f841870bf87063fd',
    'NVMeOFConnectionInfo': '1.0-4665c13123cd315fa992a6440482ae9a',
    'NVMeOFPortal': '1.0-8d923da6f87abc37e9efe7cace278ab9',
    'NotificationPayload': '1.1-4f42764c88f6d485ed84bb90de7b91fc',
    'OperationError': '1.0-cf7b4a9d04f3ef9eb206d662da612c27',
    'OperationResult': '1.1-4fee8cdf3f1492ea6160562cadbece9f',
    'PathInfo': '1.0-480c55b85085620f207d54b652feaf6b',
    'RBDConnectionInfo': '1.0-e5059f0e8b447e458610f270861d27ea',
    'RBDMonitor': '1.0-cc619c7c2b91485575b4c8a9c748d756',
    'ReplyTo': '1.0-4853e6d90631ac2afb476e5a442f3f07',
    'RotateKeyRequest': '1.0-5fb976bb3313c688057b4ec77e5a04b0',
}

HELP = (
    'The fields of these objects have changed. Do what the comment above '
    'HASHES says; the new hashes are: {}'
)


def child_names(cls):
    """Which classes are nested; the library hashes only that some are."""
    return tuple(
        (name, field.objname)
        for name, field in sorted(cls.fields.items())
        if hasattr(field, 'objname')
    )


def everything():
    """One of each class, with all that it may have."""
    request = objects.AttachRequest(
        request_id='r',
        attachment_id='a',
        connection_info=shapes.pure(),
        encryption={'provider': 'luks2', 'key': 'k'},
        reply_to={'exchange': 'e', 'topic': 't', 'server': 's'},
        deadline_seconds=30,
    )
    request.validate()
    path = objects.PathInfo(
        device='sda', portal='p', target='t', lun=1, state='connected'
    )
    device = objects.DeviceInfo(path='/dev/sda', size=512, paths=[path])
    error = objects.OperationError(code='busy', message='m')
    result = objects.OperationResult(
        request_id='r',
        operation='attach',
        status='attached',
        device=device,
        error=error,
        timings={'FindWwn': 0.5},
        warnings=['w'],
    )
    attachment = objects.Attachment(
        attachment_id='a',
        protocol='iscsi',
        state='attached',
        device=device,
        last_result=result,
        created_at='2026-01-02T03:04:05Z',
        updated_at='2026-01-02T03:04:05Z',
    )
    local = {'driver_volume_type': 'local', 'data': {'device_path': '/dev/a'}}
    nvme = objects.ConnectionInfo.from_dict(
        {
            'driver_volume_type': 'nvmeof',
            'data': {
                'target_nqn': 'nqn.2014-08.org.example:one',
                'portals': [['192.0.2.1', 4420, 'tcp']],
                'ns_id': 1,
            },
        }
    )
    rbd = objects.ConnectionInfo.from_dict(
        {
            'driver_volume_type': 'rbd',
            'data': {'name': 'pool/image', 'hosts': ['192.0.2.1']},
        }
    )
    fibre_channel = objects.ConnectionInfo.from_dict(
        {
            'driver_volume_type': 'fibre_channel',
            'data': {
                'target_wwn': '5000001000000001',
                'initiator_target_map': {
                    '2100000e1e000001': ['5000001000000001']
                },
            },
        }
    )
    nfs = objects.ConnectionInfo.from_dict(
        {
            'driver_volume_type': 'nfs',
            'data': {'export': '192.0.2.1:/share', 'name': 'volume-one'},
        }
    )
    notification = objects.NotificationPayload(
        request_id='r', attachment_id='a', host='h', step='s', elapsed=0.5
    )
    report = objects.AuditReport(
        attachments=[objects.AuditedAttachment(attachment_id='a', state='ok')],
        findings=[
            objects.AuditFinding(kind='orphan', what='session 1', detail='d')
        ],
    )
    return [
        request,
        request.connection_info,
        request.connection_info.target_list[0],
        objects.ConnectionInfo.from_dict(local),
        nvme,
        nvme.portal_list[0],
        rbd,
        rbd.monitors[0],
        nfs,
        fibre_channel,
        fibre_channel.target_list[0],
        fibre_channel.zones[0],
        request.encryption,
        request.reply_to,
        objects.DetachRequest(request_id='r', connection_info=shapes.lio()),
        objects.ExtendRequest(
            request_id='r', attachment_id='a', expected_size=1
        ),
        objects.RotateKeyRequest(
            request_id='r', attachment_id='a', old_key='k', new_key='l'
        ),
        notification,
        report,
        report.attachments[0],
        report.findings[0],
        path,
        device,
        error,
        result,
        attachment,
    ]


def ids(value):
    return type(value).__name__


def test_what_travels_changes_with_its_version_only():
    checker = fixture.ObjectVersionChecker(CLASSES)
    expected, actual = checker.test_hashes(HASHES, extra_data_func=child_names)

    assert actual == expected, HELP.format(dict(sorted(actual.items())))


def test_the_history_ends_with_the_versions_of_today():
    assert list(objects.HISTORY)[-1] == rpcapi.AttachWorkerAPI.VERSION
    assert objects.HISTORY[rpcapi.AttachWorkerAPI.VERSION] == {
        name: classes[0].VERSION for name, classes in CLASSES.items()
    }


def test_a_subclass_has_the_version_of_its_base():
    for cls in objects.ConnectionInfo.__subclasses__():
        assert cls.VERSION == objects.ConnectionInfo.VERSION


def test_every_class_has_an_example_here():
    abstract = {'ConnectionInfo'}

    assert {each.obj_name() for each in everything()} == (
        CLASSES.keys() - abstract
    )


def test_all_classes_are_known_by_name():
    assert CLASSES.keys() <= vars(objects).keys()


@pytest.mark.parametrize('given', everything(), ids=ids)
def test_an_object_survives_the_journey(given):
    wire = json.dumps(given.obj_to_primitive())

    received = base.AttachWorkerObject.obj_from_primitive(json.loads(wire))
    received.validate()

    assert type(received) is type(given)
    assert received == given
    assert received.as_dict() == given.as_dict()
    assert json.loads(json.dumps(given.as_dict())) == given.as_dict()
    assert json.loads(wire)['versioned_object.namespace'] == 'attachworker'
    assert copy.deepcopy(given) == given


@pytest.mark.parametrize(
    ('given', 'version'),
    [
        pytest.param(given, version, id=f'{given.obj_name()}-{version}')
        for version, manifest in objects.HISTORY.items()
        for given in everything()
        if given.obj_name() in manifest
    ],
)
def test_an_object_can_be_sent_to_an_older_peer(given, version):
    manifest = objects.HISTORY[version]

    primitive = given.obj_to_primitive(
        target_version=manifest[given.obj_name()], version_manifest=manifest
    )

    base.AttachWorkerObject.obj_from_primitive(primitive).validate()


def test_a_rotation_is_shown_to_who_does_not_know_of_it():
    # Given a result as an older peer sees it, as the last one perhaps
    attachment = everything()[-1]
    attachment.last_result = objects.OperationResult(
        request_id='r', operation='rotate', status='rotated'
    )
    notification = objects.NotificationPayload(
        request_id='r', host='h', elapsed=0.5, status='rotated'
    )
    for given in (attachment, attachment.last_result, notification):
        primitive = given.obj_to_primitive(
            target_version='1.0', version_manifest=objects.HISTORY['1.0']
        )
        # Then it has nothing in it that version 1.0 does not have
        assert 'rotate' not in json.dumps(primitive)
        data = primitive['versioned_object.data']
        data = data.get('last_result', {}).get('versioned_object.data', data)
        assert data['status'] == 'extended'
        assert data.get('operation', 'extend') == 'extend'
        # And one that knows 1.1 is told what it was
        assert 'rotated' in json.dumps(given.obj_to_primitive())


@pytest.fixture
def newer_target():
    """ISCSITarget as a later version may have it."""

    class ISCSITarget(objects.ISCSITarget):
        # Version 1.0: Initial version
        # Version 1.1: Added group
        VERSION = '1.1'
        fields = {'group': ovo_fields.IntegerField(default=1)}

        def obj_make_compatible(self, primitive, target_version):
            super().obj_make_compatible(primitive, target_version)
            if target_version == '1.0':
                primitive.pop('group', None)

    return base.AttachWorkerObjectRegistry.objectify(ISCSITarget)(
        portal='192.0.2.5', name=shapes.IQN, lun=0
    )


def test_a_newer_object_is_sent_in_the_form_that_the_peer_knows(newer_target):
    primitive = newer_target.obj_to_primitive(
        target_version='1.0', version_manifest=objects.HISTORY['1.0']
    )

    assert primitive['versioned_object.version'] == '1.0'
    assert 'group' not in primitive['versioned_object.data']
    base.AttachWorkerObject.obj_from_primitive(primitive).validate()


@pytest.mark.parametrize('version', ['1.1', '2.0', '0.9'])
def test_an_object_of_an_unknown_version_is_refused(newer_target, version):
    primitive = newer_target.obj_to_primitive()
    primitive['versioned_object.version'] = version

    with pytest.raises(ovo_exception.IncompatibleObjectVersion):
        base.AttachWorkerObject.obj_from_primitive(primitive)


def test_an_object_is_not_sent_in_a_version_that_it_does_not_know():
    with pytest.raises(ovo_exception.InvalidTargetVersion):
        objects.ReplyTo(exchange='e', topic='t', server='s').obj_to_primitive(
            target_version='1.1'
        )


def test_what_an_older_sender_left_out_has_its_default():
    request = everything()[0]
    primitive = request.obj_to_primitive()
    del primitive['versioned_object.data']['min_paths']
    del primitive['versioned_object.data']['encryption']

    received = base.AttachWorkerObject.obj_from_primitive(primitive)

    assert (received.min_paths, received.encryption) == (1, None)


def broken():
    """Primitives that somebody has made by hand."""
    good = everything()[0].obj_to_primitive()
    data = 'versioned_object.data'
    info = good[data]['connection_info']

    def changed(**changes):
        return good | {data: good[data] | changes}

    def info_changed(**changes):
        return changed(connection_info=info | {data: info[data] | changes})

    return {
        'no object': 5,
        'empty': {},
        'no data': {k: v for k, v in good.items() if k != data},
        'data of another type': good | {data: 'request_id'},
        'version of another type': good | {'versioned_object.version': 1},
        'version that is none': good | {'versioned_object.version': 'x'},
        'name of another type': good | {'versioned_object.name': []},
        'bad id': changed(request_id='../x'),
        'no id': good
        | {data: {k: v for k, v in good[data].items() if k != 'request_id'}},
        'bad number': changed(min_paths='many'),
        'another object': changed(reply_to=info),
        'no nested object': changed(connection_info={'targets': []}),
        'nothing nested': changed(connection_info=None),
        'no targets': info_changed(target_list=[]),
        'no list': info_changed(target_list=5),
        'no objects in the list': info_changed(target_list=['x']),
        'null in the list': info_changed(target_list=[None]),
        'too many': info_changed(
            target_list=[
                objects.ISCSITarget(
                    portal='192.0.2.5', name=shapes.IQN, lun=lun
                ).obj_to_primitive()
                for lun in range(65)
            ]
        ),
        'bad secret': info_changed(auth_method='CHAP', auth_password='a\nb'),
        'half of the credentials': info_changed(
            auth_method='CHAP', auth_username='u'
        ),
    }


@pytest.mark.parametrize('primitive', broken().values(), ids=broken().keys())
def test_a_primitive_made_by_hand_keeps_the_rules_or_is_refused(primitive):
    with pytest.raises(exception.InvalidConnectionInfo):
        base.AttachWorkerObject.obj_from_primitive(primitive).validate()


def test_the_form_that_was_not_canonical_is_after_the_journey():
    primitive = everything()[2].obj_to_primitive()
    primitive['versioned_object.data'] |= {
        'portal': '2001:DB8:0::1,1',
        'lun': '7',
    }

    received = base.AttachWorkerObject.obj_from_primitive(primitive)

    assert received.portal == '[2001:db8::1]:3260'
    assert received.lun == 7


def test_an_object_of_another_project_is_refused():
    primitive = everything()[2].obj_to_primitive()
    primitive['versioned_object.namespace'] = 'nova'

    with pytest.raises(ovo_exception.UnsupportedObjectError):
        base.AttachWorkerObject.obj_from_primitive(primitive)


def test_a_field_that_does_not_exist_is_a_mistake():
    with pytest.raises(TypeError, match='AttachRequest has no min_path'):
        objects.AttachRequest(min_path=2)


def test_what_is_required_is_named():
    with pytest.raises(exception.InvalidConnectionInfo) as caught:
        objects.ReplyTo(exchange='e', topic='t').validate()

    assert caught.value.kwargs == {'key': 'server', 'rule': 'is required'}


def test_a_secret_is_masked_but_travels():
    encryption = objects.Encryption(provider='luks', key=shapes.CANARY)

    assert shapes.CANARY not in repr(encryption) + str(encryption)
    assert encryption.as_dict() == {
        'provider': 'luks',
        'key': fields.MASK,
        'may_format': False,
    }
    primitive = encryption.obj_to_primitive()
    assert primitive['versioned_object.data']['key'] == shapes.CANARY
