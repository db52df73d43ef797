# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Nova's own libvirt volume drivers, with the factory of attachworker.brick.

``python tests/callers/nova_driver.py`` in Nova's environment: reads one JSON
object a line ({"do", "driver", "connection_info", ...}) and answers with one.
Which bus and host: OS_DEFAULT__TRANSPORT_URL and OS_DEFAULT__HOST.
"""

import json
import os
import sys
import traceback

os.environ['OS_NOVA_DISABLE_EVENTLET_PATCHING'] = '1'

import nova.conf
from nova.virt.libvirt.volume import fibrechannel
from nova.virt.libvirt.volume import iscsi
from nova.virt.libvirt.volume import nvme
from os_brick.initiator import connector

from attachworker import brick

#: The only thing that is not Nova's own. It is the place from which both
#: drivers take it.
connector.InitiatorConnector = brick.InitiatorConnector

_DRIVERS = {
    'fibre_channel': fibrechannel.LibvirtFibreChannelVolumeDriver,
    'iscsi': iscsi.LibvirtISCSIVolumeDriver,
    'nvmeof': nvme.LibvirtNVMEVolumeDriver,
}


def answer(asked):
    """What the driver did to connection_info, and what it returned."""
    nova.conf.CONF.set_override(
        'volume_use_multipath', asked.get('multipath', False), 'libvirt'
    )
    driver = _DRIVERS[asked['driver']](None)
    info = asked['connection_info']
    instance = None
    if asked['do'] == 'connect':
        returned = driver.connect_volume(info, instance)
    elif asked['do'] == 'disconnect':
        returned = driver.disconnect_volume(info, instance)
    else:
        returned = driver.extend_volume(info, instance, asked['size'])
    return {'connection_info': info, 'returned': returned}


def main():
    nova.conf.CONF([], project='nova', default_config_files=[])
    for line in sys.stdin:
        try:
            found = answer(json.loads(line))
        except Exception as error:
            traceback.print_exc()
            found = {
                'raised': [one.__name__ for one in type(error).__mro__],
                'text': str(error),
            }
        print(json.dumps(found), flush=True)


if __name__ == '__main__':
    main()
