# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
"""The steps of an extend; each can be run again."""

from attachworker import exception
from attachworker.connectors import base as connectors
from attachworker.host import multipath
from attachworker.tasks import base
from attachworker.tasks.paths import live_paths

#: Seconds in which storage shows a new size at all of its ports.
_LAG = 10.0


class FindLivePaths(base.Task):
    """See which devices of the volume answer, and that they are its own.

    Reversion strategy: nothing to undo.
    """

    default_provides = ('paths', 'map', 'old_size')

    def execute(
        self,
    ) -> tuple[list[connectors.Path], multipath.Map | None, int | None]:
        run = self.run
        if run.expected_wwn is not None:
            run.lock_volume(run.expected_wwn)
        found = live_paths(run, run.deadline, exception.ExtendFailed)
        run.warnings += [
            f'{path.disk} does not answer and keeps its old size'
            for path in found.silent
        ]
        name = found.map.name if found.map else found.paths[0].disk
        return found.paths, found.map, run.connector.devices.size(name)


class RescanPaths(base.Task):
    """Have the kernel read the size of each path again.

    Reversion strategy: nothing to undo: it is the size that the volume has.
    """

    def execute(self, paths: list[connectors.Path]) -> None:
        run = self.run
        wanted = run.expected_size or 0

        def look() -> bool | None:
            for path in paths:
                self._rescan(path)
            sizes = run.sizes(path.disk for path in paths).values()
            known = {size for size in sizes if size is not None}
            if len(known) > 1:
                return None  # it grows once more, or a port is behind
            return min(known, default=wanted) >= wanted or None

        # Storage may tell its ports, or its cache, a moment later; it sends
        # no event that all kernels make a uevent of.
        run.host.uevents.wait_for(
            look, lambda _: False, run.deadline.sooner(_LAG)
        )

    def _rescan(self, path: connectors.Path) -> None:
        try:
            self.run.connector.rescan(path, self.run.deadline)
        except OSError as error:
            raise exception.ExtendFailed(
                device=path.disk, reason=f'rescan: {error}'
            ) from error


class ResizeMap(base.Task):
    """Give the map, if there is one, the size of its paths.

    Reversion strategy: nothing to undo: it is the size that the volume has.
    """

    def execute(
        self, paths: list[connectors.Path], map: multipath.Map | None
    ) -> None:
        if map is None:
            return
        run = self.run
        sizes = run.sizes(path.disk for path in paths)
        if len(set(sizes.values())) > 1:
            raise exception.ExtendFailed(
                device=map.name, reason=f'its paths differ: {_told(sizes)}'
            )
        if run.host.block.size(map.name) in sizes.values():
            return
        # With a path in it that is too small, the kernel would refuse; with
        # one whose size nobody knows, multipathd may.
        others = sorted(set(map.disks).difference(sizes))
        for disk in others:
            run.host.multipath.drop(disk, run.deadline)
        try:
            run.host.multipath.resize(
                map, run.deadline.sooner(run.map_timeout)
            )
        except OSError as error:
            raise exception.ExtendFailed(
                device=map.name, reason=str(error)
            ) from error
        finally:
            self._put_back(map, others)

    def _put_back(self, map: multipath.Map, disks: list[str]) -> None:
        run = self.run
        for disk in disks:
            if run.host.block.size(disk) == 0 and run.host.multipath.add(
                disk, map, run.deadline
            ):
                continue
            run.warnings.append(
                f'{disk} has left {map.name}; once it works again, have it '
                'rescanned and added by multipathd'
            )


class VerifySize(base.Task):
    """Read the new size back from everything, and compare.

    Reversion strategy: nothing to undo.
    """

    default_provides = 'size'

    def execute(
        self, paths: list[connectors.Path], map: multipath.Map | None
    ) -> int:
        run = self.run
        names = [path.disk for path in paths] + ([map.name] if map else [])
        sizes = run.sizes(names)
        (size, *others) = set(sizes.values()) or {None}
        if others or size is None:
            raise exception.ExtendFailed(
                device=names[-1], reason=f'sizes differ: {_told(sizes)}'
            )
        if size < (run.expected_size or 0):
            raise exception.ExtendFailed(
                device=names[-1],
                reason=f'it has {size} bytes, not {run.expected_size}; '
                'extend the volume on the storage first',
            )
        return size


def _told(sizes: dict[str, int | None]) -> str:
    return ', '.join(f'{name} has {size}' for name, size in sizes.items())
