# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Who holds paths, links and volumes."""

import pathlib

import pytest

from attachworker import objects
from attachworker.journal import AttachmentState
from attachworker.journal import Database
from attachworker.journal import Holdings
from attachworker.journal import Records
from tests.unit.journal import rows

WWN = '36001405' + 25 * '0'
ANOTHER = '36001405' + 25 * '1'
NAME = 'iqn.2026-01.example:one'
ONE = objects.Target('192.0.2.1:3260', NAME, 1)
TWO = objects.Target('192.0.2.2:3260', NAME, 1)
OTHER_LUN = objects.Target('192.0.2.1:3260', NAME, 2)
FILE = objects.Target('', '/srv/volumes/Volume', 0)


def image(*monitors: str, name: str = 'pool/image') -> objects.ImageTarget:
    return objects.ImageTarget(','.join(monitors), 'ceph', name)


@pytest.fixture
def pair(database: Database) -> tuple[Holdings, Holdings]:
    """Two attachments that the journal has."""
    records = Records(database)
    for name in ('a', 'b'):
        rows.put(records, rows.attachment(name))
    return Holdings(database, 'a', 'boot'), Holdings(database, 'b', 'boot')


@pytest.mark.parametrize(
    'path',
    [
        ONE,
        objects.Target('[2001:db8::1]:3260', 'naa.5000', 2**64 - 1),
        objects.Target('192.0.2.1:4420', 'nqn.2014-08.org:x', 'uuid.0a'),
        FILE,
        image('192.0.2.1:6789', '192.0.2.2:6789', name='p/n/Image@snap'),
    ],
)
def test_a_path_comes_back_from_its_key(
    pair: tuple[Holdings, Holdings], path: objects.Target
) -> None:
    pair[0].take(path)
    assert pair[0].paths(type(path)) == [path]
    pair[0].release(path)
    assert pair[0].paths(type(path)) == []


def test_names_of_targets_have_no_case(
    pair: tuple[Holdings, Holdings],
) -> None:
    pair[0].take(ONE)
    spelled = ONE._replace(name=NAME.upper())
    assert pair[1].path_holders(spelled) == ['a']
    assert pair[1].shares_link(spelled)
    assert not pair[0].shares_link(spelled)
    # but those of files have
    pair[0].take(FILE)
    assert pair[1].path_holders(FILE._replace(name=FILE.name.lower())) == []


def test_what_we_made_goes_with_its_last_holder(
    pair: tuple[Holdings, Holdings],
) -> None:
    a, b = pair
    for one in pair:
        one.take(ONE)
    a.intend_device(ONE)
    assert not b.made_device(ONE)
    a.release(ONE)
    assert b.made_device(ONE)


def test_a_path_is_handed_over_as_it_is(
    pair: tuple[Holdings, Holdings],
) -> None:
    a, b = pair
    a.take(ONE)
    a.take(TWO)
    a.intend_device(ONE)
    b.take(TWO)
    for path in (ONE, TWO):
        a.hand_over(path, 'b')
    assert a.paths(objects.Target) == []
    assert sorted(b.paths(objects.Target)) == [ONE, TWO]
    assert b.made_device(ONE)
    assert not b.made_device(TWO)
    # but nobody gives away what he does not have
    a.hand_over(OTHER_LUN, 'b')
    assert sorted(b.paths(objects.Target)) == [ONE, TWO]


def test_an_image_is_known_by_one_monitor_in_common(
    pair: tuple[Holdings, Holdings],
) -> None:
    a, b = pair
    a.take(image('192.0.2.1:6789', '192.0.2.2:6789'))
    assert b.path_holders(image('192.0.2.2:6789')) == ['a']
    # by the port of the other version of the protocol
    assert b.path_holders(image('192.0.2.2:3300')) == ['a']
    # of another cluster, or of another name
    assert b.path_holders(image('192.0.2.3:6789')) == []
    assert b.path_holders(image('192.0.2.2:6789', name='pool/Image')) == []


