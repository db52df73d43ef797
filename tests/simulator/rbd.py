# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""rbd: a Ceph cluster with its images, the host's mappings, and its verbs."""

import dataclasses
import errno
import itertools
import os
import pathlib
import threading
from typing import Any
import uuid

from tests.simulator import openers
from tests.simulator import portals as network
from tests.simulator import tree as trees
from tests.simulator import uevents

USER = 'cinder'
#: With the mark that tests of secrets look for.
KEY = 'AQCANARYsecretOfTheClusterOfTheTests0A=='

_MAJOR = 251
_SECTOR = 512
_BUS = 'sys/bus/rbd/devices'


@dataclasses.dataclass(eq=False)
class Image:
    """On the cluster.

    :ivar spec: pool/image
    """

    spec: str
    image_id: str
    file: pathlib.Path

    @property
    def size(self) -> int:
        return os.stat(self.file).st_size


@dataclasses.dataclass(eq=False)
class Mapping:
    """On the host: an image with a block device."""

    number: int
    image: Image
    monitors: list[str]

    @property
    def name(self) -> str:
        return f'rbd{self.number}'

    @property
    def directory(self) -> str:
        return f'devices/virtual/block/{self.name}'


class RBD:
    """Cluster and host; its methods include the verbs.

    :param directory: where the images' files are
    """

    def __init__(
        self,
        lock: threading.RLock,
        tree: trees.Tree,
        events: uevents.Uevents,
        portals: network.Portals,
        directory: pathlib.Path,
    ) -> None:
        self._lock = lock
        self._tree = tree
        self._events = events
        self._portals = portals
        self._directory = directory
        self._fsid = str(uuid.uuid4())
        self._pools: dict[str, int] = {}
        self._images: dict[str, Image] = {}
        self._monitors: list[str] = []
        self._blocklisted = False
        self.clear()

    def clear(self) -> None:
        """Forget what the host has, as a reboot does."""
        self._mappings: dict[int, Mapping] = {}

    def boot(self) -> None:
        """What a kernel with the module has from the start."""
        (self._tree.root / _BUS).mkdir(parents=True)

    # -- the cluster

    def create_image(
        self, size: int, pool: str, name: str
    ) -> tuple[Image, list[str]]:
        """An image, and the monitors of its cluster."""
        with self._lock:
            if not self._monitors:
                self._monitors = [self._portals.create() for _ in range(3)]
            self._pools.setdefault(pool, len(self._pools) + 1)
            spec = f'{pool}/{name}'
            image_id = uuid.uuid4().hex[:12]
            file = self._directory / f'rbd-{image_id}'
            with open(file, 'xb') as opened:
                opened.write((f'{spec} {image_id}\n'.encode() * 4096)[:4096])
                opened.truncate(size)
            made = Image(spec, image_id, file)
            self._images[spec] = made
            return made, self._monitors

    def remove_image(self, spec: str) -> None:
        with self._lock:
            os.unlink(self._images.pop(spec).file)

    def blocklist(self, blocked: bool) -> None:
        """Refuse all that this host's client asks, or serve it again."""
        with self._lock:
            self._blocklisted = blocked

    def resize_image(self, spec: str, size: int) -> None:
        with self._lock:
            os.truncate(self._images[spec].file, size)

    # -- the verbs

    def add(
        self,
        monitors: list[str],
        pool: str,
        image: str,
        snapshot: str,
        options: dict[str, str],
        cluster: str,
        keyring: str,
    ) -> None:
        if not any(self._portals.wait_listening(one, 0.0) for one in monitors):
            raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        with self._lock:
            if not (
                cluster
                and options['name'] == USER
                and f'[client.{USER}]\n\tkey = {KEY}\n' == keyring
            ):
                raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
            spec = _spec(pool, image, options)
            found = self._images.get(spec)
            if found is None or snapshot:
                raise FileNotFoundError(
                    errno.ENOENT, os.strerror(errno.ENOENT)
                )
            number = next(
                i for i in itertools.count() if i not in self._mappings
            )
            made = Mapping(number, found, monitors)
            self._mappings[number] = made
            self._place(made, read_only='read_only' in options)

    def remove(self, number: int, instance: int, force: bool) -> None:
        with self._lock:
            found = self._known(number)
            if (
                os.stat(self._tree.root / _BUS / str(number)).st_ino
                != instance
            ):
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
            if not force and any(
                openers.of([self._tree.root / 'dev' / found.name])
            ):
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
            self._take_away(found)

    def refresh(self, number: int) -> None:
        with self._lock:
            found = self._known(number)
            if self._blocklisted:
                raise OSError(errno.ESHUTDOWN, os.strerror(errno.ESHUTDOWN))
            if self._images.get(found.image.spec) is not found.image:
                raise FileNotFoundError(
                    errno.ENOENT, os.strerror(errno.ENOENT)
                )
            size = found.image.size
            self._tree.write(f'{_BUS}/{number}/size', f'{size}\n')
            self._tree.write(
                f'sys/{found.directory}/size', f'{size // _SECTOR}\n'
            )
            self._emit('change', found)

    def monitors(self, number: int) -> list[str]:
        with self._lock:
            return self._known(number).monitors

    def is_ours(self, number: int) -> bool:
        with self._lock:
            self._known(number)
            return True

    # -- the host

    def find(self, device: str) -> Mapping | None:
        with self._lock:
            for one in self._mappings.values():
                if one.name == device:
                    return one
        return None

    def file(self, mapping: Mapping) -> pathlib.Path | None:
        """What answers for a device now; None: nothing does."""
        with self._lock:
            found = self._images.get(mapping.image.spec)
            return found.file if found is mapping.image else None

    def vanish(self, arguments: dict[str, Any]) -> None:
        """Take a mapping away, unasked.

        :param arguments: of the verb that was about it
        """
        with self._lock:
            for one in list(self._mappings.values()):
                if 'number' in arguments:
                    meant = one.number == arguments['number']
                else:
                    meant = one.image.spec == _spec(**arguments)
                if meant:
                    self._take_away(one)

    def _place(self, mapping: Mapping, read_only: bool) -> None:
        image = mapping.image
        pool, _, name = image.spec.partition('/')
        number = f'{_MAJOR}:{mapping.number * 16}'
        self._tree.place(
            f'sys/{mapping.directory}',
            {
                'dev': f'{number}\n',
                'size': f'{image.size // _SECTOR}\n',
                'ro': f'{int(read_only)}\n',
                'queue/logical_block_size': f'{_SECTOR}\n',
                'holders': None,
                'slaves': None,
            },
        )
        self._tree.hardlink(f'dev/{mapping.name}', image.file)
        self._tree.symlink(
            f'sys/class/block/{mapping.name}', f'sys/{mapping.directory}'
        )
        self._tree.place(
            f'{_BUS}/{mapping.number}',
            {
                'cluster_fsid': f'{self._fsid}\n',
                'pool': f'{pool}\n',
                'pool_id': f'{self._pools[pool]}\n',
                'pool_ns': '\n',
                'name': f'{name}\n',
                'image_id': f'{image.image_id}\n',
                'current_snap': '-\n',
                'size': f'{image.size}\n',
            },
        )
        self._emit('add', mapping)

    def _take_away(self, mapping: Mapping) -> None:
        del self._mappings[mapping.number]
        self._tree.remove(f'{_BUS}/{mapping.number}')
        self._tree.remove(f'sys/class/block/{mapping.name}')
        self._tree.remove(f'sys/{mapping.directory}')
        self._tree.unlink(f'dev/{mapping.name}')
        self._emit('remove', mapping)

    def _known(self, number: int) -> Mapping:
        found = self._mappings.get(number)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, f'no mapping {number}')
        return found

    def _emit(self, action: str, mapping: Mapping) -> None:
        self._events.emit(
            action, 'block', f'/{mapping.directory}', DEVNAME=mapping.name
        )


def _spec(pool: str, image: str, options: dict[str, str], **_: object) -> str:
    where = [pool, options.get('_pool_ns', ''), image]
    return '/'.join(part for part in where if part)
