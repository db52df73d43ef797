# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Starts the privileged helper, and gives up the privilege to start one."""

import grp
import os
import pwd

from oslo_privsep import priv_context

from attachworker import privileged


def start(user: str | None) -> None:
    """Start the helper; to be called before there is any thread.

    As root it is forked off, and this process becomes ``user``, if any.
    Otherwise the option ``helper_command`` starts it.

    :raises KeyError: there is no such user
    """
    if os.geteuid() != 0:
        privileged.default.start(priv_context.Method.ROOTWRAP)
        return
    entry = pwd.getpwnam(user) if user else None
    privileged.default.start(priv_context.Method.FORK)
    if entry is None:
        return
    members = [one.gr_gid for one in grp.getgrall() if user in one.gr_mem]
    os.setgroups([entry.pw_gid, *members])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
