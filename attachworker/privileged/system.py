# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What names this machine, where only root may read it."""

import pathlib

from attachworker import privileged

#: Debian's open-iscsi keeps the first for root, kernels the second.
FILES = {
    'initiator': pathlib.Path('/etc/iscsi/initiatorname.iscsi'),
    'system uuid': pathlib.Path('/sys/class/dmi/id/product_uuid'),
    'machine id': pathlib.Path('/etc/machine-id'),
    'nqn': pathlib.Path('/etc/nvme/hostnqn'),
    'nvme_hostid': pathlib.Path('/etc/nvme/hostid'),
}


@privileged.readonly.entrypoint
def read(name: str) -> str | None:
    """The text of a file that names this machine; None if it is not there.

    :param name: one of FILES
    :raises OSError: it cannot be read
    """
    if name not in FILES:
        raise ValueError('not a name of this machine')
    try:
        return FILES[name].read_text(encoding='utf-8', errors='replace')
    except (FileNotFoundError, NotADirectoryError):
        return None
