# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Settings of other programs on this host that harm attached volumes."""

from collections.abc import Iterator
import pathlib
import re

#: Files of one program, in the order in which they are read.
_MULTIPATH = ('etc/multipath.conf', 'etc/multipath/conf.d/*.conf')
_LVM = ('etc/lvm/lvm.conf', 'etc/lvm/lvmlocal.conf')
_INITIATOR = 'etc/iscsi/initiatorname.iscsi'

_WORD = re.compile(r'"([^"]*)"|([{}])|([^\s{}"]+)')
#: Names of devices that every SCSI disk has.
_ALL_DISKS = ('sda', 'sdzz')


def of_multipath(root: pathlib.Path) -> Iterator[str]:
    """What is wrong with multipath.conf, each with what to do."""
    rules: list[tuple[str, str, str]] = []
    for file in _files(root, _MULTIPATH):
        rules += _settings(file.read_text(encoding='utf-8', errors='replace'))
    for section, name, value in rules:
        if name == 'no_path_retry' and value == 'queue':
            yield (
                'no_path_retry queue: I/O hangs for ever once all paths of a '
                'volume are down; set no_path_retry to a number'
            )
        elif name == 'features' and 'queue_if_no_path' in value:
            yield (
                'features "1 queue_if_no_path": I/O hangs for ever once all '
                'paths of a volume are down; set no_path_retry to a number'
            )
        elif section == 'blacklist' and name == 'devnode':
            if _matches_all(value):
                yield (
                    f'blacklist devnode "{value}": no volume gets a map; '
                    'take it out'
                )
        elif section == 'blacklist' and name == 'protocol':
            if re.search(value, 'scsi:iscsi'):
                yield (
                    f'blacklist protocol "{value}": no iSCSI volume gets a '
                    'map; take it out'
                )


def of_lvm(root: pathlib.Path) -> Iterator[str]:
    """What is wrong with lvm.conf, each with what to do."""
    settings: dict[str, str] = {}
    for file in _files(root, _LVM):
        for line in file.read_text(errors='replace').splitlines():
            name, equals, value = line.partition('#')[0].partition('=')
            if equals:
                settings[name.strip()] = value.strip()
    devices = root / 'etc/lvm/devices/system.devices'
    chosen = settings.get('use_devicesfile') == '1' and devices.exists()
    if not chosen and not {'filter', 'global_filter'} & settings.keys():
        yield (
            'LVM looks for its volumes on every disk, and so activates those '
            'inside of guests, which then cannot be detached; set '
            'global_filter in /etc/lvm/lvm.conf to the disks of this host, '
            'for example [ "a|^/dev/vda|", "r|.*|" ]'
        )


def of_initiator(root: pathlib.Path) -> Iterator[str]:
    """What is wrong with the name of the initiator, and what to do."""
    try:
        text = (root / _INITIATOR).read_text(errors='replace')
    except OSError:
        return
    names = re.findall(r'(?m)^\s*InitiatorName\s*=\s*(\S+)', text)
    if len(set(names)) > 1:
        yield (
            f'/{_INITIATOR} has {len(names)} names, and tools differ in which '
            'they take; leave one'
        )
    if re.search(r'(?m)^\s*GenerateName\s*=\s*yes', text):
        yield (
            f'/{_INITIATOR} says GenerateName=yes: the name is made when '
            'iscsid starts first; systemctl start iscsid'
        )


def _files(root: pathlib.Path, names: tuple[str, ...]) -> list[pathlib.Path]:
    return [file for name in names for file in sorted(root.glob(name))]


def _settings(text: str) -> Iterator[tuple[str, str, str]]:
    """Section, keyword and value of each line of a multipath.conf."""
    sections: list[str] = []
    for line in text.splitlines():
        words = [
            quoted or brace or plain
            for quoted, brace, plain in _WORD.findall(
                re.sub(r'[#!].*', '', line)
            )
        ]
        while words:
            if words[0] == '}':
                sections = sections[:-1]
                words = words[1:]
            elif words[1:2] == ['{']:
                sections.append(words[0])
                words = words[2:]
            elif len(words) > 1:
                yield sections[0] if sections else '', words[0], words[1]
                words = words[2:]
            else:
                break


def _matches_all(pattern: str) -> bool:
    try:
        # A lone star is no expression; multipath takes it for all.
        return pattern == '*' or all(
            re.search(pattern, disk) for disk in _ALL_DISKS
        )
    except re.error:
        return False
