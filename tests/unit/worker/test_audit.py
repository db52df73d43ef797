# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

from collections.abc import Callable
import sys
import types
from typing import Any

import pytest

from attachworker import objects
from attachworker.connectors import base as connectors
from attachworker.host import encryption
from attachworker.host import multipath
from attachworker.host import verbs
from attachworker.journal import AttachmentState
from attachworker.journal import Database
from attachworker.journal import Holdings
from attachworker.journal import Records
from attachworker.worker import audit
from tests.unit.journal import rows

TARGET = objects.Target('192.0.2.1:3260', 'iqn.2026-01.example:One', 1)
WWN = '3600140500000000000000000000000001'
DEVICE = connectors.LinkedDevice(1, 'sda', '2:0:0:1', 'running', WWN)


def link(
    number: int = 3, works: bool = True, *devices: connectors.LinkedDevice
) -> connectors.Link:
    return connectors.Link(
        name=f'session {number}',
        number=number,
        target=TARGET.name.lower(),
        portals=frozenset({TARGET.portal}),
        works=works,
        state='LOGGED_IN' if works else 'FAILED',
        devices=devices or (DEVICE,),
    )


class Scene:
    """A journal and what the kernel is said to have.

    :ivar looking: is called while the kernel is looked at
    """

    def __init__(self, database: Database) -> None:
        self.records = Records(database)
        self.holdings = Holdings(database, 'attachment', 'boot')
        self.links: list[connectors.Link] = []
        self.maps: list[multipath.Map] = []
        self.mappings: list[encryption.Mapping] = []
        self.looking: Callable[[], None] = lambda: None

    def attach(self, **values: Any) -> None:
        self.holdings.take(TARGET)
        self.holdings.intend_link(TARGET, 2)
        rows.put(
            self.records,
            rows.attachment(
                **{
                    'state': AttachmentState.ATTACHED,
                    'wwn': WWN,
                    'device': device().obj_to_primitive(),
                    **values,
                }
            ),
        )

    def report(self) -> objects.AuditReport:
        def links(claimed: object) -> list[connectors.Link]:
            self.looking()
            return self.links

        host: Any = types.SimpleNamespace(
            multipath=types.SimpleNamespace(maps=lambda: self.maps),
            encryption=types.SimpleNamespace(mappings=lambda: self.mappings),
            verbs=verbs.Verbs(),
        )
        loaded: Any = types.SimpleNamespace(links=links)
        return audit.report(self.records, loaded, host, 'boot')

    def attachment(self) -> str:
        [found] = self.report().attachments
        return f'{found.state}: {found.detail}'

    def findings(self) -> list[str]:
        return [
            f'{one.kind} {one.what}: {one.detail}'
            for one in self.report().findings
        ]


def device(**values: Any) -> objects.DeviceInfo:
    path = objects.PathInfo(
        device='sda',
        portal=TARGET.portal,
        target=TARGET.name,
        lun=TARGET.lun,
        state='connected',
    )
    given = {'path': '/dev/sda', 'paths': [path], **values}
    return objects.DeviceInfo(size=512, scsi_wwn=WWN, **given)


@pytest.fixture
def scene(database: Database) -> Scene:
    return Scene(database)


def test_ok(scene: Scene) -> None:
    scene.attach()
    scene.links = [link()]
    assert scene.attachment() == 'ok: '
    assert scene.findings() == []


def test_a_device_that_is_another_volume(scene: Scene) -> None:
    scene.attach()
    other = WWN[:-1] + '2'
    scene.links = [
        link(
            3,
            True,
            connectors.LinkedDevice(1, 'sda', '2:0:0:1', 'running', other),
        )
    ]
    assert scene.attachment().startswith('missing: sda is another volume')
    [finding] = scene.findings()
    assert finding.startswith(f'stale device sda: another volume, {other}')


def test_a_device_that_the_kernel_has_given_up(scene: Scene) -> None:
    scene.attach()
    scene.links = [
        link(
            3,
            False,
            connectors.LinkedDevice(
                1, 'sda', '2:0:0:1', 'transport-offline', WWN
            ),
        )
    ]
    assert scene.attachment() == 'degraded: session 3 is FAILED'
    first, second = scene.findings()
    assert first.startswith('stale session 3: FAILED')
    assert second.startswith('stale device sda: transport-offline')


def test_an_attachment_of_another_boot(scene: Scene) -> None:
    scene.attach(state=AttachmentState.MISSING)
    assert scene.attachment().startswith('missing: the host was started')
    [finding] = scene.findings()
    assert (
        finding == 'stale attachment attachment: of another boot of this host'
    )


def test_what_a_failed_attach_has_left(scene: Scene) -> None:
    scene.attach(state=AttachmentState.ATTACH_FAILED, device=None)
    scene.links = [link()]
    assert scene.attachment().startswith('missing: it failed')
    [finding] = scene.findings()
    assert finding.startswith('stale device sda: left of attachment')