def test_who_else_holds_the_volume(
    pair: tuple[Holdings, Holdings],
) -> None:
    a, b = pair
    a.take(ONE)
    a.identify(WWN)
    # Through another path, however the identity is spelled
    assert b.volume_holders(f'naa.{WWN[1:]}', TWO) == ['a']
    assert b.volume_holders(WWN, TWO) == ['a']
    assert a.volume_holders(WWN, ONE) == []
    assert b.volume_holders(None, TWO) == []
    # What uses the device as a local one has no path of that kind
    assert b.volume_holders(WWN, FILE) == []
    b.take(FILE)
    b.identify(WWN)
    assert a.local_holders(WWN, ONE) == ['b']
    assert a.volume_holders(WWN, ONE) == []
    # Who holds no path holds nothing
    a.release(ONE)
    assert b.volume_holders(WWN, TWO) == []


def test_what_the_storage_calls_the_same(
    pair: tuple[Holdings, Holdings],
) -> None:
    a, b = pair
    a.take(ONE)
    assert b.name_holders([TWO, OTHER_LUN]) == ['a']
    assert b.name_holders([OTHER_LUN]) == []


# -- links


def test_ours_is_what_came_after_the_intent(
    pair: tuple[Holdings, Holdings],
) -> None:
    a, _ = pair
    a.intend_link(ONE, after=3)
    assert a.intends_link(ONE)
    assert not a.owns_link(ONE, 3)
    assert a.owns_link(ONE, 4)
    a.confirm_link(ONE, 5)
    assert not a.intends_link(ONE)
    assert a.owns_link(ONE, 5)
    assert not a.owns_link(ONE, 4)


def test_a_second_link_to_the_same_place_leaves_the_first_ours(
    pair: tuple[Holdings, Holdings],
) -> None:
    """Through another iface, or under another name of this host."""
    a, b = pair
    for holdings, after in ((a, 0), (b, 1)):
        holdings.intend_link(ONE, after)
        holdings.confirm_link(ONE, after + 1)
    assert a.owns_link(ONE, 1)
    assert a.owns_link(ONE, 2)
    a.forget_links(ONE)
    assert not a.owns_link(ONE, 1)
    assert not a.owns_link(ONE, 2)


def test_a_login_that_was_refused_takes_no_other_link_away(
    pair: tuple[Holdings, Holdings],
) -> None:
    a, _ = pair
    a.intend_link(ONE, 0)
    a.confirm_link(ONE, 1)
    a.intend_link(ONE, 1)
    a.withdraw_link(ONE)
    assert a.owns_link(ONE, 1)
    assert not a.owns_link(ONE, 2)


def test_a_login_of_an_earlier_worker_may_come_yet(database: Database) -> None:
    Holdings(database, 'a', 'boot').intend_link(ONE, 3)
    recovering = Holdings(database, 'a', 'boot', cut_short=True)
    recovering.forget_links(ONE)
    recovering.withdraw_link(ONE)
    assert recovering.owns_link(ONE, 4)


@pytest.mark.parametrize(
    ('before_a', 'before_b', 'found'),
    [
        (True, True, True),
        (False, False, False),
        # the line came with a device of the other one
        (False, True, False),
        (True, False, False),
    ],
)
def test_a_line_of_multipath_is_ours_unless_all_have_found_it(
    pair: tuple[Holdings, Holdings],
    database: Database,
    before_a: bool,
    before_b: bool,
    found: bool,
) -> None:
    befores = before_a, before_b
    for one, before in zip(pair, befores, strict=True):
        one.found_listed(frozenset([WWN] if before else []))
    for one in pair:
        one.identify(WWN)
    later = Holdings(database, 'a', 'boot')
    assert later.was_listed(WWN) is found
    assert later.listed_for_us() == (set() if found else {WWN})
    # And it is forgotten with the last attachment of the volume
    records = Records(database)
    records.forget_attachment('b')
    assert later.was_listed(WWN) is found
    records.forget_attachment('a')
    assert not later.was_listed(WWN)


def test_a_line_of_another_attachment_was_not_there_before(
    pair: tuple[Holdings, Holdings], database: Database
) -> None:
    # Given an attachment that comes while the line of another one is there
    one, other = pair
    one.found_listed(frozenset())
    one.identify(WWN)
    other.found_listed(frozenset([WWN]))
    # When the other one has gone before it is known that it is one volume
    Records(database).forget_attachment('a')
    other.identify(WWN)
    # Then the line is ours all the same
    assert other.listed_for_us() == {WWN}


