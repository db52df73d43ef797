# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Files of shares: what Cinder sends, and what is refused."""

import json
from typing import Any

import pytest

from attachworker import exception
from attachworker import objects
from attachworker.objects import rules
from attachworker.privileged import mounts


def info(**changes: Any) -> Any:
    """As Cinder's NFS driver sends it."""
    data = {
        'export': '192.0.2.1:/srv/volumes',
        'name': 'volume-1',
        'options': '-o vers=4.1,timeo=60',
        'format': 'raw',
        'encrypted': False,
        'qos_specs': None,
        'access_mode': 'rw',
        **changes,
    }
    return objects.ConnectionInfo.from_dict(
        {
            'driver_volume_type': 'nfs',
            'data': data,
            'mount_point_base': '/var/lib/cinder/mnt',
        }
    )


def test_a_file_of_a_share() -> None:
    found = info()
    assert found.protocol == 'nfs'
    # md5sum of the share, as os-brick has it
    assert found.targets == [
        (
            '192.0.2.1:2049',
            'nfs-508d5eb2b429f226d834e2fa51a8624e',
            '192.0.2.1:/srv/volumes/volume-1',
        )
    ]
    assert found.options == 'timeo=60,vers=4.1'
    assert found.is_complete(multipath=True)


def test_a_path_of_the_journal_is_the_same_again() -> None:
    (target,) = info(name='Volume-1.snapshot').targets
    assert objects.FileTarget.from_key(target.key) == target
    assert target.label == '192.0.2.1:/srv/volumes/Volume-1.snapshot'
    # All files of a share have its link, whatever options came with them
    (other,) = info(options=None).targets
    assert other.link_key == target.link_key
    assert other.key != target.key


def test_the_kind_is_what_a_record_has_as_its_protocol() -> None:
    primitive = info().obj_to_primitive()
    data = primitive['versioned_object.data']
    assert objects.MountConnectionInfo.protocol_of(data) == 'nfs'


@pytest.mark.parametrize(
    ('export', 'portal'),
    [
        ('192.0.2.1:/', '192.0.2.1:2049'),
        ('[2001:DB8::0:1]:/a', '[2001:db8::1]:2049'),
        ('Server.Example:/a/B', 'server.example:2049'),
    ],
)
def test_servers(export: str, portal: str) -> None:
    found = info(export=export)
    (target,) = found.targets
    assert target.portal == portal
    # It is mounted as it is spelled
    assert json.loads(json.dumps(found.as_dict()))['export'] == export


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('export', None),
        ('export', 'one.example'),
        ('export', '/srv/volumes'),
        ('export', 'server:srv'),
        ('export', '-o:/srv'),
        ('export', 'server:/srv,two'),
        ('export', 'server:/srv with blank'),
        ('export', 'server:/srv\n'),
        ('export', 'server:/srv/../etc'),
        ('export', 'server:/..'),
        ('export', '2001:db8::1:/srv'),
        ('export', '[2001:db8::x]:/srv'),
        ('export', '127.1:/srv'),
        ('export', 'server:/' + 'a' * 1024),
        ('name', None),
        ('name', ''),
        ('name', '.'),
        ('name', '..'),
        ('name', 'a/b'),
        ('name', '-a'),
        ('name', 'a,b'),
        ('name', 'a\0'),
        ('name', 'a' * 256),
        ('options', 'suid'),
        ('options', '-o exec'),
        ('options', '-o dev'),
        ('options', '-o vers=4.2 -f'),
        ('options', '-o bind'),
        ('options', '-o context=a'),
        ('options', '-o vers=9'),
        ('options', '-o soft='),
        ('options', '-o port=0x1'),
        ('options', '-o timeo=1;reboot'),
        ('options', '-o remount'),
        ('options', ','),
        ('options', 5),
        ('options', 'rw,' * 1000),
    ],
)
def test_what_is_refused_with_its_key(key: str, value: object) -> None:
    with pytest.raises(exception.InvalidConnectionInfo) as caught:
        info(**{key: value})
    assert caught.value.kwargs['key'] == key
    if isinstance(value, str) and len(value) > 4:
        assert value not in str(caught.value)


@pytest.mark.parametrize('options', [None, '', '-o vers=4', '-orw -o soft'])
def test_options_that_may_come(options: str | None) -> None:
    found = info(options=options).options
    assert (found is None) == (not options)


def test_the_helper_takes_the_options_that_the_rule_takes() -> None:
    examples = {
        'vers': '4.2',
        'nfsvers': '3',
        'minorversion': '1',
        'proto': 'tcp6',
        'mountproto': 'tcp',
        'mountvers': '3',
        'sec': 'krb5p',
        'local_lock': 'none',
        'lookupcache': 'pos',
    }
    known = mounts._KINDS['nfs']
    for name, pattern in rules.MOUNT_OPTIONS.items():
        value = examples.get(name, '10')
        option = f'{name}={value}' if pattern else name
        assert rules.mount_options(option) == option
        assert known.option(option) == option
    for option in ('suid', 'dev', 'exec', 'vers=9', 'soft,suid', 'addr=1'):
        with pytest.raises(ValueError, match='not an option'):
            known.option(option)
