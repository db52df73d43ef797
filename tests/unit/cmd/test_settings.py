# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Settings of multipath-tools, LVM and open-iscsi."""

from collections.abc import Callable
from collections.abc import Iterator
import pathlib

import pytest

from attachworker.cmd import settings

Look = Callable[[pathlib.Path], Iterator[str]]


def told(look: Look, root: pathlib.Path, name: str, text: str) -> list[str]:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return list(look(root))


@pytest.mark.parametrize(
    ('text', 'what'),
    [
        ('defaults {\n no_path_retry queue\n}', 'no_path_retry'),
        ('defaults { no_path_retry "queue" }', 'no_path_retry'),
        (
            'devices {\n device {\n vendor "A" # one\n product "B"\n'
            ' no_path_retry queue\n }\n}',
            'no_path_retry',
        ),
        ('overrides {\nfeatures "1 queue_if_no_path"\n}', 'queue_if_no_path'),
        ('blacklist {\ndevnode "*"\n}', 'no volume'),
        ('blacklist {\ndevnode ".*"\n}', 'no volume'),
        ('blacklist {\ndevnode "^sd"\n}', 'no volume'),
        ('blacklist {\nprotocol "scsi:.*"\n}', 'no iSCSI'),
    ],
)
def test_multipath_conf_that_harms(
    tmp_path: pathlib.Path, text: str, what: str
) -> None:
    (found,) = told(
        settings.of_multipath, tmp_path, 'etc/multipath.conf', text
    )
    assert what in found


@pytest.mark.parametrize(
    'text',
    [
        '',
        '# no_path_retry queue',
        'defaults {\n user_friendly_names yes\n no_path_retry 5\n}',
        'blacklist {\n devnode "^vd"\n protocol "scsi:fcp"\n}',
        'blacklist_exceptions {\n devnode "*"\n}',
        'blacklist {\n device {\n vendor ".*"\n product "X"\n }\n}',
        'blacklist {\n devnode "^sda$"\n}',
        'blacklist {\n devnode "["\n}',
        'defaults {',
        '}}}',
    ],
)
def test_multipath_conf_that_does_not(
    tmp_path: pathlib.Path, text: str
) -> None:
    assert (
        told(settings.of_multipath, tmp_path, 'etc/multipath.conf', text) == []
    )


def test_all_files_of_multipath_are_read(tmp_path: pathlib.Path) -> None:
    assert told(
        settings.of_multipath,
        tmp_path,
        'etc/multipath/conf.d/site.conf',
        'defaults {\n no_path_retry queue\n}',
    )


@pytest.mark.parametrize(
    ('text', 'fine'),
    [
        ('', False),
        ('devices {\n # global_filter = [ "r|.*|" ]\n}', False),
        ('devices {\n global_filter = [ "a|^/dev/vda|", "r|.*|" ]\n}', True),
        ('devices {\n filter=["r|.*|"]\n}', True),
        ('devices {\n use_devicesfile = 1\n}', False),
    ],
)
def test_lvm_conf(tmp_path: pathlib.Path, text: str, fine: bool) -> None:
    found = told(settings.of_lvm, tmp_path, 'etc/lvm/lvm.conf', text)
    assert (found == []) is fine


def test_lvm_with_a_list_of_devices(tmp_path: pathlib.Path) -> None:
    devices = tmp_path / 'etc/lvm/devices/system.devices'
    devices.parent.mkdir(parents=True)
    devices.touch()
    text = 'devices {\n use_devicesfile = 1\n}'
    assert told(settings.of_lvm, tmp_path, 'etc/lvm/lvm.conf', text) == []


@pytest.mark.parametrize(
    ('text', 'what'),
    [
        ('InitiatorName=iqn.a\n', None),
        ('# InitiatorName=iqn.b\nInitiatorName=iqn.a\n', None),
        ('InitiatorName=iqn.a\nInitiatorName=iqn.b\n', 'has 2 names'),
        ('GenerateName=yes\n', 'systemctl start iscsid'),
    ],
)
def test_initiator_name(
    tmp_path: pathlib.Path, text: str, what: str | None
) -> None:
    name = 'etc/iscsi/initiatorname.iscsi'
    found = told(settings.of_initiator, tmp_path, name, text)
    assert len(found) == (what is not None)
    assert what is None or what in found[0]
