# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""Find iSCSI targets, and log in to and out of them through iscsid.

Each verb returns iscsiadm's exit code and output. After ``timeout`` seconds
iscsiadm is killed, and the verb raises TimeoutError. An argument that could
reach beyond its place is a ValueError. Addresses are IP addresses, IPv6
without brackets, or host names.
"""

from collections.abc import Callable
import contextlib
import errno
import os
import pathlib
import re
import stat

from attachworker import privileged
from attachworker.privileged import made
from attachworker.privileged import names
from attachworker.privileged import namespaces
from attachworker.privileged import removals
from attachworker.privileged import tools

#: Where an iscsiadm may keep its records: it is built in, and different from
#: one distribution to the next.
_DATABASES = ('/etc/iscsi', '/var/lib/iscsi')
SESSIONS = pathlib.Path('/sys/class/iscsi_session')
_LOCK_DIRECTORY = '/run/lock/iscsi'

#: What iscsiadm reads there that is no record of a target.
_SETTINGS = ('iscsid.conf', 'initiatorname.iscsi')
_IFACES = 'ifaces'
#: The command by which iscsiadm starts iscsid where it does not run.
_STARTUP = b'iscsid.startup'

#: One word for iscsiadm, and the name of a directory.
_name = names.rule(r'[A-Za-z0-9][!-+.0-~-]{0,222}', 'an iSCSI name')
_address = names.rule(r'[0-9A-Za-z:][0-9A-Za-z.:%_-]{0,254}', 'a portal')
#: Address space that iscsiadm has; bytes. A portal may tell of targets without
#: end, and iscsiadm has all of them in its memory before it prints the first.
_ADDRESS_SPACE = 512 << 20
_KEY = re.compile(r'[a-z][A-Za-z0-9_.\[\]]{0,63}')
#: open-iscsi has 256 bytes for a value, the last one NUL (VALUE_MAXVAL). What
#: exceeds its 2,047 bytes of a line it reads as a line of its own.
_LONGEST_VALUE = 255
_iface = names.rule(
    r'[A-Za-z0-9][A-Za-z0-9._:-]{0,63}', 'the name of an iface'
)


def _enter_private_databases() -> list[pathlib.Path]:
    """Give the calling thread, and it alone, databases without records.

    Nothing of them is ever seen by the host or left on it: they are gone with
    the last process in the mount namespace. So that this is never iscsid,
    iscsiadm cannot start it from there. iscsid gets the whole record with the
    login request and does not look for a file; started again, it takes the
    credentials of running sessions from sysfs.

    :returns: the directories; which of them is used, only iscsiadm knows
    """
    namespaces.enter_private()
    there = {
        pathlib.Path(place): _settings(pathlib.Path(place))
        for place in filter(_is_there, _DATABASES)
    }
    if not there:
        raise FileNotFoundError(
            2, 'open-iscsi is not installed: no ' + ' or '.join(_DATABASES)
        )
    found: dict[int, pathlib.Path] = {}
    for database, settings in there.items():
        if database.stat().st_dev in found:
            continue  # one is a link to the other
        _cover(database)
        for name, content in settings.items():
            path = database / name
            path.parent.mkdir(mode=0o700, exist_ok=True)
            path.write_bytes(content)
        found[database.stat().st_dev] = database
    _make_lock_directory(_LOCK_DIRECTORY)
    _cover(pathlib.Path(_LOCK_DIRECTORY))
    return list(found.values())


def _make_lock_directory(place: str) -> None:
    """Make it, if it is not there; everybody may write above it.

    :raises OSError: somebody has put something else there
    """
    os.makedirs(os.path.dirname(place), mode=0o755, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.mkdir(place, mode=0o700)
    if not stat.S_ISDIR(os.lstat(place).st_mode):
        raise NotADirectoryError(
            errno.ENOTDIR, f'{place} is no directory; remove what is there'
        )


def _cover(directory: pathlib.Path) -> None:
    namespaces.cover(str(directory), 'mode=0700,size=16m')


def _settings(database: pathlib.Path) -> dict[str, bytes]:
    """What iscsiadm is to find in place of a database, by relative name."""
    names = list(_SETTINGS)
    with contextlib.suppress(FileNotFoundError):
        names += [f'{_IFACES}/{one}' for one in os.listdir(database / _IFACES)]
    found = {}
    for name in names:
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):
            found[name] = _without_startup((database / name).read_bytes())
    return found


def _without_startup(settings: bytes) -> bytes:
    """The settings of iscsid.conf, but the command that starts iscsid."""
    return b''.join(
        line
        for line in settings.splitlines(keepends=True)
        if not line.lstrip().startswith(_STARTUP)
    )


def _is_there(path: str) -> bool:
    """:raises OSError: nobody knows"""
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    return True


def _in_private_databases(
    body: Callable[[list[pathlib.Path]], tuple[int, str]],
) -> tuple[int, str]:
    """Call ``body`` with the directories of databases of its own.

    In a thread of its own: the mount namespace ends with it, and the threads
    of the helper's pool keep theirs.
    """
    return namespaces.in_own_thread(lambda: body(_enter_private_databases()))


def _with_defaults(
    databases: list[pathlib.Path], prefix: str, record: dict[str, str]
) -> dict[str, str]:
    """A record, with what iscsid.conf says where it says nothing itself.

    iscsiadm looks there when it makes a record. Where it finds one, it has
    values of its own for what is missing.

    :param prefix: of the settings that the record is made of
    """
    for database in databases:
        with contextlib.suppress(FileNotFoundError):
            text = (database / _SETTINGS[0]).read_text(errors='replace')
            return _defaults(text, prefix, record) | record
    return record


def _defaults(
    text: str, prefix: str, record: dict[str, str]
) -> dict[str, str]:
    lines = (line.partition('=') for line in text.splitlines())
    found = {key.strip(): value.strip() for key, _, value in lines}
    # Credentials are never of two sources.
    complete = any(key.endswith('.auth.authmethod') for key in record)
    return {
        key: value
        for key, value in found.items()
        if key.startswith(prefix)
        and _KEY.fullmatch(key)
        and not (
            complete and '.auth.' in key and not key.endswith('.chap_algs')
        )
    }


def _write_record(path: pathlib.Path, record: dict[str, str]) -> None:
    path.parent.mkdir(mode=0o700, parents=True)
    lines = ''.join(f'{key} = {value}\n' for key, value in record.items())
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, 'w', encoding='utf-8') as file:
        file.write(f'# BEGIN RECORD 2.0\n{lines}# END RECORD\n')


def _check_login(
    target_name: str, address: str, port: int, record: dict[str, str]
) -> None:
    _name(target_name)
    _check_portal(address, port)
    _check_settings(record)
    _iface(record.get('iface.iscsi_ifacename', 'default'))


def _check_portal(address: str, port: int) -> None:
    _address(address)
    names.number(port, 65535, 'a portal', least=1)


def _check_settings(record: dict[str, str]) -> None:
    for key, value in record.items():
        if (
            not _KEY.fullmatch(key)
            or not value.isprintable()
            or len(value.encode()) > _LONGEST_VALUE
        ):
            raise ValueError('not a setting of a record')


def _portal(address: str, port: int) -> str:
    return f'[{address}]:{port}' if ':' in address else f'{address}:{port}'


def _run(arguments: list[str], timeout: float) -> tuple[int, str]:
    # Nobody need wait for one that outlives this process: iscsid goes on with
    # what it was asked for, whether iscsiadm waits for that or not.
    try:
        code, output, _ = tools.run(
            'iscsiadm',
            *arguments,
            timeout=timeout,
            merged=True,
            awaited=False,
            address_space=_ADDRESS_SPACE,
        )
    except TimeoutError as error:
        raise TimeoutError(
            errno.ETIMEDOUT, f'iscsiadm has not ended after {timeout:.0f} s'
        ) from error
    return code, output


@privileged.default.entrypoint
def login(
    target_name: str,
    address: str,
    port: int,
    record: dict[str, str],
    timeout: float,
) -> tuple[int, str]:
    """Make one session.

    :param record: the settings of the node record, iscsiadm's names
    :raises FileNotFoundError: something of open-iscsi is not there; its text
        says what
    """
    _check_login(target_name, address, port, record)

    def body(databases: list[pathlib.Path]) -> tuple[int, str]:
        whole = _with_defaults(databases, 'node.', record)
        for database in databases:
            place = database / 'nodes' / target_name / f'{address},{port}'
            _write_record(place, whole)
        arguments = ['-m', 'node', '-T', target_name]
        arguments += ['-p', _portal(address, port), '--login']
        return _run(arguments, timeout)

    before = _sessions()
    answer = _in_private_databases(body)
    if answer[0] == 0:
        for session in _sessions() - before:
            if _target_of(session) == target_name:
                made.note(session)
    return answer


def _sessions() -> set[pathlib.Path]:
    return set(SESSIONS.glob('session*'))


def _target_of(session: pathlib.Path) -> str | None:
    # another one may end meanwhile, or not have its name yet
    with contextlib.suppress(OSError):
        return (session / 'targetname').read_text(encoding='utf-8').strip()
    return None


@privileged.default.entrypoint
def interface(name: str, timeout: float) -> tuple[int, str]:
    """Print the record of an iface.

    iscsiadm reads it when it makes a node record, and not at the login: with
    the mere name of an iface in its record a session would go any way.
    """
    arguments = ['-m', 'iface', '-I', _iface(name)]
    return _in_private_databases(lambda _: _run(arguments, timeout))


@privileged.default.entrypoint
def discover(
    address: str, port: int, settings: dict[str, str], timeout: float
) -> tuple[int, str]:
    """Ask a portal for its targets (SendTargets).

    Nothing of it stays on the host, and no record of the host is changed.

    :param settings: ``iface``, the name of the iface to go through; any
        others are those of the discovery record, iscsiadm's names
    """
    record = dict(settings)
    interface = _iface(record.pop('iface'))
    _check_portal(address, port)
    _check_settings(record)
    arguments = ['-t', 'sendtargets', '-p', _portal(address, port)]
    arguments += ['-I', interface]

    def body(databases: list[pathlib.Path]) -> tuple[int, str]:
        if not record:
            # with the settings of iscsid.conf
            return _run(['-m', 'discovery', *arguments], timeout)
        # Credentials go through this file: iscsiadm takes them from no other
        # place but its arguments, which everybody can read.
        identity = {
            'discovery.startup': 'manual',
            'discovery.type': 'sendtargets',
            'discovery.sendtargets.address': address,
            'discovery.sendtargets.port': str(port),
        }
        whole = _with_defaults(
            databases, 'discovery.sendtargets.', identity | record
        )
        for database in databases:
            place = database / 'send_targets' / f'{address},{port}'
            _write_record(place / 'st_config', whole)
        return _run(['-m', 'discoverydb', *arguments, '-D'], timeout)

    return _in_private_databases(body)


@privileged.default.entrypoint
def logout(session_id: int, timeout: float) -> tuple[int, str]:
    """End one session, and take away the devices that come through it.

    :raises OSError: EPERM: see
        :func:`attachworker.privileged.removals.check`
    """
    names.number(session_id, 2**32 - 1, 'the number of a session')
    try:
        instance = os.stat(SESSIONS / f'session{session_id}').st_ino
    except FileNotFoundError:
        pass  # iscsiadm says so
    else:
        removals.check(removals.of_session(session_id), instance)
    arguments = ['-m', 'session', '-r', str(session_id), '-u']
    # It needs no record, but reads that of an iface, and leaves a lock file.
    return _in_private_databases(lambda _: _run(arguments, timeout))
