# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.


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
