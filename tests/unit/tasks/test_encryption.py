# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""Opening, closing and resizing a mapping."""

import errno

import pytest

from attachworker import exception
from attachworker import flows
from attachworker import objects
from attachworker.connectors import base as connectors
from attachworker.host import block
from attachworker.host import encryption
from attachworker.host import multipath
from attachworker.worker import engine
from tests.unit.tasks import fake_encryption
from tests.unit.tasks import runs

NAME = encryption.name_of('attachment')
DISK = 'sd1'


def make(provider: str = 'luks2', **values: object) -> runs.Watched:
    wanted = objects.Encryption(provider=provider, key='key', **values)
    return runs.make(encryption=wanted, name='attachment')


def fake(run: runs.Watched) -> fake_encryption.FakeEncryption:
    found = run.host.encryption
    assert isinstance(found, fake_encryption.FakeEncryption)
    return found


def mapping(*disks: str) -> encryption.Mapping:
    return encryption.Mapping(NAME, 'dm-1', disks, 'luks2')


def opened(run: runs.Watched) -> engine.Outcome:
    return runs.drive(flows.attach(run))


def test_a_volume_is_opened() -> None:
    run = make()
    run.host.block.sizes['dm-1'] = 2048
    outcome = opened(run)
    assert outcome.error is None
    assert fake(run).said == [f'open {DISK}']
    device = outcome.results['opened']
    assert (device.path, device.size) == (f'/dev/mapper/{NAME}', 2048)


def test_a_failure_closes_it() -> None:
    run = make()
    run.fails_after('OpenEncryption', exception.HostToolFailed('no'))
    assert opened(run).error is not None
    assert fake(run).said == [f'open {DISK}', 'close']
    assert run.leftovers == []


def test_what_cannot_be_closed_is_left_over() -> None:
    run = make()
    run.fails_after('OpenEncryption', exception.HostToolFailed('no'))
    original = fake(run).open

    def open_and_stick(*arguments: object) -> None:
        original(*arguments)  # type: ignore[arg-type]
        fake(run).left = ['mapping']

    fake(run).open = open_and_stick  # type: ignore[method-assign,assignment]
    assert opened(run).error is not None
    assert run.leftovers == ['mapping']


def test_one_that_was_left_goes_first() -> None:
    """Whatever key it was opened with."""
    run = make()
    fake(run).mapping = mapping(DISK)
    assert opened(run).error is None
    assert fake(run).said == ['close', f'open {DISK}']


@pytest.mark.parametrize('disk', [DISK, 'sdx'])
def test_one_that_the_attachment_has_stays(disk: str) -> None:
    """But not one on top of another device."""
    run = make()
    run.kept = frozenset({runs.ONE})
    fake(run).mapping = mapping(disk)
    run.fails_after('OpenEncryption', exception.HostToolFailed('no'))
    assert opened(run).error is not None
    again = ['close', f'open {DISK}', 'close']
    assert fake(run).said == ([] if disk == DISK else again)


@pytest.mark.parametrize(
    ('number', 'reason'),
    [
        (errno.EACCES, 'the key does not open it'),
        (errno.EBUSY, 'it is in use'),
    ],
)
def test_refusals(number: int, reason: str) -> None:
    run = make()
    fake(run).error = OSError(number, 'it is in use')
    error = opened(run).error
    assert isinstance(error, exception.EncryptionFailed)
    assert reason in str(error)


def test_no_header() -> None:
    run = make('luks')
    error = opened(run).error
    assert isinstance(error, exception.EncryptionFailed)
    assert 'no header of format luks,' in str(error)
    assert fake(run).said == []


def test_a_header_is_written_if_it_may_be() -> None:
    run = make('luks', may_format=True)
    assert opened(run).error is None
    assert fake(run).said == [f'format {DISK} luks', f'open {DISK}']


def test_a_path_to_another_volume_forbids_it() -> None:
    run = make('luks', may_format=True)
    connector = run.get_connector('iscsi')
    assert isinstance(connector, runs.FakeConnector)
    wwns = connector.wwns
    run.hooks['before', 'OpenEncryption'] = lambda: wwns.update(
        {DISK: runs.GOOD[:-1] + 'f'}
    )
    assert isinstance(opened(run).error, exception.IdentityMismatch)
    assert fake(run).said == []


