# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The discovery of targets: iscsiadm's answers and exit codes."""

import pytest

from tests.simulator import bed as beds
from tests.simulator import verbs as verb_names

_PREFIX = 'discovery.sendtargets'
_HASTY = {f'{_PREFIX}.reopen_max': '0', f'{_PREFIX}.timeo.login_timeout': '1'}


def discover(
    bed: beds.SimulatedBed, portal: str, timeout: float = 30.0, **auth: str
) -> tuple[int, str]:
    address, _, port = portal.rpartition(':')
    settings = {f'{_PREFIX}.auth.{key}': value for key, value in auth.items()}
    return bed.verbs.iscsi.discover(
        address, int(port), _HASTY | settings, timeout
    )


def test_all_portals_of_the_targets_of_a_portal(
    bed: beds.SimulatedBed,
) -> None:
    volume = bed.create_volume(portals=2)
    bed.create_volume()
    before = bed.snapshot()
    assert discover(bed, volume.portals[1]) == (
        verb_names.OK,
        f'{volume.portals[0]},1 {volume.target}\n'
        f'{volume.portals[1]},1 {volume.target}',
    )
    assert bed.snapshot() == before


def test_portal_that_does_not_answer(bed: beds.SimulatedBed) -> None:
    (portal,) = bed.create_volume().portals
    bed.stop_portal(portal)
    assert discover(bed, portal)[0] == verb_names.NO_CONNECTION
    with pytest.raises(TimeoutError):
        discover(bed, portal, timeout=0.05)


def test_chap(bed: beds.SimulatedBed) -> None:
    (portal,) = bed.create_volume().portals
    bed.set_discovery_chap(('user', 'a secret word'))
    right = {
        'authmethod': 'CHAP',
        'username': 'user',
        'password': 'a secret word',
    }
    assert discover(bed, portal)[0] == verb_names.AUTH_FAILED
    wrong = right | {'password': 'another'}
    assert discover(bed, portal, **wrong)[0] == verb_names.AUTH_FAILED
    assert discover(bed, portal, **right)[0] == verb_names.OK
    bed.set_discovery_chap(None)
    assert discover(bed, portal)[0] == verb_names.OK
