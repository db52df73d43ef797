# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Canonical forms."""

import time

import pytest

from attachworker import objects
from attachworker.objects import rules


@pytest.mark.parametrize(
    ('spelling', 'canonical'),
    [
        ('192.0.2.5:3260', '192.0.2.5:3260'),
        ('192.0.2.5', '192.0.2.5:3260'),
        ('192.0.2.5:3260,1', '192.0.2.5:3260'),
        ('192.0.2.5,1', '192.0.2.5:3260'),
        ('192.0.2.5:03260', '192.0.2.5:3260'),
        ('192.0.2.5:860', '192.0.2.5:860'),
        ('[2001:db8::1]:3260', '[2001:db8::1]:3260'),
        ('[2001:DB8:0:0::1]:3260,1', '[2001:db8::1]:3260'),
        ('[2001:db8::1]', '[2001:db8::1]:3260'),
        ('2001:0db8:0000:0000:0000:0000:0000:0001', '[2001:db8::1]:3260'),
        # Several drivers of Cinder put a port behind an address like this.
        ('2001:db8:0:0:0:0:0:1:860', '[2001:db8::1]:860'),
        ('2001:db8::1:13260', '[2001:db8::1]:13260'),
        ('2001:db8::1', '[2001:db8::1]:3260'),
        ('2001:db8::a260', '[2001:db8::a260]:3260'),
        ('[fe80::1]:3260', '[fe80::1]:3260'),
        ('[::ffff:192.0.2.5]:3260', '192.0.2.5:3260'),
        ('Storage-1.Example.COM', 'storage-1.example.com:3260'),
        ('storage.example.com.:860', 'storage.example.com:860'),
        ('7.storage', '7.storage:3260'),
        ('localhost', 'localhost:3260'),
        ('x' * 63 + ':1', 'x' * 63 + ':1'),
    ],
)
def test_portals_have_one_spelling(spelling, canonical):
    assert rules.portal(spelling) == canonical
    assert rules.portal(canonical) == canonical


@pytest.mark.parametrize(
    'name',
    [
        'iqn.2003-01.org.linux-iscsi.host.x8664:sn.0123456789ab',
        'iqn.2001-04.com.example',
        'iqn.1992-08.com.netapp:sn.84269319:vs.3',
        'iqn.2010-10.org.openstack:volume-6f1d2f0e',
        'IQN.2010-10.org.openstack:Volume-1',
        # They exist: a host name in LIO's, a month of one digit, a cluster.
        'iqn.2003-01.org.linux-iscsi.my_host.x8664:sn.0123456789ab',
        'iqn.2004-1.com.example:storage',
        'iqn.1986-03.com.ibm:2145.cluster_1.node(2)',
        'iqn.2010-10.org.openstack:',
        'iqn.2001-04.com.example:' + 'x' * 199,
        'eui.02004567A425678D',
        'naa.52004567BA64678D',
        'naa.62004567BA64678D0123456789ABCDEF',
    ],
)
def test_iscsi_names_that_are_good(name):
    assert rules.iscsi_name(name) == name


@pytest.mark.parametrize(
    'name',
    [
        'nqn.2014-08.org.nvmexpress:uuid:6f1d2f0e-2d1c-4b9d-9f3e-5a1c3f0e7d11',
        'nqn.2014-08.org.nvmexpress.discovery',
        # Of Cinder's own targets: prefix and volume, or the host's name
        'nqn.nvme-subsystem-1-6f1d2f0e-2d1c-4b9d-9f3e-5a1c3f0e7d11',
        'nqn.iqn.2010-10.org.openstack:-compute-1.example.com',
        'nqn.nqn.2014-08.io.spdk:cnode1',
    ],
)
def test_nvme_names_that_are_good(name):
    assert rules.nqn(name) == name


@pytest.mark.parametrize(
    ('value', 'lun'),
    [(0, 0), ('0', 0), ('007', 7), (256, 256), (2**64 - 2, 2**64 - 2)],
)
def test_luns_have_any_width(value, lun):
    assert rules.lun(value) == lun


@pytest.mark.parametrize(
    'value', ['a', '6f1d2f0e-2d1c-4b9d-9f3e-5a1c3f0e7d11', 'x' * 255, '~!..']
)
def test_identifiers_that_are_good(value):
    assert rules.identifier(value) == value


