# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Schedules: who does what to which volume, and who goes on when."""

import dataclasses

from hypothesis import strategies as st

#: More points than an actor passes: its turn lasts until it ends or waits.
ALL = 200


@dataclasses.dataclass(frozen=True)
class Attachment:
    """An actor: an attachment of a volume, and what is done with it.

    :ivar does: ``attach`` (again, if it is), ``detach``, ``force`` (a forced
        detach), ``foreign`` (a detach by connection_info, without the
        attachment's name), ``foreign-force``, ``extend``, ``open`` and
        ``close`` (a guest), ``cancel`` (of what another attachment's actor
        has asked for last), ``kill`` (-9 of the worker, and its restart)
    :ivar portals: those that it names, of the target's
    :ivar multipath: whether it wants a map
    :ivar volume: which one
    :ivar target: 1: another target that leads to the same volume
    :ivar attached: whether it is attached before the others begin
    """

    does: tuple[str, ...]
    portals: tuple[int, ...] = (0,)
    multipath: bool = False
    volume: int = 0
    target: int = 0
    attached: bool = False


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Which attachment passes how many points, one after another.

    They are called A, B, C and D. Then all go on until they end.
    """

    attachments: tuple[Attachment, ...]
    turns: tuple[tuple[str, int], ...]


#: What is done once, or again, with an attachment.
_DEEDS = (
    'attach',
    'detach',
    'detach',
    'force',
    'extend',
    'open',
    'close',
    'foreign',
    'foreign-force',
)
_PORTALS = ((0,), (1,), (0, 1), (1, 2), (0, 1, 2))


def attachments(
    deeds: tuple[str, ...] = _DEEDS,
    portals: tuple[tuple[int, ...], ...] = _PORTALS,
    maps: tuple[bool, ...] = (False, True),
    targets: tuple[int, ...] = (0, 0, 0, 1),
    volumes: tuple[int, ...] = (0, 0, 0, 0, 1),
) -> st.SearchStrategy[Attachment]:
    """Attachments; the parameters are what there is to choose from."""

    @st.composite
    def made(draw: st.DrawFn) -> Attachment:
        attached = draw(st.booleans())
        does = draw(
            st.lists(
                st.sampled_from(deeds),
                min_size=int(attached),
                max_size=3,
            )
        )
        return Attachment(
            does=tuple(does) if attached else ('attach', *does),
            portals=draw(st.sampled_from(portals)),
            multipath=draw(st.sampled_from(maps)),
            volume=draw(st.sampled_from(volumes)),
            target=draw(st.sampled_from(targets)),
            attached=attached,
        )

    return made()


@st.composite
def schedules(
    draw: st.DrawFn,
    of: st.SearchStrategy[Attachment],
    least: int = 2,
    most: int = 3,
    other: str = '',
) -> Schedule:
    """Schedules of so many attachments.

    :param other: what one more actor does, which attaches nothing
    """
    chosen = draw(st.lists(of, min_size=least, max_size=most))
    if other:
        chosen.append(Attachment(does=(other,)))
    letters = 'ABCD'[: len(chosen)]
    turns = draw(
        st.lists(
            st.tuples(
                st.sampled_from(letters),
                st.integers(1, 40) | st.just(ALL),
            ),
            min_size=1,
            max_size=5,
        )
    )
    return Schedule(tuple(chosen), tuple(turns))
