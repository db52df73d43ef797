# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The names of os-brick's factory, by protocol and architecture.

Those of os-brick 7.1.1, all of them: each is served, or is refused with the
reason.
"""

import platform

from attachworker import exception

#: The driver_volume_type of each that is served.
SERVED = {
    'FIBRE_CHANNEL': 'fibre_channel',
    'ISCSI': 'iscsi',
    'ISER': 'iser',
    'LOCAL': 'local',
    'NFS': 'nfs',
    'NVME': 'nvmeof',
    'NVMEOF': 'nvmeof',
    'RBD': 'rbd',
}

_OTHER_SHARES = (
    'of files on network shares, those on NFS are served alone; use os-brick'
)

#: Why the others are not, and what to do.
NOT_SERVED = {
    'GPFS': 'the host has mounted the file system already; attach the file as '
    'LOCAL, below one of the local_roots of the worker',
    'GLUSTERFS': _OTHER_SHARES,
    'HUAWEISDSHYPERVISOR': 'a program of Huawei (vbs_cli) attaches them; use '
    'os-brick',
    'LIGHTOS': 'a daemon of LightOS (discovery-client) connects them; use '
    'os-brick',
    'QUOBYTE': _OTHER_SHARES,
    'SCALEIO': 'the kernel module of PowerFlex attaches them; use os-brick',
    'SCALITY': _OTHER_SHARES,
    'STORPOOL': 'a daemon of StorPool attaches them; use os-brick',
    'VMDK': 'such a volume is no device of a host but a file of vSphere, '
    'which os-brick copies; use os-brick',
    'VZSTORAGE': _OTHER_SHARES,
}

#: What os-brick has for architectures other than x86.
_S390 = frozenset({'FIBRE_CHANNEL', 'GPFS', 'ISCSI', 'LOCAL', 'NFS', 'RBD'})
_PPC64 = _S390 | {'ISER', 'VZSTORAGE'}
_NAMES = {
    's390': _S390,
    's390x': _S390,
    'ppc64': _PPC64,
    'ppc64le': _PPC64,
}

_CONNECTOR = 'attachworker.brick.RemoteConnector'


def get_connector_mapping(arch: str | None = None) -> dict[str, str]:
    """The class that serves each protocol on an architecture.

    :param arch: as ``uname -m`` has it; None: of this machine
    """
    names = _NAMES.get(arch or platform.machine(), SERVED.keys())
    return {name: _CONNECTOR for name in SERVED if name in names}


def check(protocol: str) -> None:
    """See that there is a worker's protocol for one of os-brick.

    :param protocol: in upper or lower case
    :raises InvalidConnectorProtocol: there is not; says why
    """
    name = protocol.upper()
    if name not in SERVED:
        reason = NOT_SERVED.get(name, f'the protocols are {", ".join(SERVED)}')
        raise exception.InvalidConnectorProtocol(
            f'Volumes of type {protocol} are not served: {reason}'
        )


def check_arch(protocol: str, arch: str | None) -> None:
    """See that os-brick has a protocol on an architecture.

    :param arch: as of :func:`get_connector_mapping`
    :raises InvalidConnectorProtocol: it has not, or it is not served at all
    """
    check(protocol)
    if protocol.upper() not in get_connector_mapping(arch):
        raise exception.InvalidConnectorProtocol(
            f'Volumes of type {protocol} are not served on '
            f'{arch or platform.machine()} by os-brick, nor by its interface '
            'here; RemoteConnector does not ask'
        )
