# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What the configuration of a worker says that makes no sense.

oslo.config looks at a value when somebody asks for it, and never at an option
that nobody has. So all options of the worker, its connectors and the libraries
are looked at here, before anything depends on them.
"""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import difflib
import glob
import os.path
import re
from typing import Any

from oslo_config import cfg
from stevedore import named

from attachworker import conf as options
from attachworker import connectors
from attachworker import privileged
from attachworker.bus import transport as bus

#: The namespaces of the libraries whose options a worker may have.
_LIBRARIES = (
    'oslo.concurrency',
    'oslo.log',
    'oslo.messaging',
    'oslo.privsep',
    'oslo.reports',
    'oslo.versionedobjects',
)
#: The group that stands for that of each helper, in the library's own list.
_PRIVSEP = 'privsep'
_DEFAULT = 'DEFAULT'
#: How oslo.config begins to say what is wrong with a value, and where it is.
_NOT_VALID = ' is not valid: '
_PLACE = re.compile(r"detail='([^']+)'")
#: Of oslo.config itself: where there is more configuration.
_OF_THE_PARSER = {'config_file', 'config_dir', 'config_source'}


@dataclasses.dataclass(frozen=True)
class Fault:
    """Something that the configuration says wrongly.

    :ivar what: the option, or the group
    :ivar reason: what is wrong with it, and what is right
    :ivar fatal: whether no worker starts with it. What nobody knows is
        ignored: it is a slip, or of another release.
    """

    what: str
    reason: str
    fatal: bool

    def __str__(self) -> str:
        return f'{self.what[0].upper()}{self.what[1:]}: {self.reason}'


def faults(conf: cfg.ConfigOpts) -> list[Fault]:
    """Whatever is wrong in the files that a configuration was read from.

    They are read again: what was changed since is looked at, too.

    :raises cfg.Error, OSError: a file cannot be read
    """
    files = conf.config_file or []
    directories = conf.config_dirs
    known = _known()
    return [
        *_invalid(known, files, directories),
        *_unknown(known, files, directories),
    ]


def _name(option: str, group: str) -> str:
    """How people are told of an option."""
    return f'option {option}' + (
        '' if group == _DEFAULT else f' of group [{group}]'
    )


def _known() -> dict[str, list[cfg.Opt]]:
    """All options by group."""
    libraries: named.NamedExtensionManager[Any] = named.NamedExtensionManager(
        'oslo.config.opts', _LIBRARIES
    )
    found: dict[str, list[cfg.Opt]] = {}
    for groups in (
        options.opts.list_opts(),
        connectors.list_opts(),
        bus.unlisted_opts(),
        *(one.plugin() for one in libraries),
    ):
        for group, some in groups:
            # Of one group or of no group, in three spellings
            title = str(getattr(group, 'name', group) or _DEFAULT)
            if title == _PRIVSEP:
                title = privileged.CONFIG_SECTION
            found.setdefault(title, []).extend(some)
    return found


# -- values


def _invalid(
    known: dict[str, list[cfg.Opt]],
    files: Sequence[str],
    directories: Sequence[str],
) -> Iterator[Fault]:
    conf = cfg.ConfigOpts()
    for group, some in known.items():
        for option in some:
            conf.register_opt(
                option, group=None if group == _DEFAULT else group
            )
    conf(
        [],
        project='attachworker',
        prog='attachworker',
        default_config_files=list(files),
        default_config_dirs=list(directories),
    )
    for group, some in known.items():
        for option in some:
            try:
                _ = (conf if group == _DEFAULT else conf[group])[option.dest]
            except (cfg.Error, ValueError) as error:
                text = ' '.join(str(error).split())
                reason = (
                    f'{text.rpartition(_NOT_VALID)[2]}; it takes: '
                    f'{option.type.type_name}'
                )
                if option.secret:
                    # What is said of it may quote it.
                    reason = 'its value makes no sense'
                where = _PLACE.search(text)
                yield Fault(
                    _name(option.name, group),
                    reason + (f' (in {where[1]})' if where else ''),
                    fatal=True,
                )


# -- names


def _unknown(
    known: dict[str, list[cfg.Opt]],
    files: Sequence[str],
    directories: Sequence[str],
) -> Iterator[Fault]:
    names = {group: set(_spellings(some)) for group, some in known.items()}
    names[_DEFAULT] |= _OF_THE_PARSER
    for option in (one for some in known.values() for one in some):
        for old in option.deprecated_opts:
            names.setdefault(old.group or _DEFAULT, set()).add(
                str(old.name or option.dest)
            )
    for file in _all(files, directories):
        sections: dict[str, dict[str, Any]] = {}
        cfg.ConfigParser(file, sections).parse()
        for section, values in sections.items():
            group = section if section == _DEFAULT else section.lower()
            if group not in names:
                yield Fault(
                    f'group [{section}]',
                    f'nobody knows it (in {file})'
                    + _nearest(group, names, '[{}]'),
                    fatal=False,
                )
                continue
            for value in values:
                spelled = value.replace('-', '_')
                if spelled not in names[group]:
                    yield Fault(
                        _name(value, group),
                        f'nobody knows it (in {file})'
                        + _right(spelled, group, names),
                        fatal=False,
                    )


def _right(option: str, group: str, names: dict[str, set[str]]) -> str:
    """What may be meant by an option that a group does not have."""
    others = sorted(other for other, some in names.items() if option in some)
    if others:
        return f'; it belongs to group [{"] or [".join(others)}]'
    return _nearest(option, names[group], '{}')


def _nearest(word: str, words: Iterable[str], form: str) -> str:
    found = difflib.get_close_matches(word, sorted(words), 1)
    return f'; did you mean {form.format(found[0])}?' if found else ''


def _spellings(some: list[cfg.Opt]) -> Iterator[str]:
    for option in some:
        yield option.dest
        yield option.name.replace('-', '_')


def _all(files: Sequence[str], directories: Sequence[str]) -> Iterator[str]:
    yield from files
    for directory in directories:
        yield from sorted(glob.glob(os.path.join(directory, '*.conf')))
