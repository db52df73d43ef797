# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""nvmeof: what this host is called, and whose a controller is."""

from collections.abc import Iterator
import pathlib
import uuid

import pytest

from tests import harness
from tests.contract import bed as beds
from tests.contract.test_audit import findings
from tests.contract.test_nvmeof import attached
from tests.contract.test_nvmeof import connect
from tests.contract.test_nvmeof import detached
from tests.contract.test_nvmeof import end

PREFIX = 'nqn.2014-08.org.nvmexpress:uuid:'
FILES = ('hostnqn', 'hostid')


class Names:
    """What is in /etc/nvme."""

    def __init__(self, bed: beds.Bed) -> None:
        self._directory = bed.root / 'etc/nvme'

    def write(self, **texts: str | None) -> None:
        """Write files, or remove them."""
        self._directory.mkdir(exist_ok=True)
        for name, text in texts.items():
            path = self._directory / name
            if text is None:
                path.unlink(missing_ok=True)
            else:
                path.write_text(text)

    def read(self) -> dict[str, str | None]:
        paths = {name: self._directory / name for name in FILES}
        return {
            name: path.read_text() if path.exists() else None
            for name, path in paths.items()
        }


@pytest.fixture
def names(bed: beds.Bed) -> Iterator[Names]:
    names = Names(bed)
    before = names.read()
    yield names
    names.write(**before)


def controllers(bed: beds.Bed) -> dict[str, tuple[str, str]]:
    """Host NQN and Host Identifier of each."""
    return {
        path.name: (read(path / 'hostnqn'), read(path / 'hostid'))
        for path in (bed.root / 'sys/class/nvme').glob('nvme*')
        if (path / 'hostnqn').exists()
    }


def read(path: pathlib.Path) -> str:
    return path.read_text().strip()


@pytest.mark.parametrize('text', [None, ''])
@pytest.mark.parametrize('known', FILES)
def test_one_of_two_names_is_known(
    bed: beds.Bed,
    worker: harness.Harness,
    names: Names,
    known: str,
    text: str | None,
) -> None:
    # Given one file, and another one that is missing or empty
    host_id = str(uuid.uuid4())
    texts = {'hostnqn': PREFIX + host_id, 'hostid': host_id}
    names.write(**{**dict.fromkeys(FILES, text), known: texts[known]})
    volume = bed.create_nvme_volume()
    before = bed.snapshot()
    # When a volume is attached
    attached(worker, volume)
    # Then the other name follows from it, here and for all who connect later
    assert [*controllers(bed).values()] == [(PREFIX + host_id, host_id)]
    assert {
        name: (value or '').strip() for name, value in names.read().items()
    } == texts
    properties = worker.api.get_connector_properties({}, worker.name)
    assert (properties['nqn'], properties['nvme_hostid']) == (
        PREFIX + host_id,
        host_id,
    )
    detached(worker, volume.name)
    assert bed.snapshot() == before


def test_no_name_and_a_read_only_etc(bed: beds.Bed, names: Names) -> None:
    # Given a host that has no names, and cannot be given any
    machine_id = bed.root / 'etc/machine-id'
    if not machine_id.exists():
        machine_id.write_text(f'{uuid.uuid4().hex}\n')
    names.write(hostnqn=None, hostid=None)
    volume = bed.create_nvme_volume()
    before = bed.snapshot()
    bed.protect_etc(True)
    try:
        found = []
        for _ in range(2):
            # When workers are started on it
            with harness.Harness(bed) as worker:
                attached(worker, volume)
                found += controllers(bed).values()
                detached(worker, volume.name)
        # Then each connects by the same ones
        assert found[0] == found[1]
        assert names.read() == dict.fromkeys(FILES)
    finally:
        bed.protect_etc(False)
    assert bed.snapshot() == before


def test_names_that_do_not_belong_together(
    bed: beds.Bed, worker: harness.Harness, names: Names
) -> None:
    # Given a Host Identifier that the Host NQN was not made of
    pair = (f'{PREFIX}{uuid.uuid4()}', str(uuid.uuid4()))
    names.write(hostnqn=pair[0], hostid=pair[1])
    volume = bed.create_nvme_volume()
    # And a controller that nvme-cli has made with both
    other = bed.create_nvme_volume()
    theirs = connect(bed, other, *pair)
    # When a volume is attached, then by the same pair
    attached(worker, volume)
    assert [*controllers(bed).values()] == [pair] * 2
    detached(worker, volume.name)
    assert [*controllers(bed)] == [theirs]
    end(bed, theirs)


