# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""All that reads what storage, the network or the host's tools say.

Each parser has the inputs that are made up for it, and the errors that it may
raise. doc/source/contributor/parsers.rst has the same list, for people.
"""

from collections.abc import Callable
import dataclasses
import re
from typing import Any

from hypothesis import strategies as st

from attachworker.connectors import base
from attachworker.connectors.iscsi import discovery
from attachworker.connectors.iscsi import initiator
from attachworker.connectors.nvmeof import exclusions
from attachworker.connectors.nvmeof import fabrics
from attachworker.connectors.nvmeof import host_identity
from attachworker.connectors.rbd import mappings
from attachworker.host import netlink
from attachworker.host import vpd
from attachworker.privileged import encryption
from attachworker.privileged import multipath
from attachworker.privileged import processes
from attachworker.privileged import scsi
from tests.properties import samples

#: Digits of more than 4,300 are no number to Python.
_PIECES = st.sampled_from(
    [
        *'\n\t :=,;."/\\[]{}()-_%@\0\x0b\x1b\x85',
        '9',
        '\u2028',
        '\uff11',
        '\\777',
    ]
)
_LONG = st.builds(
    lambda head, piece, count: head + piece * count,
    st.text(max_size=8),
    _PIECES,
    st.sampled_from([64, 5000, 20_000]),
)


@st.composite
def _mutated(draw: Any, sample: Any, piece: Any) -> Any:
    """A sample with pieces taken out, put in, repeated or exchanged."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(sample)))
        end = start + draw(st.integers(0, 16))
        into = draw(piece) * draw(st.sampled_from([0, 1, 1, 2, 300]))
        sample = sample[:start] + into + sample[end:]
    return sample


def _texts(*known: str) -> st.SearchStrategy[str]:
    lines = [line for sample in known for line in sample.split('\n')]
    piece = st.one_of(_PIECES, st.sampled_from(lines), st.text(max_size=4))
    mutated = [_mutated(sample, piece) for sample in known]
    return st.one_of(*mutated, st.text(max_size=200), _LONG)


def _pages(*known: bytes) -> st.SearchStrategy[bytes]:
    piece = st.binary(max_size=4)
    mutated = [_mutated(sample, piece) for sample in known]
    filled = st.builds(
        lambda one: one * 4096, st.binary(min_size=1, max_size=4)
    )
    return st.one_of(*mutated, st.binary(max_size=300), filled)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(['map', 'path_groups', 'paths', 'dev', 'dm_st']),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@dataclasses.dataclass(frozen=True)
class Parser:
    """One of them.

    :ivar read: gives it an input, and looks at what comes out
    :ivar inputs: for it
    :ivar errors: which it may raise; all else is a fault
    """

    name: str
    read: Callable[[Any], object]
    inputs: st.SearchStrategy[Any]
    errors: tuple[type[Exception], ...] = ()


def _wwn(page: bytes) -> None:
    for data in (page, b'\0\x83' + page):
        found = vpd.wwn(data)
        # More than its kind: otherwise many volumes would have the same
        assert found is None or re.fullmatch(r'[123].+', found)
        assert found is None or found.isprintable()


def _serial(page: bytes) -> None:
    found = vpd.serial(b'\0\x80' + page)
    assert found is None or (found and found.isprintable())
    made = vpd.wwn_of_serial(vpd.text(page[:8]), vpd.text(page[8:24]), 'x')
    assert made.isprintable()


def _whole_page(data: bytes) -> None:
    assert len(scsi._whole_page(lambda length: data[:length])) <= 4096
    scsi._is_refusal(data.ljust(32, b'\0')[:32])


def _header(dump: str) -> None:
    found = encryption.header_in(dump)
    assert 0 < found.length <= found.memory


def _offset(status: str) -> None:
    assert encryption.offset_in(status) >= 0


def _descriptors(page: bytes) -> None:
    for found in fabrics.described(page[:4096]):
        kind, _, digits = found.partition('.')
        assert len(digits) == {'uuid': 32, 'nguid': 32, 'eui': 16}[kind]


