# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Cinder's own target drivers, for tests of another environment.

``python tests/callers/cinder_target.py`` in the environment of the callers:
reads one JSON object a line ({"do", "driver", "volume", ...}) and answers with
one. Where the targets listen: OS_TARGET__ADDRESSES, with commas.
"""

import json
import os
import pathlib
import sys
import traceback

# where cinder-rtstool is
os.environ['PATH'] = os.pathsep.join(
    (str(pathlib.Path(sys.executable).parent), os.environ['PATH'])
)

from cinder import exception
from cinder.volume import configuration
from cinder.volume import driver as drivers
from cinder.volume.targets import lio
from cinder.volume.targets import nvmeof
from oslo_config import cfg

_GROUP = 'lab'


class _Database:
    """No volume was ever exported: the only thing that is not Cinder's."""

    def volume_get(self, context, volume_id):
        raise exception.VolumeNotFound(volume_id=volume_id)


class _NVMeTarget(nvmeof.NVMeOF):
    """What all NVMe targets have in common.

    The one for nvmet needs a package that is not on PyPI to make the target,
    and adds nothing to what is told of it but the UUID.
    """

    def ensure_export(self, context, volume, volume_path):
        raise NotImplementedError

    remove_export = ensure_export

    def create_nvmeof_target(self, volume_id, *arguments, **values):
        raise NotImplementedError

    delete_nvmeof_target = create_nvmeof_target

    def create_export(self, context, volume, volume_path):
        """Of a namespace that is there already; see create_nvmeof_target."""
        location = self.get_nvmeof_location(
            volume['target'],
            self.target_ips,
            self.target_port,
            self.nvme_transport_type,
            volume['namespace'],
        )
        return {'location': location, 'auth': ''}

    def _get_nvme_uuid(self, volume):
        return volume['id']


def target(asked):
    """The driver of a backend that is configured as was asked."""
    addresses = os.environ['OS_TARGET__ADDRESSES'].split(',')
    options = drivers.volume_opts + drivers.nvmeof_opts + drivers.nvmet_opts
    settings = configuration.Configuration(options, config_group=_GROUP)
    nvme = asked['driver'] == 'nvmeof'
    for name, value in {
        'target_ip_address': addresses[0],
        'target_secondary_ip_addresses': addresses[1:],
        'target_protocol': 'nvmet_tcp' if nvme else 'iscsi',
        'target_port': asked['port'],
        'nvmeof_conn_info_version': asked.get('version', 1),
    }.items():
        cfg.CONF.set_override(name, value, _GROUP)
    made = (_NVMeTarget if nvme else lio.LioAdm)(configuration=settings)
    made.db = _Database()
    return made


def answer(asked):
    """What the driver returned."""
    volume = asked['volume']
    verb = getattr(target(asked), asked['do'])
    if asked['do'] == 'create_export':
        return verb(None, volume, asked.get('path'))
    if asked['do'] == 'remove_export':
        return verb(None, volume)
    return verb(volume, asked['connector'])


def main():
    cfg.CONF([], project='cinder', default_config_files=[])
    cfg.CONF.set_override('lock_path', '/run/lock', 'oslo_concurrency')
    for line in sys.stdin:
        try:
            found = {'returned': answer(json.loads(line))}
        except Exception as error:
            traceback.print_exc()
            found = {
                'raised': [one.__name__ for one in type(error).__mro__],
                'text': str(error),
            }
        print(json.dumps(found), flush=True)


if __name__ == '__main__':
    main()
