# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""TLS to a real broker, and the least that its users must be allowed."""

from collections.abc import Iterator
import dataclasses
import datetime
import ipaddress
import pathlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
import pytest

from attachworker import casts
from attachworker import client
from attachworker import exception
from attachworker.bus import transport as bus
from tests import harness
from tests.functional import rabbitmq
from tests.simulator.bed import SimulatedBed

#: What doc/source/admin/broker.rst says: configure, write, read.
_WORKER = (
    r'^(attachworker|attachworker\.HOST|reply_[0-9a-f]{32})$',
    r'^(attachworker|attachworker\.HOST|amq\.default)$',
    r'^(attachworker|attachworker\.HOST|reply_[0-9a-f]{32})$',
)
_CALLER = (
    r'^(attachworker|attachworker_results.*|reply_[0-9a-f]{32})$',
    r'^(attachworker|attachworker_results.*|amq\.default)$',
    r'^(attachworker|attachworker_results.*|reply_[0-9a-f]{32})$',
)


class Authority:
    """A certificate authority for one test."""

    def __init__(self, directory: pathlib.Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name('authority')
        self.file = directory / 'authority.pem'
        self.file.write_bytes(_pem(self._sign(self._name, self._key, 1, [])))

    def issue(
        self, name: str, *names: str, days: int = 1
    ) -> tuple[pathlib.Path, pathlib.Path]:
        """The files of a certificate and its key.

        :param names: of the host, and addresses, for which it is good
        :param days: for which it is; less than 0: it is over
        """
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._directory / f'{name}.pem'
        certificate.write_bytes(
            _pem(self._sign(_name(name), key, days, list(names)))
        )
        key_file = self._directory / f'{name}.key'
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
        )
        return certificate, key_file

    def _sign(
        self,
        name: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        days: int,
        names: list[str],
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=3))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(
                x509.BasicConstraints(name == self._name, None), True
            )
        )
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_alternative(n) for n in names]),
                False,
            )
        return builder.sign(self._key, hashes.SHA256())


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


@dataclasses.dataclass
class Site:
    """A broker that speaks TLS only, to those with a certificate."""

    node: rabbitmq.RabbitMQNode
    port: int
    authority: Authority
    directory: pathlib.Path

    def show(self, certificate: pathlib.Path, key: pathlib.Path) -> None:
        """Have the broker show another certificate from now on."""
        (self.directory / 'server.pem').write_bytes(certificate.read_bytes())
        (self.directory / 'server.key').write_bytes(key.read_bytes())
        self.node.control('eval', 'ssl:clear_pem_cache().')

    def url(self, *hosts: str, **options: object) -> str:
        hosts = hosts or (f'localhost:{self.port}',)
        mine = ('mine.pem', 'mine.key')
        certificate, key = (self.directory / name for name in mine)
        options = {
            'ssl': 'true',
            'ssl_ca_file': self.authority.file,
            'ssl_cert_file': certificate,
            'ssl_key_file': key,
        } | options
        query = '&'.join(f'{k}={v}' for k, v in options.items() if v)
        return (
            f'rabbit://{",".join(f"guest:guest@{h}" for h in hosts)}/?{query}'
        )


@pytest.fixture(scope='module')
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if not rabbitmq.is_installed():
        pytest.skip('rabbitmq-server is not installed')
    directory = tmp_path_factory.mktemp('tls')
    authority = Authority(directory)
    authority.issue('server', 'localhost', '127.0.0.1')
    authority.issue('mine')
    port = rabbitmq.free_port()
    settings = (
        f'listeners.ssl.local = 127.0.0.1:{port}\n'
        f'ssl_options.cacertfile = {authority.file}\n'
        f'ssl_options.certfile = {directory}/server.pem\n'
        f'ssl_options.keyfile = {directory}/server.key\n'
        'ssl_options.verify = verify_peer\n'
        'ssl_options.fail_if_no_peer_cert = true\n'
    )
    with rabbitmq.RabbitMQNode(settings=settings) as node:
        yield Site(node, port, authority, directory)