def test_a_path_that_joins_the_map_late_does_not_fail_it() -> None:
    # Given a multipathd that has put the second path into the map only
    wanted = objects.Encryption(provider='plain', key='key')
    run = runs.make(
        runs.ONE,
        runs.TWO,
        multipath=True,
        min_paths=1,
        encryption=wanted,
        name='attachment',
    )
    run.host.multipath.map = multipath.Map('dm-0', runs.GOOD, ('sd2',))
    run.host.multipath.makes = False
    # Then the map is opened
    assert opened(run).error is None
    assert fake(run).said == ['open dm-0']


def test_plain_has_no_header() -> None:
    run = make('plain', may_format=True)
    assert opened(run).error is None
    assert fake(run).said == [f'open {DISK}']


def test_no_cryptsetup() -> None:
    run = make()
    run.host.tool = lambda name: None  # type: ignore[method-assign]
    outcome = opened(run)
    assert isinstance(outcome.error, exception.HostToolMissing)
    assert outcome.step == 'GetConnector'


def detached(force: bool = False) -> tuple[runs.Watched, engine.Outcome]:
    connector = runs.FakeConnector()
    run = runs.make(connector=connector, name='attachment', force=force)
    claim = connectors.Claim(runs.ONE, run.holdings, run.deadline)
    connector.connect(run.info, claim, connectors.Interest())
    fake(run).mapping = mapping(DISK)
    return run, runs.drive(flows.detach(run))


def test_it_is_flushed_and_closed_first() -> None:
    run, outcome = detached()
    assert outcome.error is None
    assert run.host.block.looks == [[DISK, 'dm-1'], [DISK]]
    assert run.host.block.flushed == ['dm-1', DISK]
    assert fake(run).mapping is None


@pytest.mark.parametrize('force', [False, True])
def test_one_that_stays(monkeypatch: pytest.MonkeyPatch, force: bool) -> None:
    def stays(*arguments: object) -> list[str]:
        return ['mapping']

    monkeypatch.setattr(fake_encryption.FakeEncryption, 'close', stays)
    run, outcome = detached(force)
    connector = run.get_connector('iscsi')
    assert isinstance(connector, runs.FakeConnector)
    assert bool(connector.connected) != force
    if force:
        assert run.leftovers == [f'mapping {NAME}']
    else:
        assert isinstance(outcome.error, exception.EncryptionFailed)


def grown(run: runs.Watched) -> engine.Outcome:
    """A device of 4096 bytes, of which a header takes 1024."""
    connector = run.get_connector('iscsi')
    assert isinstance(connector, runs.FakeConnector)
    connector.connected[runs.ONE] = connectors.Path(runs.ONE, DISK, DISK)
    return runs.drive(flows.extend(run))


def test_it_grows() -> None:
    run = make()
    fake(run).mapping = mapping(DISK)
    sizes = run.host.block.sizes
    sizes['dm-1'] = 2048

    def resize(
        device: block.Device,
        mapping: encryption.Mapping,
        key: str | None,
        asked: int,
        deadline: object,
    ) -> None:
        assert (device.name, key, asked) == (DISK, 'key', 4096)
        sizes['dm-1'] = 3072

    fake(run).resize = resize  # type: ignore[method-assign]
    assert grown(run).results['sizes'] == (2048, 3072)


def test_it_has_grown_already() -> None:
    run = make()
    run.encryption = None
    fake(run).mapping = mapping(DISK)
    run.host.block.sizes['dm-1'] = 3072
    assert grown(run).results['sizes'] == (3072, 3072)
    assert fake(run).said == []


def test_it_does_not_grow() -> None:
    run = make()
    fake(run).mapping = mapping(DISK)
    run.host.block.bytes = 65536
    run.host.block.sizes['dm-1'] = 2048
    assert isinstance(grown(run).error, exception.ExtendFailed)
    run.encryption = None
    fake(run).error = OSError(errno.EIO, 'no input')
    error = grown(run).error
    assert isinstance(error, exception.EncryptionFailed)
    assert 'send it, too' in str(error)


@pytest.mark.parametrize('known', [False, True])
def test_there_is_none_to_grow(known: bool) -> None:
    run = make()
    run.opened = known
    if known:
        run.encryption = None
    assert isinstance(grown(run).error, exception.EncryptionFailed)