@pytest.mark.parametrize(
    'value', ['x', '-x', ' x ', 'a\tb', 'ключ', '#', "'; rm", 'x' * 4096]
)
def test_a_secret_may_be_nearly_anything(value):
    assert rules.secret(value) == value


@pytest.mark.parametrize(
    'value', ['x', '-x', 'a b', ' a ', 'ключ', '#', "'; rm", 'x' * 255]
)
def test_a_secret_of_chap_is_what_a_record_can_hold(value):
    assert rules.chap_secret(value) == value


@pytest.mark.parametrize(
    'key',
    [
        'DHHC-1:00:' + 'A' * 47 + '=:',
        'DHHC-1:03:' + 'a+/9' * 23 + ':',
        'DHHC-1:01:' + 'A' * 48,
    ],
)
def test_keys_of_nvme_that_are_good(key):
    assert rules.dhchap_secret(key) == key


def test_a_key_may_have_lines():
    assert rules.secret('a\nb') == 'a\nb'


NAA = '60014051234567890123456789abcdef'


@pytest.mark.parametrize(
    ('spelling', 'normal'),
    [
        (f'naa.{NAA}', NAA),
        (f'3{NAA}', NAA),
        (NAA.upper(), NAA),
        (f'wwn-0x{NAA}', NAA),
        (f'0x{NAA}', NAA),
        (f'scsi-3{NAA}', NAA),
        (f'mpath-3{NAA}', NAA),
        (
            '3624a9370000000000000000000011223',
            '624a9370000000000000000000011223',
        ),
        ('35000c500a1b2c3d4', '5000c500a1b2c3d4'),
        ('naa.5000c500a1b2c3d4', '5000c500a1b2c3d4'),
        # NAA type 3 is a first digit too, of a whole identity.
        ('naa.3000c500a1b2c3d4', '3000c500a1b2c3d4'),
        ('50:00:c5:00:a1:b2:c3:d4', '5000c500a1b2c3d4'),
        ('eui.0025385b71b0a1c2', '0025385b71b0a1c2'),
        ('20025385b71b0a1c2', '0025385b71b0a1c2'),
        ('2' + '0025385b71b0a1c2' + '01234567', '0025385b71b0a1c201234567'),
        (
            'uuid.6F1D2F0E-2D1C-4B9D-9F3E-5A1C3F0E7D11',
            '6f1d2f0e2d1c4b9d9f3e5a1c3f0e7d11',
        ),
        ('t10.ATA     QEMU', 't10.ata     qemu'),
        ('', ''),
    ],
)
def test_identities_have_one_spelling(spelling, normal):
    assert objects.normalise_wwn(spelling) == normal
    assert objects.normalise_wwn(normal) == normal


@pytest.mark.parametrize(
    ('identity', 'worldwide'),
    [
        (f'3{NAA}', True),
        ('naa.5000c500a1b2c3d4', True),
        # tgt: no company, then the numbers of target and LUN
        ('360000000000000000e00000000010001', False),
        ('naa.60000000000000000e00000000010001', False),
        ('uuid.00000000-2d1c-4b9d-9f3e-5a1c3f0e7d11', True),
    ],
)
def test_who_vouches_for_an_identity(identity, worldwide):
    assert rules.is_worldwide(identity) is worldwide


@pytest.mark.parametrize(
    'rule',
    [
        rules.absolute_path,
        rules.ceph_name,
        rules.chap_secret,
        rules.dhchap_secret,
        rules.identifier,
        rules.iscsi_name,
        rules.lun,
        rules.namespace_id,
        rules.nqn,
        rules.nvme_transport,
        rules.portal,
        rules.secret,
        rules.transport_iface,
        rules.user_name,
        rules.wwn,
        lambda value: rules.endpoint(value, value, 1),
    ],
)
def test_a_long_text_is_refused_at_once(rule):
    """As long as a message may be: others wait for it to be looked at."""
    began = time.process_time()
    for part in (' naa.', '0x', 'a.', ':', '9', '[::', '/a', 'iqn.2010-10.'):
        with pytest.raises(rules.RuleBroken):
            rule(part * (250_000 // len(part)))
    assert time.process_time() - began < 1
