# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""All that attachworker does with privilege: small verbs, no commands.

The verbs run in a helper process (oslo.privsep) that keeps only the
capabilities listed here. They take and return primitives, and check what they
are given once more.
"""

from oslo_config import cfg
from oslo_privsep import capabilities
from oslo_privsep import priv_context

CONFIG_SECTION = 'attachworker_privileged'

default: priv_context.PrivContext = priv_context.PrivContext(
    __name__,
    cfg_section=CONFIG_SECTION,
    pypath=__name__ + '.default',
    capabilities=[
        # mount namespace of a login; iscsid only listens to root; rbd
        capabilities.CAP_SYS_ADMIN,
        # sysfs and device nodes belong to root
        capabilities.CAP_DAC_OVERRIDE,
        # SG_IO for vital product data
        capabilities.CAP_SYS_RAWIO,
        # the open files of other users' processes
        capabilities.CAP_SYS_PTRACE,
    ],
)

#: A verb that hangs in the kernel keeps its thread: the default of one thread
#: a core would stop the worker at the second dead backend. They are made when
#: they are needed.
THREADS = 256
cfg.CONF.set_default('thread_pool_size', THREADS, group=CONFIG_SECTION)

from attachworker.privileged import block
from attachworker.privileged import encryption
from attachworker.privileged import iscsi
from attachworker.privileged import loop
from attachworker.privileged import multipath
from attachworker.privileged import nvme
from attachworker.privileged import process
from attachworker.privileged import processes
from attachworker.privileged import rbd
from attachworker.privileged import removals
from attachworker.privileged import scsi
from attachworker.privileged import system