def _size(page: bytes) -> None:
    assert 0 <= fabrics.size_in(page[:4096]) < 2**63


def _paths(answer: str) -> None:
    for disk, state in multipath.paths_in(answer):
        assert isinstance(disk, str)
        assert isinstance(state, str)


def _wwids(answer: str) -> None:
    for disk in multipath.wwids_in(answer):
        assert re.fullmatch('sd[a-z]+', disk)


def _listed(text: str) -> None:
    assert all(map(str.isprintable, multipath.listed_in(text)))


WANTED = base.Target('192.0.2.1:3260', 'iqn.2026-01.example:kK', 1)


def _targets(output: str) -> None:
    said = initiator.targets_in(output)
    found = discovery.listed(said, [WANTED])
    assert len(found) <= 64
    for one in found:
        assert one.name.lower() == WANTED.name.lower()
        assert one.name.isascii()


def _mounts(table: str) -> None:
    for mount in processes.parsed_mounts(table):
        assert '\n' not in mount.number


def _excluded(text: str) -> None:
    options = {'transport': 'tcp', 'traddr': '192.0.2.1', 'nqn': 'nqn.a'}
    exclusions.match(text, options)


def _identity(text: str) -> None:
    nqn, _, host_id = text.partition('\n')
    made = host_identity.of_machine(nqn, host_id)
    host_identity.complete(nqn or None, host_id or None, made)


class _Device:
    """Of pyudev: text, which it decodes when it is asked for."""

    def __init__(self, values: tuple[bytes, ...]) -> None:
        self._values = dict(
            zip(('action', 'device_path', 'subsystem'), values, strict=True)
        )

    def __getattr__(self, name: str) -> str:
        return self._values[name].decode()


def _uevent(values: tuple[bytes, ...]) -> None:
    found = netlink.event_of(_Device(values))
    assert all(isinstance(text, str) for text in found.values())


def _monitor(spelled: str) -> None:
    assert isinstance(mappings._portal(spelled), str)


def _swaps(table: str) -> None:
    for path in processes.parsed_swaps(table):
        assert path


PARSERS = [
    Parser('vpd.wwn', _wwn, _pages(*samples.PAGES)),
    Parser('vpd.serial', _serial, _pages(*samples.PAGES)),
    Parser('scsi._whole_page', _whole_page, _pages(*samples.PAGES)),
    Parser(
        'encryption.header_in',
        _header,
        _texts(*samples.HEADERS),
        (OSError,),
    ),
    Parser(
        'encryption.offset_in', _offset, _texts(samples.STATUS), (OSError,)
    ),
    Parser('fabrics.described', _descriptors, _pages(samples.DESCRIPTORS)),
    Parser('fabrics.size_in', _size, _pages(samples.NAMESPACE), (OSError,)),
    Parser(
        'multipath.paths_in',
        _paths,
        _texts(samples.MAP)
        | _json.map(samples.as_json)
        | st.integers(1, 10**5).map(lambda depth: '[' * depth),
        (OSError,),
    ),
    Parser('multipath.wwids_in', _wwids, _texts(samples.PATHS)),
    Parser('multipath.listed_in', _listed, _texts(samples.WWIDS)),
    Parser('initiator.targets_in', _targets, _texts(samples.TARGETS)),
    Parser(
        'initiator.settings_in', initiator.settings_in, _texts(samples.IFACE)
    ),
    Parser(
        'processes.parsed_mounts', _mounts, _texts(samples.MOUNTS), (OSError,)
    ),
    Parser('processes.parsed_swaps', _swaps, _texts(samples.SWAPS)),
    Parser('exclusions.match', _excluded, _texts(samples.EXCLUSIONS)),
    Parser(
        'host_identity.complete',
        _identity,
        _texts(samples.IDENTITY),
        (ValueError,),
    ),
    Parser('mappings._portal', _monitor, _texts(*samples.MONITORS)),
    Parser(
        'netlink.event_of',
        _uevent,
        st.tuples(*[st.binary(max_size=40)] * 3),
        (OSError,),
    ),
]
