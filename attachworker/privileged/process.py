# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""The privileged helpers: their start, and the lock that says one lives."""

import ctypes
import fcntl
import grp
import os
import pathlib
import pwd
import resource
import stat

from oslo_config import cfg
from oslo_privsep import priv_context

from attachworker import privileged
from attachworker.privileged import processes
from attachworker.privileged import removals

#: The name of a file that is locked for as long as a helper may act.
LOCK = 'attachworker-helper.lock'

# linux/prctl.h
_PR_SET_DUMPABLE = 4
_libc = ctypes.CDLL(None, use_errno=True)

#: The descriptor of the one that this process has locked.
_held: list[int] = []


def forbid_core_dumps() -> None:
    """Have the kernel write the memory of this process to no file.

    Passwords are in it, and in that of tools, which inherit the limit. A
    program that the kernel pipes core dumps to (kernel.core_pattern) need not
    respect that, so this process has none at all. As a side effect only root
    can look at its files in /proc, and those of the helper can.

    :raises OSError: the kernel does not
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def start(user: str | None, allow_foreign: bool = False) -> None:
    """Start the helpers; to be called before there is any thread.

    As root they are forked off, and this process becomes ``user``, if any; so
    does the helper that only reads. Otherwise the option ``helper_command``
    starts them.

    :param allow_foreign: see :mod:`attachworker.privileged.removals`; only
        one that is forked off believes it
    :raises KeyError: there is no such user
    """
    # What this process writes is for nobody else; the helper has its own.
    os.umask(0o077)
    if os.geteuid() != 0:
        # Who has set one command means it for both; each is told its context.
        command = privileged.default.conf.helper_command
        _set_default('helper_command', command)
        start_helpers(priv_context.Method.ROOTWRAP)
        return
    entry = pwd.getpwnam(user) if user else None
    if entry is not None:
        _set_default('user', str(entry.pw_uid))
        _set_default('group', str(entry.pw_gid))
    removals.allow_foreign = allow_foreign
    start_helpers(priv_context.Method.FORK)
    if entry is None:
        return
    members = [one.gr_gid for one in grp.getgrall() if user in one.gr_mem]
    os.setgroups([entry.pw_gid, *members])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    # With its user it has lost what forbade them (fs.suid_dumpable).
    forbid_core_dumps()


def start_helpers(method: priv_context.Method) -> None:
    """Start both; see :func:`start`."""
    # The one without root comes first: it must not have the other end of the
    # socket of the one with root. By then oslo.privsep has one thread, which
    # waits for an answer, so a fork finds no lock taken.
    privileged.readonly.start(method)
    begin_reading()
    privileged.default.start(method)


def _set_default(option: str, value: str | None) -> None:
    """Of the helper that only reads; what is configured goes before it."""
    section = privileged.READONLY_SECTION
    cfg.CONF.set_default(option, value, group=section)


@privileged.readonly.entrypoint
def begin_reading() -> None:
    """Get ready; the helper that only reads is told this before anything else.

    It takes a name by which the other one knows that what it has open nobody
    uses, and makes no core dumps: it may have the password of the broker, in
    the configuration.
    """
    # the one name of this file that a process without rights may write to
    name = f'/proc/self/task/{os.getpid()}/comm'
    pathlib.Path(name).write_text(processes.READER, encoding='ascii')
    _settle()


@privileged.default.entrypoint
def hold(path: str) -> None:
    """Lock a file until nothing that this process does goes on.

    The helper that changes the host is told this before anything else. Nobody
    has to wait for the other one, which only reads.

    The kernel gives the lock up when the last thread of this process has
    ended, and the last tool that it has started. SIGKILL does not end a
    thread that is in a system call; until that returns, it has the lock.

    :param path: a file of the name LOCK; in place of the one before
    :raises OSError: it is not there, or locked by somebody else
    """
    _settle()
    if os.path.basename(path) != LOCK:
        raise ValueError('not the lock file of a helper')
    _let_go_of_the_other()
    descriptor = os.open(
        path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    )
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError('not the lock file of a helper')
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    while _held:
        os.close(_held.pop())
    _held.append(descriptor)


def _settle() -> None:
    # oslo.privsep has set it to 0: anybody could write to what is made here,
    # and to what the tools make.
    os.umask(0o022)
    # One that helper_command has started has not inherited all of it, and one
    # that has changed its user has lost it.
    forbid_core_dumps()


def _let_go_of_the_other() -> None:
    """Have the helper that only reads end with its worker alone.

    One that is forked off after it has inherited the worker's end of its
    socket.
    """
    if privileged.readonly.channel is not None:
        privileged.readonly.channel.writer.writesock.close()


def held() -> tuple[int, ...]:
    """What a tool has to inherit that has to be waited for."""
    return tuple(_held)
