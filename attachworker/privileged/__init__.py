# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""All that attachworker does with privilege: small verbs, no commands.

The verbs run in helper processes (oslo.privsep) that keep only the
capabilities listed here. They take and return primitives, and check what they
are given once more.

A verb that needs no more than to read belongs to ``readonly``, whose process
is not even root. All others belong to ``default``;
:doc:`/contributor/verbs` says why there are two processes and not more.
"""

from attachworker import threading_backend

# isort: split
from oslo_config import cfg
from oslo_privsep import capabilities
from oslo_privsep import priv_context

CONFIG_SECTION = 'attachworker_privileged'
READONLY_SECTION = 'attachworker_privileged_readonly'

default: priv_context.PrivContext = priv_context.PrivContext(
    __name__,
    cfg_section=CONFIG_SECTION,
    pypath=__name__ + '.default',
    capabilities=[
        # mount namespace of a login; iscsid only listens to root; rbd
        capabilities.CAP_SYS_ADMIN,
        # volumes in files, and the state directory, belong to other users
        capabilities.CAP_DAC_OVERRIDE,
        # the open files of other users' processes
        capabilities.CAP_SYS_PTRACE,
        # to mount where the host does, and not in a namespace of the worker
        capabilities.CAP_SYS_CHROOT,
    ],
)

#: Runs as the user of the worker, where that is started as root.
readonly: priv_context.PrivContext = priv_context.PrivContext(
    __name__,
    cfg_section=READONLY_SECTION,
    pypath=__name__ + '.readonly',
    # devices, attributes in sysfs and files in /etc that root alone may read
    capabilities=[capabilities.CAP_DAC_READ_SEARCH],
)
CONTEXTS = (default, readonly)

#: A verb that hangs in the kernel keeps its thread: the default of one thread
#: a core would stop the worker at the second dead backend. They are made when
#: they are needed.
THREADS = 256
for _context in CONTEXTS:
    cfg.CONF.set_default(
        'thread_pool_size', THREADS, group=_context.cfg_section
    )

from attachworker.privileged import block
from attachworker.privileged import encryption
from attachworker.privileged import iscsi
from attachworker.privileged import loop
from attachworker.privileged import mounts
from attachworker.privileged import multipath
from attachworker.privileged import nvme
from attachworker.privileged import process
from attachworker.privileged import processes
from attachworker.privileged import rbd
from attachworker.privileged import removals
from attachworker.privileged import scsi
from attachworker.privileged import system