@pytest.fixture(autouse=True)
def good(site: Site) -> None:
    site.show(*site.authority.issue('good', 'localhost', '127.0.0.1'))


def ask(url: str) -> None:
    with client.AttachWorkerClient(url, 'nobody', timeout=20) as ours:
        ours.ping()


def reached(url: str) -> str:
    """Why a broker is not spoken to; empty: it is."""
    try:
        ask(url)
    except exception.HostNotFound:
        return ''
    except exception.BusUnavailable as error:
        return str(error)
    raise AssertionError('there is a worker')


def test_worker_and_callers_speak_tls(site: Site, bed: SimulatedBed) -> None:
    volume = bed.create_volume()
    with (
        harness.Harness(bed, site.url()) as worker,
        client.AttachWorkerClient(site.url(), worker.name) as ours,
        casts.Casts(ours.transport, worker.name, 'me') as sent,
    ):
        attached = sent.send(harness.attach_request(volume)).result(30)
        assert attached.status == 'attached'
        assert ours.detach_volume(volume.name).status == 'detached'


def test_a_broker_is_not_trusted(site: Site, tmp_path: pathlib.Path) -> None:
    authority = site.authority
    others = Authority(tmp_path)
    for wrong, shown in (
        ('Hostname mismatch', authority.issue('other', 'other.example')),
        ('expired', authority.issue('old', 'localhost', days=-1)),
        ('verify failed', others.issue('unknown', 'localhost')),
    ):
        site.show(*shown)
        assert wrong in reached(site.url())


def test_without_an_authority_those_of_the_system_are_asked(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The password would be told to whoever answers.
    assert 'verify failed' in reached(site.url(ssl_ca_file=''))
    # Given a system that knows the authority
    monkeypatch.setenv('SSL_CERT_FILE', str(site.authority.file))
    assert reached(site.url(ssl_ca_file='')) == ''
    # Then the name is asked for nevertheless
    site.show(*site.authority.issue('other', 'other.example'))
    assert 'mismatch' in reached(site.url(ssl_ca_file=''))


def test_each_of_several_brokers_is_asked_for_its_own_name(
    site: Site,
) -> None:
    nobody = f'127.0.0.2:{rabbitmq.free_port()}'
    good = f'127.0.0.1:{site.port}'
    for _ in range(4):  # they are tried in any order
        assert reached(site.url(nobody, good)) == ''
    # And one whose name is not in its certificate is not spoken to
    site.show(*site.authority.issue('other', 'other.example'))
    assert 'mismatch' in reached(site.url(good, f'localhost:{site.port}'))


def test_a_client_needs_its_certificate(
    site: Site, tmp_path: pathlib.Path
) -> None:
    assert reached(site.url(ssl_cert_file='', ssl_key_file=''))
    certificate, key = Authority(tmp_path).issue('mine')
    assert reached(site.url(ssl_cert_file=certificate, ssl_key_file=key))


def test_no_more_is_needed_than_the_documentation_says(
    site: Site, bed: SimulatedBed
) -> None:
    control, plain = site.node.control, site.node.url
    volume = bed.create_volume()
    made = harness.Harness(bed, plain.replace('guest:guest', 'worker:secret'))
    for user, rights in (('worker', _WORKER), ('caller', _CALLER)):
        control('add_user', user, 'secret')
        control(
            'set_permissions',
            user,
            *(one.replace('HOST', made.name) for one in rights),
        )
    theirs = plain.replace('guest:guest', 'caller:secret')
    with (
        made,
        client.AttachWorkerClient(theirs, made.name, timeout=20) as ours,
        casts.Casts(ours.transport, made.name, 'me') as sent,
    ):
        assert ours.ping()['ready']
        attached = sent.send(harness.attach_request(volume)).result(30)
        assert attached.status == 'attached'
        assert ours.detach_volume(volume.name).status == 'detached'
        # A caller cannot take what is meant for a worker
        with pytest.raises(exception.BusUnavailable, match='ACCESS_REFUSED'):
            bus.declare_queue(ours.transport, made.name)
