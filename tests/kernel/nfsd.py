# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The kernel's own server of NFS, version 4, on loopback."""

import functools
import os
import pathlib
import subprocess
import uuid

ADDRESS = '127.0.0.1'
PORT = 2049
PORTAL = f'{ADDRESS}:{PORT}'

_PIPES = pathlib.Path('/run/rpc_pipefs')
_CLIENTS = pathlib.Path('/run/nfsdcld')
_CONTROL = pathlib.Path('/proc/fs/nfsd')
#: In memory: what overlayfs has cannot be exported.
_EXPORTS = pathlib.Path('/run/exports')


@functools.cache
def _prepare() -> None:
    """Load the modules, and start what tells the kernel of exports."""
    _run('modprobe', '-a', 'nfsd', 'nfsv4')
    if not (_CONTROL / 'threads').exists():
        _run('mount', '-t', 'nfsd', 'nfsd', str(_CONTROL))
    for directory in (_PIPES, _CLIENTS, _EXPORTS):
        directory.mkdir(parents=True, exist_ok=True)
    _run('mount', '-t', 'rpc_pipefs', 'sunrpc', str(_PIPES))
    # It knows which clients may reclaim something after a start: nobody waits
    # for others.
    _run('nfsdcld', '--pipefsdir', str(_PIPES), '--storagedir', str(_CLIENTS))
    for name in ('nfsv4leasetime', 'nfsv4gracetime'):
        (_CONTROL / name).write_text('10')
    # nothing but version 4 needs rpcbind, or a port of its own
    _run('rpc.mountd', '--no-nfs-version', '2', '--no-nfs-version', '3')
    # What is above it is on file systems that cannot be exported.
    _run(
        'exportfs',
        '-o',
        'rw,sync,insecure,no_subtree_check,no_root_squash,fsid=0',
        f'{ADDRESS}:{_EXPORTS}',
    )


def start() -> None:
    """Serve."""
    _prepare()
    if (_CONTROL / 'threads').read_text().strip() == '0':
        _run('rpc.nfsd', '--no-nfs-version', '3', '--host', ADDRESS, '2')


def stop() -> None:
    """Close all connections, and refuse others: the server is dead."""
    _run('rpc.nfsd', '0')


class Share:
    """A directory that this host exports to itself.

    :ivar name: as a client calls it
    """

    def __init__(self) -> None:
        start()
        self.directory = _EXPORTS / uuid.uuid4().hex[:12]
        self.directory.mkdir()
        self.name = f'{ADDRESS}:/{self.directory.name}'

    def file(self, name: str) -> pathlib.Path:
        return self.directory / name


def mount(share: str, place: str) -> None:
    """Mount it as somebody else does."""
    os.makedirs(place, exist_ok=True)
    _run('mount', '-t', 'nfs', '-o', 'vers=4.2', share, place)


def unmount(place: str) -> None:
    _run('umount', place)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
