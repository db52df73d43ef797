# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A Ceph cluster of one monitor and one OSD, in memory, with cephx."""

import functools
import pathlib
import signal
import subprocess
import tempfile
import uuid

MONITOR = '127.0.0.1:6789'
#: The same one, for those who speak the second version of the protocol.
SECOND_MONITOR = '127.0.0.1:3300'
USER = 'cinder'

_SECONDS = 120.0


@functools.cache
def cluster() -> 'Cluster':
    """The one of this guest, started when it is first asked for."""
    return Cluster(pathlib.Path('/run/lab/ceph'))


class Cluster:
    """Starts it; its data is in ``directory``, which is made."""

    def __init__(self, directory: pathlib.Path) -> None:
        self._directory = directory
        self.conf = directory / 'ceph.conf'
        self._processes: list[subprocess.Popen[bytes]] = []
        self._pools: set[str] = set()
        directory.mkdir(mode=0o700, parents=True)
        fsid = str(uuid.uuid4())
        self.conf.write_text(f"""\
[global]
fsid = {fsid}
mon_host = [v2:{SECOND_MONITOR},v1:{MONITOR}]
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
auth_allow_insecure_global_id_reclaim = false
keyring = {directory}/$name.keyring
run_dir = {directory}
log_file = {directory}/$name.log
mon_cluster_log_file = {directory}/cluster.log
mon_data = {directory}/mon
mon_allow_pool_size_one = true
mon_data_avail_crit = 1
osd_data = {directory}/osd
osd_objectstore = memstore
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
osd_class_update_on_start = false
# A placement group is readable for 0.8 of it. After a freeze that was longer,
# one without replicas never serves again what it is asked before it has
# noticed (Ceph issue 80404).
osd_heartbeat_grace = 3600
# what the kernel's client knows, and quick to make
rbd_default_features = 1
""")
        self._make_keys()
        self._start_monitor(fsid)
        self._start_osd()

    def _make_keys(self) -> None:
        tool = ['ceph-authtool', '--create-keyring', '--gen-key', '--name']
        for name, caps in (
            ('mon.', ('mon', 'allow *')),
            ('client.admin', ('mon', 'allow *', 'osd', 'allow *')),
            (f'client.{USER}', ('mon', 'profile rbd', 'osd', 'profile rbd')),
        ):
            pairs = zip(caps[::2], caps[1::2], strict=True)
            options = [word for pair in pairs for word in ('--cap', *pair)]
            self._run(*tool, name, *options, str(self._keyring(name)))
            if name != 'mon.':
                self._run(
                    'ceph-authtool',
                    str(self._keyring('mon.')),
                    '--import-keyring',
                    str(self._keyring(name)),
                )

    def _keyring(self, name: str) -> pathlib.Path:
        return self._directory / f'{name}.keyring'

    @functools.cached_property
    def key(self) -> str:
        """What client.cinder has to know."""
        return self._run(
            'ceph-authtool',
            '--print-key',
            '--name',
            f'client.{USER}',
            str(self._keyring(f'client.{USER}')),
        ).strip()

    def _start_monitor(self, fsid: str) -> None:
        monmap = str(self._directory / 'monmap')
        self._run(
            *('monmaptool', '--create', '--fsid', fsid),
            *('--addv', 'a', f'[v2:{SECOND_MONITOR},v1:{MONITOR}]'),
            # without it no OSD is ever up
            *('--set-min-mon-release', 'pacific', monmap),
        )
        (self._directory / 'mon').mkdir()
        keyring = str(self._keyring('mon.'))
        self._run(
            *('ceph-mon', '--mkfs', '-i', 'a', '--monmap', monmap),
            *('--keyring', keyring, *self._with_conf),
        )
        self._start('mon', 'ceph-mon', '-f', '-i', 'a', '--keyring', keyring)

    def _start_osd(self) -> None:
        identifier = str(uuid.uuid4())
        self._run('ceph', 'osd', 'new', identifier, *self._with_conf)
        (self._directory / 'osd').mkdir()
        keyring = self._keyring('osd.0')
        self._run(
            *('ceph', 'auth', 'get-or-create', 'osd.0'),
            *('mon', 'allow profile osd', 'osd', 'allow *'),
            *('-o', str(keyring), *self._with_conf),
        )
        self._run(
            *('ceph-osd', '--mkfs', '-i', '0', '--osd-uuid', identifier),
            *('--no-mon-config', *self._with_conf),
        )
        self._start('osd', 'ceph-osd', '-f', '-i', '0', '--no-mon-config')

    @property
    def _with_conf(self) -> tuple[str, ...]:
        return ('--conf', str(self.conf))

    def _start(self, name: str, *command: str) -> None:
        log = self._directory / f'{name}.out'
        with open(log, 'ab') as output:
            process = subprocess.Popen(
                [*command, *self._with_conf],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._processes.append(process)

    @staticmethod
    def _run(*command: str) -> str:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout

    # -- images

    def create(self, spec: str, data: bytes, size: int) -> None:
        """Make an image that begins with some data; its pool too.

        :param spec: pool/image
        """
        pool, _, _ = spec.partition('/')
        if pool not in self._pools:
            self._run('ceph', 'osd', 'pool', 'create', pool, *self._with_conf)
            self._pools.add(pool)
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.truncate(size)
            self.store(spec, file.name)

    def store(self, spec: str, file: str) -> None:
        """Make an image of a file."""
        self._rbd('import', '--no-progress', file, spec)

    def remove(self, spec: str) -> None:
        self._rbd('rm', '--no-progress', spec)

    def resize(self, spec: str, size: int) -> None:
        """:param size: bytes"""
        options = ['--no-progress', '--allow-shrink', '--size', f'{size}B']
        self._rbd('resize', *options, spec)

    def create_namespace(self, pool: str, name: str) -> None:
        self._rbd('namespace', 'create', '--pool', pool, '--namespace', name)

    def create_snapshot(self, spec: str) -> None:
        """:param spec: pool/image@snapshot"""
        self._rbd('snap', 'create', '--no-progress', spec)

    def blocklist(self, address: str, blocked: bool) -> None:
        """Refuse a client, or serve it again."""
        act = 'add' if blocked else 'rm'
        self._run('ceph', 'osd', 'blocklist', act, address, *self._with_conf)

    def _rbd(self, *command: str) -> str:
        return self._run('rbd', *command, *self._with_conf)

    # -- faults

    def freeze(self, frozen: bool) -> None:
        """Have the cluster not answer, or answer again."""
        for process in self._processes:
            process.send_signal(signal.SIGSTOP if frozen else signal.SIGCONT)
