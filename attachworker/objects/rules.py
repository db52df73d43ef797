# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The rules for values that come from outside, one function each.

A rule takes any value and returns its canonical form (the rule applied
again changes nothing), or raises RuleBroken. The text of RuleBroken completes
"Invalid value for KEY: ..." and never quotes the value, which may be a
secret, or very long, or meant to forge a line of a log.
"""

from collections.abc import Callable
from collections.abc import Mapping
import ipaddress
import re
from typing import Any
from typing import TypeVar

from oslo_utils import netutils

from attachworker import exception

T = TypeVar('T')

#: Port of iSCSI, RFC 7143 section 4.2.7.1.
ISCSI_PORT = 3260
#: Port of a server of NFS, RFC 7530 section 3.1.
NFS_PORT = 2049
#: Longest passphrase or keyring, in characters.
MAX_SECRET = 4096
#: Longest value in a record of open-iscsi, in bytes, without its NUL.
MAX_SETTING = 255
#: Longest path, in bytes: PATH_MAX of Linux without its NUL.
MAX_PATH = 4095
#: Longest NVMe qualified name, in bytes, without its NUL.
MAX_NQN = 223
#: Longest iSCSI name, in bytes, RFC 7143 section 4.2.7.1.
MAX_ISCSI_NAME = 223
#: Longest share of files, in characters.
MAX_SHARE = 1024
#: A LUN field of SCSI has 8 bytes (SAM-5); the kernel takes it as an integer,
#: and the number above this one for all LUNs of a target (SCAN_WILD_CARD).
MAX_LUN = 2**64 - 2

# The top two bits of a two-byte LUN choose the addressing method; 01b is
# "flat space" (SAM-5, 4.7.7), which leaves 14 bits for the number.
_FLAT_SPACE = 0x4000
# "Peripheral device" addressing, 00b, holds one byte.
_PERIPHERAL = 0x100
# Above the longest host name with brackets, port and tag.
_MAX_PORTAL = 300

_IDENTIFIER = re.compile(r'(?!-|\.\.?\Z)[!-.0-~]{1,255}')
_IFACE = re.compile(r'[A-Za-z0-9][A-Za-z0-9._:-]{0,63}')
_ISCSI_NAME = re.compile(
    r'iqn\.[0-9]{4}-[0-9]{1,2}\.[!-+.0-~-]+'
    r'|eui\.[0-9a-f]{16}'
    r'|naa\.[0-9a-f]{16}(?:[0-9a-f]{16})?',
    re.IGNORECASE | re.ASCII,
)
_CEPH_NAME = re.compile(r'(?!-|\.\.?\Z)[!-+.0-?A-~-]{1,255}')
_DHCHAP = re.compile(r'DHHC-1:0[0-3]:[0-9A-Za-z+/]{1,128}={0,2}:?')
_NQN = re.compile(r'nqn\.[!-+.-~-]+')
_BRACKETS = re.compile(r'\[([0-9A-Fa-f:.]+)\](?::([0-9]+))?')
_BARE_IPV6 = re.compile(r'[0-9A-Fa-f:.]+')
_LABEL = re.compile(r'[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?')
# The resolver takes '127.1' and 'x.0x7f' for addresses, not for names.
_NUMBER_LABEL = re.compile(r'[0-9]+|0x[0-9a-f]*')
#: A share of NFS. Commas divide the parts of a path's key in the journal, and
#: the kernel shows other signs with escapes.
_SHARE = re.compile(
    r'(?P<server>\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z][0-9A-Za-z._-]*)'
    r':(?P<path>/[0-9A-Za-z._/@%+=~:-]*)'
)
_FILE_NAME = re.compile(r'[0-9A-Za-z_][0-9A-Za-z._@%+=~:-]{0,254}')
_FLAG = ''
_COUNT = '[0-9]{1,9}'
#: What a mount of NFS may be told, with the pattern of its value. Nothing of
#: it has to do with anything on this host but the mount itself.
MOUNT_OPTIONS = (
    {
        'vers': r'3|4|4\.[0-2]',
        'nfsvers': r'3|4|4\.[0-2]',
        'minorversion': '[0-2]',
        'proto': 'tcp6?',
        'port': '[0-9]{1,5}',
        'mountproto': 'tcp6?',
        'mountport': '[0-9]{1,5}',
        'mountvers': '3',
        'nconnect': '[0-9]{1,2}',
        'sec': 'sys|krb5|krb5i|krb5p',
        'local_lock': 'all|flock|posix|none',
        'lookupcache': 'all|pos|positive|none',
    }
    | dict.fromkeys(
        (
            'timeo',
            'retrans',
            'rsize',
            'wsize',
            'acregmin',
            'acregmax',
            'acdirmin',
            'acdirmax',
            'actimeo',
        ),
        _COUNT,
    )
    | dict.fromkeys(
        (
            'hard',
            'soft',
            'softerr',
            'rw',
            'ro',
            'sync',
            'async',
            'ac',
            'noac',
            'cto',
            'nocto',
            'lock',
            'nolock',
            'acl',
            'noacl',
            'rdirplus',
            'nordirplus',
            'resvport',
            'noresvport',
            'sharecache',
            'nosharecache',
            'noatime',
            'nodiratime',
            'relatime',
            'nosuid',
            'nodev',
            'noexec',
        ),
        _FLAG,
    )
)
#: Options of one mount, and characters of all of them.
_MOST_OPTIONS = 64
_LONGEST_OPTIONS = 1024
_HEX = re.compile(r'[0-9a-f]+')
_PORT_NAME = re.compile(
    '(?:0x)?[0-9a-f]{16}|[0-9a-f]{2}(?::[0-9a-f]{2}){7}', re.IGNORECASE
)
_NAMESPACE_ID = re.compile(r'[0-9a-f]{32}')
_WWN_PREFIX = re.compile(
    r'(?:mpath-|scsi-|wwn-|naa\.|eui\.|nguid\.|uuid\.|0x)+'
)


class RuleBroken(ValueError):
    """A value breaks a rule; the text says which, without the value."""


def check(key: str, rule: Callable[[object], T], value: object) -> T:
    """Apply a rule.

    :param key: name of the value in the input, for the error
    :returns: the canonical form of the value
    :raises: InvalidConnectionInfo naming the key and the rule
    """
    try:
        return rule(value)
    except RuleBroken as broken:
        text = str(broken)
    # Outside the handler: the error carries no context with the value.
    raise invalid(key, text)


def invalid(key: str, rule: str) -> exception.InvalidConnectionInfo:
    """The error for a value that breaks a rule."""
    return exception.InvalidConnectionInfo(key=key, rule=rule)


def entries(
    data: Mapping[str, Any], key: str, most: int
) -> list[Any] | tuple[Any, ...]:
    """A list in the data; empty if there is none.

    :raises InvalidConnectionInfo: it is no list, or longer than ``most``
    """
    values = data.get(key)
    if values is None:
        return []
    if not isinstance(values, list | tuple):
        raise invalid(key, 'must be a list')
    if len(values) > most:
        raise invalid(key, f'must have at most {most} entries')
    return values


def distinct(key: str, values: Mapping[Any, T], most: int) -> list[T]:
    """The values of a list without repetitions.

    :raises InvalidConnectionInfo: there are none, or more than ``most``
    """
    if not 1 <= len(values) <= most:
        raise invalid(key, f'must have 1 to {most} entries')
    return list(values.values())


def bounded(minimum: int, maximum: int) -> Callable[[object], int]:
    """The rule for an integer from ``minimum`` to ``maximum``."""

    def rule(value: object) -> int:
        if (
            isinstance(value, bool)
            or not isinstance(value, int)
            or not minimum <= value <= maximum
        ):
            raise RuleBroken(f'must be an integer from {minimum} to {maximum}')
        return value

    return rule


def flag(value: object) -> bool:
    """A boolean; 0, 1 and 'True' are none."""
    if not isinstance(value, bool):
        raise RuleBroken('must be true or false')
    return value


def text(value: object) -> str:
    """Text that can be written as UTF-8, without NUL."""
    if not isinstance(value, str):
        raise RuleBroken('must be a string')
    if '\0' in value:
        raise RuleBroken('must not contain NUL')
    try:
        value.encode()
    except UnicodeEncodeError:
        raise RuleBroken('must be valid Unicode') from None
    return value


def secret(value: object) -> str:
    """A passphrase or keyring: checked for NUL and length only."""
    value = text(value)
    if not 1 <= len(value) <= MAX_SECRET:
        raise RuleBroken(f'must have 1 to {MAX_SECRET} characters')
    return value


def chap_secret(value: object) -> str:
    """A secret of CHAP, which ends up in a record of open-iscsi.

    A line break in it, or more bytes than open-iscsi reads of a line, would
    add settings of the sender's choice. White space at its ends is lost there;
    a target that minds says so when it refuses the login.
    """
    value = text(value)
    if not 1 <= len(value.encode()) <= MAX_SETTING:
        raise RuleBroken(f'must have 1 to {MAX_SETTING} bytes')
    if not value.isprintable():
        raise RuleBroken('must not contain control characters')
    return value


def dhchap_secret(value: object) -> str:
    """A key of DH-HMAC-CHAP, as nvme-cli makes it and the kernel takes it."""
    return _match(
        value,
        _DHCHAP,
        'must be a key of the form DHHC-1:00:base64: as "nvme '
        'gen-dhchap-key" makes it',
    )


def absolute_path(value: object) -> str:
    """The path of a file, one spelling for each."""
    value = text(value)
    if not value.startswith('/') or value.startswith('//'):
        raise RuleBroken('must begin with one "/"')
    if len(value.encode()) > MAX_PATH:
        raise RuleBroken(f'must have at most {MAX_PATH} bytes')
    if not value.isprintable():
        raise RuleBroken('must not contain control characters')
    parts = value.split('/')[1:]
    if not all(parts) or not {'.', '..'}.isdisjoint(parts):
        raise RuleBroken('must not contain "//", "/./", "/../" or a last "/"')
    return value


def user_name(value: object) -> str:
    """A name for CHAP, which ends up beside its secret."""
    value = chap_secret(value)
    if value != value.strip():
        raise RuleBroken('must not begin or end with white space')
    if value.startswith('-'):
        raise RuleBroken('must not begin with "-"')
    return value


def identifier(value: object) -> str:
    """The id of a request, an attachment or a volume, a name on the bus."""
    return _match(
        value,
        _IDENTIFIER,
        'must be 1 to 255 printable ASCII characters without white space '
        'or "/", and must not begin with "-"',
    )


def transport_iface(value: object) -> str:
    """The name of an iface record of open-iscsi, a file name there."""
    return _match(
        value,
        _IFACE,
        'must be 1 to 64 letters, digits, ".", "_", ":" or "-", and must '
        'begin with a letter or digit',
    )


def iscsi_name(value: object) -> str:
    """The name of a target: iqn., eui. or naa. (RFC 3720, RFC 3980).

    Upper case, "_" and a month of one digit are against RFC 3722 and 3720;
    there are targets that have them. Refused is what cannot be the name of a
    directory, one word for iscsiadm, or one field of a portal's line. Case is
    kept: LIO and tgt find a target by the very bytes of its name. To compare
    names, fold them.
    """
    value = text(value)
    if len(value) > MAX_ISCSI_NAME:
        raise RuleBroken(f'must have at most {MAX_ISCSI_NAME} characters')
    if not _ISCSI_NAME.fullmatch(value):
        raise RuleBroken(
            'must be an iSCSI name: iqn.yyyy-mm.reversed.domain[:suffix] of '
            'printable ASCII characters without white space, "," or "/", or '
            'eui. with 16 or naa. with 16 or 32 hexadecimal digits'
        )
    return value


def lun(value: object) -> int:
    """A logical unit number of any width: an integer or decimal digits."""
    if isinstance(value, str) and re.fullmatch('[0-9]{1,20}', value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise RuleBroken('must be an integer')
    if not 0 <= value <= MAX_LUN:
        raise RuleBroken('must be from 0 to 2**64 - 2')
    return value


def wire_luns(luns: list[int], mode: object, key: str) -> list[int]:
    """Apply the addressing mode that an array wants.

    SAM-2 and later number LUNs up to 255 by the peripheral method and the
    others by the flat space method; some arrays want flat space for all. The
    kernel takes the number with the bits of the method in it.

    :param mode: ``addressing_mode`` of the data; None: the numbers are right
    :param key: where the numbers are in the data
    :raises InvalidConnectionInfo: the mode is not known, or a number too high
    """
    if mode is None or mode in ('transparent', 'SAM'):
        return luns
    if mode not in ('SAM2', 'SAM3-flat'):
        raise invalid(
            'addressing_mode', 'must be transparent, SAM, SAM2 or SAM3-flat'
        )
    if any(lun >= _FLAT_SPACE for lun in luns):
        raise invalid(
            key, f'must be below {_FLAT_SPACE} with this addressing_mode'
        )
    return [
        lun + _FLAT_SPACE if lun >= _PERIPHERAL or mode == 'SAM3-flat' else lun
        for lun in luns
    ]


def port_name(value: object) -> str:
    """The WWPN of a Fibre Channel port: 16 hexadecimal digits, lower case.

    Drivers, sysfs and the tools of switches write it with "0x", with colons
    or as it is.
    """
    name = _match(
        value,
        _PORT_NAME,
        'must be the WWPN of a port: 16 hexadecimal digits, with or without '
        '"0x" before them or ":" between each two',
    )
    digits = name.lower().removeprefix('0x').replace(':', '')
    if not int(digits, 16):
        raise RuleBroken('must be the WWPN of a port, which is never 0')
    return digits


def portal(value: object) -> str:
    """An iSCSI portal as 'address:port'.

    One spelling for each meaning: IPv6 is compressed and in brackets, names
    are lower case, the port is always there, a portal group tag (',1') is
    not. Some drivers put a port behind an IPv6 address without brackets: that
    is taken where it can mean nothing else.
    """
    endpoint, comma, tag = _address(value).partition(',')
    if comma and not re.fullmatch('[0-9]{1,5}', tag):
        raise RuleBroken('must have a number as portal group tag')
    if match := _BRACKETS.fullmatch(endpoint):
        host, port = _ipv6(match[1]), match[2]
    elif endpoint.count(':') > 1:
        address, port = _split_bare_ipv6(endpoint)
        host = _ipv6(address)
    else:
        name, colon, digits = endpoint.partition(':')
        host, port = _host(name), digits if colon else None
    return f'{host}:{ISCSI_PORT if port is None else _port(port)}'


def endpoint(value: object, port: object, default_port: int) -> str:
    """Address and port, given apart, as :func:`portal` gives them.

    :param port: an integer or decimal digits; None: the default
    """
    address = _address(value)
    bare = address.removeprefix('[').removesuffix(']')
    host = _ipv6(bare) if ':' in bare else _host(address)
    if port is None:
        port = default_port
    if isinstance(port, bool) or not isinstance(port, int | str):
        raise RuleBroken('must have an integer as port')
    return f'{host}:{_port(str(port))}'


def nvme_transport(value: object) -> str:
    """'tcp' or 'rdma', of what drivers call them."""
    known = {'tcp': 'tcp', 'rdma': 'rdma', 'rocev2': 'rdma'}
    found = known.get(text(value).lower())
    if found is None:
        raise RuleBroken('must be tcp, rdma or RoCEv2')
    return found


def nqn(value: object) -> str:
    """The name of an NVMe subsystem or host (NVMe base specification 4.7).

    Cinder's targets have names without date and domain ("nqn.PREFIX-UUID").
    Refused is what cannot be part of a list of options that commas divide.
    """
    value = text(value)
    if len(value.encode()) > MAX_NQN:
        raise RuleBroken(f'must have at most {MAX_NQN} bytes')
    return _match(
        value,
        _NQN,
        'must be an NVMe name: "nqn." and printable ASCII characters '
        'without white space or ","',
    )


def namespace_id(value: object) -> str:
    """A UUID or an NGUID as 32 hexadecimal digits in lower case."""
    return _match(
        normalise_wwn(_identity(value)),
        _NAMESPACE_ID,
        'must have 32 hexadecimal digits',
    )


def namespace_number(value: object) -> int:
    """An NSID: an integer or decimal digits."""
    number = lun(value)
    if not 1 <= number < 2**32 - 1:
        raise RuleBroken('must be from 1 to 2**32 - 2')
    return number


def ceph_name(value: object) -> str:
    """The name of a pool, namespace, image, snapshot, user or cluster.

    It ends up in a line for the kernel whose parts white space, commas,
    "/" and "@" divide, and in the name of a file.
    """
    return _match(
        value,
        _CEPH_NAME,
        'must have names of 1 to 255 printable ASCII characters without '
        'white space, ",", "/" or "@", and none that begins with "-"',
    )


def share(value: object) -> str:
    """A share of NFS, 'server:/path', as it is spelled.

    IPv6 addresses are in brackets. The server is a host name or an IP
    address, and what it may be is looked at as in :func:`portal`.
    """
    value = text(value)
    found = _SHARE.fullmatch(value)
    if found is None or len(value) > MAX_SHARE:
        raise RuleBroken(
            'must be server:/path, an IPv6 address in brackets, of at most '
            f'{MAX_SHARE} letters, digits and "._/@%+=~:-"'
        )
    if '..' in found['path'].split('/'):
        raise RuleBroken('must have no ".." in its path')
    endpoint(found['server'], None, NFS_PORT)
    return value


def file_name(value: object) -> str:
    """The name of a file in the root directory of a share."""
    return _match(
        value,
        _FILE_NAME,
        'must be the name of a file without a directory: a letter, digit or '
        '"_", then up to 254 of these and "._@%+=~:-"',
    )


def mount_options(value: object) -> str:
    """Options of a mount with commas between them, sorted.

    Drivers send them as arguments of mount(8): '-o a,b -o c'.
    """
    value = text(value)
    if len(value) > _LONGEST_OPTIONS:
        raise RuleBroken(f'must have at most {_LONGEST_OPTIONS} characters')
    found: set[str] = set()
    for word in value.split():
        found.update(filter(None, word.removeprefix('-o').split(',')))
    if not 1 <= len(found) <= _MOST_OPTIONS:
        raise RuleBroken(f'must have 1 to {_MOST_OPTIONS} options')
    for option in found:
        name, _, given = option.partition('=')
        pattern = MOUNT_OPTIONS.get(name)
        if (
            pattern is None
            or not re.fullmatch(pattern, given)
            or option.endswith('=')
        ):
            raise RuleBroken(
                'must have, after "-o", options of NFS with a sensible value '
                'that concern this mount alone: '
                + ', '.join(sorted(MOUNT_OPTIONS))
            )
    return ','.join(sorted(found))


def is_ip_portal(portal: str) -> bool:
    """Whether a canonical portal has an IP address, and no host name."""
    return netutils.is_valid_ip(portal.rpartition(':')[0].strip('[]'))


def wwn(value: object) -> str:
    """The identity that a volume must have, normalised."""
    return identifier(normalise_wwn(_identity(value)))


def normalise_wwn(wwn: str) -> str:
    """One spelling for each SCSI or NVMe identity, to compare them by.

    Kernel (``naa.6001…``, ``eui.…``), scsi_id and multipath (``36001…``: a
    digit for the type first), udev (``wwn-0x6001…``), drivers and uuids with
    dashes all become bare hexadecimal digits in lower case. What is not
    hexadecimal keeps its text in lower case.
    """
    before = None
    while wwn != before:
        before, wwn = wwn, wwn.strip().lower()
        if prefix := _WWN_PREFIX.match(wwn):
            wwn = wwn[prefix.end() :]
    digits = re.sub('[-:]', '', wwn)
    if not _HEX.fullmatch(digits):
        return wwn
    # An NAA identity has 16 or 32 digits, an EUI-64 one 16, 24 or 32: the odd
    # one is the type that scsi_id puts first, 3 for NAA and 2 for EUI-64.
    if (len(digits) in (17, 33) and digits[0] in '23') or (
        len(digits) == 25 and digits[0] == '2'
    ):
        digits = digits[1:]
    return digits


def is_worldwide(identity: str) -> bool:
    """Whether an identity was made to be no other volume's anywhere.

    NAA formats 5 and 6 begin with the number that IEEE has given to a company.
    Without one (tgt has none) only the numbers of target and LUN follow: each
    host that runs tgt has the same ones.
    """
    return not re.match('[56]0{6}', normalise_wwn(identity))


def _match(value: object, pattern: re.Pattern[str], rule: str) -> str:
    value = text(value)
    if not pattern.fullmatch(value):
        raise RuleBroken(rule)
    return value


def _identity(value: object) -> str:
    """An identity to be normalised, which takes long for a long text."""
    value = text(value)
    if len(value) > 255:
        raise RuleBroken('must have 1 to 255 characters')
    return value


def _address(value: object) -> str:
    value = text(value)
    if len(value) > _MAX_PORTAL:
        raise RuleBroken(f'must have at most {_MAX_PORTAL} characters')
    return value


def _port(digits: str) -> int:
    if not re.fullmatch('[0-9]{1,5}', digits) or not 0 < int(digits) < 65536:
        raise RuleBroken('must have a port from 1 to 65535')
    return int(digits)


def _split_bare_ipv6(text: str) -> tuple[str, str | None]:
    """An IPv6 address without brackets, and the port behind it, if any."""
    address, _, last = text.rpartition(':')
    if not _BARE_IPV6.fullmatch(text) or not re.fullmatch(
        '[1-9][0-9]{0,4}', last
    ):
        return text, None
    # A group of an address has four digits at most, and it has eight groups.
    if len(last) == 5 or text.count(':') == 8:
        return address, last
    if '::' in text and len(last) >= 3:
        raise RuleBroken(
            'must have its IPv6 address in brackets: its last group could '
            'also be a port'
        )
    return text, None


def _ipv6(text: str) -> str:
    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    try:
        # A zone ('%eth0') means something on one host only.
        if not _BARE_IPV6.fullmatch(text):
            raise ValueError
        address = ipaddress.IPv6Address(text)
    except ValueError:
        raise RuleBroken('must have a valid IPv6 address') from None
    if address.ipv4_mapped is not None:
        return _unicast(address.ipv4_mapped)
    return f'[{_unicast(address)}]'


def _host(name: str) -> str:
    try:
        return _unicast(ipaddress.IPv4Address(name))
    except ipaddress.AddressValueError:
        pass
    if not name.isascii():
        raise RuleBroken('must have an IP address or an ASCII host name')
    name = name.lower().removesuffix('.')
    labels = name.split('.')
    if (
        len(name) > 253
        or not all(_LABEL.fullmatch(label) for label in labels)
        or _NUMBER_LABEL.fullmatch(labels[-1])
    ):
        raise RuleBroken('must have a valid IP address or host name')
    return name


def _unicast(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    if address.is_unspecified or address.is_multicast:
        raise RuleBroken('must have the address of one host')
    return str(address)