def test_the_kernel_has_another_identifier_of_this_host(
    bed: beds.Bed, worker: harness.Harness, names: Names
) -> None:
    # Given a controller of this host's name that was connected, by an
    # initramfs say, when hostid was another one
    host_nqn = f'{PREFIX}{uuid.uuid4()}'
    first = str(uuid.uuid4())
    names.write(hostnqn=host_nqn, hostid=str(uuid.uuid4()))
    theirs = connect(bed, bed.create_nvme_volume(), host_nqn, first)
    # When a volume is attached, then with what the kernel takes
    volume = bed.create_nvme_volume()
    attached(worker, volume)
    assert [*controllers(bed).values()] == [(host_nqn, first)] * 2
    detached(worker, volume.name)
    end(bed, theirs)


@pytest.fixture
def any_name(worker: harness.Harness) -> Iterator[None]:
    """The operator lets callers choose what this host is called."""
    worker.conf.set_override('accept_host_nqn', True, group='nvmeof')
    yield
    worker.conf.clear_override('accept_host_nqn', group='nvmeof')


def test_a_caller_cannot_have_this_host_pose_as_another(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given a volume, and a caller that names another host
    volume = bed.create_nvme_volume()
    before = bed.snapshot()
    info = volume.connection_info()
    info['data']['host_nqn'] = f'{PREFIX}{uuid.uuid4()}'
    # When it is to be attached, then nobody logs in
    result = worker.attach(volume, connection_info=info)
    assert result.error.code == 'invalid_connection_info', result.as_dict()
    assert 'host_nqn' in result.error.message
    assert controllers(bed) == {}
    assert bed.snapshot() == before
    # But drivers of Cinder say the name that the host itself has given them
    properties = worker.api.get_connector_properties({}, worker.name)
    info['data']['host_nqn'] = properties['nqn']
    attached(worker, volume, connection_info=info)
    assert [nqn for nqn, _ in controllers(bed).values()] == [properties['nqn']]
    detached(worker, volume.name)


@pytest.mark.usefixtures('any_name')
def test_the_storage_calls_this_host_something_else(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given a volume that is attached by the host's own name
    first = bed.create_nvme_volume()
    attached(worker, first)
    (own,) = controllers(bed).values()
    # When one is to be attached by another name
    volume = bed.create_nvme_volume()
    other = uuid.uuid4()
    info = volume.connection_info()
    info['data']['host_nqn'] = f'{PREFIX}{other}'
    device = attached(worker, volume, connection_info=info)
    # Then with an identifier that goes with that one
    assert set(controllers(bed).values()) == {
        own,
        (f'{PREFIX}{other}', str(other)),
    }
    assert bed.read(device.path) == volume.pattern
    for each in (volume, first):
        detached(worker, each.name)
    assert controllers(bed) == {}


def test_a_controller_of_another_host_name_is_neither_used_nor_ended(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given a controller to the same portal that was connected by another name
    volume = bed.create_nvme_volume()
    other = str(uuid.uuid4())
    theirs = connect(bed, volume, PREFIX + other, other)
    before = controllers(bed)
    # When the volume is attached
    device = attached(worker, volume)
    # Then through a controller of our own
    assert len(controllers(bed)) == 2
    assert bed.read(device.path) == volume.pattern
    assert 'foreign controller' in findings(worker)
    # And only that one goes
    detached(worker, volume.name)
    assert controllers(bed) == before
    # Not even where ours is gone already
    attached(worker, volume)
    (ours,) = set(controllers(bed)) - {theirs}
    end(bed, ours)
    detached(worker, volume.name)
    assert controllers(bed) == before
    end(bed, theirs)


def test_a_name_that_another_controller_has_by_now(
    bed: beds.Bed, worker: harness.Harness
) -> None:
    # Given what was found of a controller that has gone since
    volume = bed.create_nvme_volume()
    attached(worker, volume)
    ((name, pair),) = controllers(bed).items()
    place = bed.root / 'sys/class/nvme' / name
    instance = place.stat().st_ino
    end(bed, name)
    # When another one has its name
    other = bed.create_nvme_volume()
    assert connect(bed, other, *pair) == name
    # Then no verb takes it for the first one
    for verb, arguments in (
        (bed.verbs.nvme.delete, ()),
        (bed.verbs.nvme.rescan, ()),
        (bed.verbs.nvme.identify, (1, 0)),
    ):
        with pytest.raises(OSError, match='by now'):
            verb(name, instance, *arguments)
    # And neither does a detach
    detached(worker, volume.name)
    assert [*controllers(bed)] == [name]
    end(bed, name)