def test_what_a_request_is_working_on_is_left_out(scene: Scene) -> None:
    # Given an attach in the middle, of which the kernel has half
    scene.records.accept(rows.request())
    scene.attach(state=AttachmentState.ATTACHING, device=None)
    scene.links = [link(3, False)]
    scene.maps = [multipath.Map('dm-0', WWN, ('sda',))]
    report = scene.report()
    assert (report.attachments, report.findings) == ([], [])


def test_a_detach_that_ends_while_it_is_looked(scene: Scene) -> None:
    # Given a detach that ends between the first look and the last
    scene.attach()
    scene.links = [link()]

    def detached() -> None:
        scene.holdings.release(TARGET)
        scene.holdings.forget_links(TARGET)
        scene.records.put_attachment(
            rows.attachment(state=AttachmentState.DETACHING)
        )
        scene.records.forget_attachment('attachment')

    scene.looking = detached
    # Then what was seen is nobody else's for that
    report = scene.report()
    assert (report.attachments, report.findings) == ([], [])


def test_maps(scene: Scene) -> None:
    # Given a map that is on our session, one on nothing that is known, and
    # an attachment's that has lost all paths
    scene.holdings.intend_link(TARGET, 2)
    scene.links = [link()]
    rows.put(
        scene.records,
        rows.attachment(
            'other',
            state=AttachmentState.ATTACHED,
            wwn='3600b',
            device=device(multipath_id='3600b').obj_to_primitive(),
        ),
    )
    scene.maps = [
        multipath.Map('dm-0', WWN, ('sda',)),
        multipath.Map('dm-1', '3600a', ('sdz',)),
        multipath.Map('dm-2', '3600b', ()),
    ]
    found = scene.findings()
    assert f'orphan map dm-0: {WWN}' in found
    assert 'foreign map dm-1: 3600a' in found
    assert 'stale map dm-2: no path left; of other' in found


def test_a_session_from_before_our_intent_is_not_ours(scene: Scene) -> None:
    scene.attach()
    scene.links = [link(2)]
    assert scene.attachment() == 'ok: '
    [finding] = scene.findings()
    assert finding.startswith('foreign session 2')
    assert 'used by attachment' in finding


def test_mappings(scene: Scene) -> None:
    # Given a mapping of an attachment, and one that nobody has
    name = encryption.name_of('attachment')
    path = encryption.path_of(name)
    scene.attach(device=device(path=path).obj_to_primitive())
    scene.links = [link()]
    ours, other = (
        encryption.Mapping(each, 'dm-1', ('sda',), 'luks2')
        for each in (name, encryption.name_of('another'))
    )
    # Then the first is fine as long as it is there
    scene.mappings = [ours, other]
    assert scene.attachment() == 'ok: '
    assert scene.findings() == [f'orphan mapping {other.name}: sda']
    scene.mappings = []
    assert scene.attachment() == f'missing: there is no {path}'


# -- what it costs


def steps(scene: Scene) -> int:
    """Functions that are called for a report."""
    count = 0

    def note(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ('call', 'c_call')

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        report = scene.report()
    finally:
        sys.setprofile(before)
    assert {one.state for one in report.attachments} == {'ok'}
    assert report.findings == []
    return count


def test_twice_as_many_attachments_take_twice_as_long(
    database: Database,
) -> None:
    # Given attachments of maps with a mapping on top, each on its own session
    scene = Scene(database)
    costs = []
    for number in range(1, 61):
        name = f'attachment-{number}'
        wwn = f'36001405{number:025d}'
        target = TARGET._replace(name=f'iqn.2026-01.example:{number}')
        held = Holdings(database, name, 'boot')
        held.take(target)
        held.intend_link(target, number - 1)
        held.confirm_link(target, number)
        mapping = encryption.name_of(name)
        path = objects.PathInfo(
            device=f'sd{number}',
            portal=target.portal,
            target=target.name,
            lun=target.lun,
            state='connected',
        )
        shown = device(
            path=encryption.path_of(mapping),
            paths=[path],
            multipath_id=wwn,
        )
        rows.put(
            scene.records,
            rows.attachment(
                name,
                state=AttachmentState.ATTACHED,
                wwn=wwn,
                device=shown.obj_to_primitive(),
            ),
        )
        scene.links.append(
            connectors.Link(
                name=f'session {number}',
                number=number,
                target=target.name,
                portals=frozenset({target.portal}),
                works=True,
                state='LOGGED_IN',
                devices=(
                    connectors.LinkedDevice(
                        1, f'sd{number}', f'{number}:0:0:1', 'running', wwn
                    ),
                ),
            )
        )
        scene.maps.append(multipath.Map(f'dm-{number}', wwn, (f'sd{number}',)))
        scene.mappings.append(
            encryption.Mapping(
                mapping, f'dm-{100 + number}', (f'dm-{number}',), 'luks2'
            )
        )
        if number in (30, 60):
            scene.report()  # what it learns of each it need not learn again
            costs.append(steps(scene))
    # Then each takes as much, however many there are
    assert costs[1] < 2.1 * costs[0], costs