@pytest.mark.parametrize(
    'state', [AttachmentState.ATTACHING, AttachmentState.ATTACH_FAILED]
)
def test_a_line_that_came_with_an_attach_that_fails_was_not_there_before(
    pair: tuple[Holdings, Holdings], database: Database, state: AttachmentState
) -> None:
    # Given an attach that has brought disks, and not learned yet of which
    # volume, and a line that multipathd has made of them
    one, _ = pair
    one.found_listed(frozenset())
    Records(database).put_attachment(rows.attachment('a', state=state))
    # When another one of the volume begins, with the same worker or another,
    # and the first one is gone without a trace
    other = Holdings(database, 'b', 'boot')
    other.found_listed(frozenset([WWN]))
    Records(database).forget_attachment('a')
    other.identify(WWN)
    # Then the line goes with the other one
    assert other.listed_for_us() == {WWN}


def test_a_line_that_was_there_stays_whoever_undoes_the_attach(
    pair: tuple[Holdings, Holdings], database: Database
) -> None:
    # Given the administrator's line of a volume, and an attach that was
    # killed before it knew which volume it is about
    one, _ = pair
    one.found_listed(frozenset([WWN]))
    # Then the next worker knows that the line is not ours
    assert Holdings(database, 'a', 'boot').was_listed(WWN)


def test_what_was_listed_before_is_of_no_use_once_the_attachment_is_made(
    pair: tuple[Holdings, Holdings], database: Database
) -> None:
    # Given an attach that has found no line, and has come to its end
    one, other = pair
    one.found_listed(frozenset())
    one.identify(WWN)
    Records(database).put_attachment(
        rows.attachment('a', state=AttachmentState.ATTACHED)
    )
    # When the administrator adds another volume, and that is attached
    other.found_listed(frozenset([ANOTHER]))
    other.identify(ANOTHER)
    # Then the line stays the administrator's
    assert other.was_listed(ANOTHER)


def test_lines_of_attachments_of_version_7_are_ours(
    directory: pathlib.Path,
) -> None:
    old = rows.old_journal(directory, 7)
    old.execute(
        'INSERT INTO attachments (attachment_id, connection_key, connection,'
        ' wwn, volume, state, last_request, boot_id, created_at, updated_at)'
        " VALUES ('a', '', '{}', ?, ?, 'attached', '', 'boot', '', '')",
        (WWN, WWN[1:]),
    )
    old.commit()
    old.close()
    database = Database(directory)
    assert Holdings(database, 'a', 'boot').listed_for_us() == {WWN}
    database.close()


def test_a_journal_of_version_5_is_read(directory: pathlib.Path) -> None:
    # Given claims and sessions of the version before
    old = rows.old_journal(directory, 5)
    old.executemany(
        'INSERT INTO claims VALUES (?, ?, ?, ?, ?)',
        [
            ('a', ONE.portal, NAME.upper(), '1', 1),
            ('b', TWO.portal, NAME, '1', 0),
            ('file', '', FILE.name, '0', 1),
            ('rbd', '192.0.2.1:6789,192.0.2.2:6789', 'ceph', 'p/Image', 1),
        ],
    )
    old.execute(
        "INSERT INTO sessions VALUES (?, ?, 'boot', 6, 7)", (ONE.portal, NAME)
    )
    old.executemany(
        'INSERT INTO attachments (attachment_id, connection_key, connection,'
        ' wwn, state, last_request, boot_id, created_at, updated_at)'
        " VALUES (?, '', '{}', ?, 'attached', '', 'boot', '', '')",
        [('a', WWN), ('b', f'naa.{WWN[1:]}')],
    )
    old.commit()
    old.close()
    # When this version opens it
    database = Database(directory)
    a, b = Holdings(database, 'a', 'boot'), Holdings(database, 'b', 'boot')
    # Then everybody holds what he did
    assert a.made_device(ONE)
    assert a.owns_link(ONE, 7)
    assert b.paths(objects.Target) == [TWO]
    assert a.volume_holders(WWN, ONE) == ['b']
    file, rbd = (Holdings(database, one, 'boot') for one in ('file', 'rbd'))
    assert file.paths(objects.Target) == [FILE]
    assert file.made_device(FILE)
    (found,) = rbd.paths(objects.ImageTarget)
    assert found == image('192.0.2.1:6789', '192.0.2.2:6789', name='p/Image')
    assert rbd.made_device(found)
    database.close()
