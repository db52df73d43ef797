# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Take what strace(1) saw of each privileged verb into the record.

``python -m tests.kernel.measured RESULTS…``: directories that the lab wrote
with :mod:`tests.kernel.measuring`. A verb that was seen replaces what is
recorded of it; what was not seen stays as it was. Who commits that has
reviewed it.
"""

from collections.abc import Iterator
import json
import pathlib
import re
import sys

from tests.kernel import measuring
from tools import verbs

#: What Python and its threads ask for, whatever a verb does, and a process
#: that becomes a tool.
_NOISE = frozenset(
    'access arch_prctl brk clock_gettime clock_nanosleep clone clone3 close '
    'close_range dup dup2 exit exit_group fcntl fork fstat futex getcwd '
    'getdents64 geteuid getpid getrandom gettid getuid lseek lstat madvise '
    'mmap mprotect munmap newfstatat pipe2 poll ppoll prctl pread64 prlimit64 '
    'read readlink recvfrom restart_syscall rseq rt_sigaction rt_sigprocmask '
    'rt_sigreturn sched_yield select sendto set_robust_list set_tid_address '
    'sigaltstack socket stat sysinfo uname vfork wait4 waitid write'.split()
)
#: Calls that change what a path names.
_CHANGES = frozenset(
    'chmod fchmodat link linkat mkdir mkdirat mount rename renameat renameat2 '
    'rmdir unlink unlinkat'.split()
)
#: Requests of ioctl(2) that tell Python what kind of a file it has.
_ABOUT_FILES = frozenset(('TCGETS', 'FIOCLEX', 'FIONBIO'))
_LINE = re.compile(r'(\d+) +(\w+)\((.*)')
_RESUMED = re.compile(r'(\d+) +<\.\.\. \w+ resumed>.*= (\d+)')
_CREATED = re.compile(r'.*= (\d+)$')
_CREATES = ('clone', 'clone3', 'fork', 'vfork')
_PATH = re.compile(r'(?:(?:AT_FDCWD|\d+)(?:<([^>]*)>)?, )?"([^"]*)"')
_MARK = re.compile(f'"({measuring.BEGIN}|{measuring.END})([^"]+)"')
_TOOL = re.compile(r'"[^"]*/([^/"]+)"')
_ABSTRACT = re.compile(r'sun_path=@?"([^"]*)"')
_REQUEST = re.compile(r'\d+<[^>]*>, (\w+|0x[0-9a-f]+)')
_CHANGING = re.compile(r'O_(?:WRONLY|RDWR|CREAT)')
#: Of no verb: Python looks for its modules, the loader for libraries, and a
#: test for programs that have started.
_OTHERS = re.compile(
    r'\.pyc?$|/python3|/site-packages/|^/work/|/opt/|\.so\b|/ld\.so|/started-'
)
#: What differs from one run to the next.
_NAMES = (
    (re.compile(r'^/dev/shm/attachworker-\w+'), 'STATE'),
    (re.compile(r'/(devices|proc|task)/\d+'), r'/\1/N'),
    (re.compile(r'/fd/\d+'), '/fd/N'),
    (re.compile(r'^/sys/devices/.*/([^/]+)$'), r'/sys/devices/*/\1'),
    (re.compile(r'[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}'), 'UUID'),
    (re.compile(r'\b\d+:\d+:\d+:\d+\b'), 'H:C:T:L'),
    (re.compile(r'\btarget\d+:\d+:\d+\b'), 'targetH:C:T'),
    (re.compile(r'\b\d+:\d+\b'), 'MAJOR:MINOR'),
    (re.compile(r'\bsd[a-z]+\b'), 'sdX'),
    (re.compile(r'\b(dm-|loop|rbd|session|host)\d+'), r'\1N'),
    (re.compile(r'\bnvme\d+(?:c\d+)?(?:n\d+)?'), 'nvmeN'),
    (re.compile(r'\bvolume-[\w-]+'), 'VOLUME'),
    (re.compile(r'\b(iqn|nqn)\.[^/]+'), r'\1'),
    (re.compile(r'\b[0-9a-f]{32}\b'), 'HEX'),
    (re.compile(r'helper/UUID\.[\w-]+'), 'helper/NOTE'),
    (re.compile(r'/(\.trash\.|tmp)\w{8}(?=/|$)'), r'/\1RANDOM'),
    (re.compile(r'/nodes/.*|/send_targets/.*'), '/RECORD'),
)


def _normal(path: str) -> str:
    for pattern, name in _NAMES:
        path = pattern.sub(name, path)
    return path


class _Verb:
    """What was seen of one."""

    def __init__(self) -> None:
        self.calls: set[str] = set()
        self.reads: set[str] = set()
        self.writes: set[str] = set()
        self.tools: set[str] = set()

    def saw(self, call: str, rest: str) -> None:
        if call == 'ioctl':
            request = _REQUEST.match(rest)
            if request and request[1] not in _ABOUT_FILES:
                self.calls.add(f'ioctl {request[1]}')
        elif call in ('open', 'openat'):
            self._opened(rest)
        elif call not in _NOISE:
            self.calls.add(call)
        if call in _CHANGES:
            self.writes.update(_paths(rest))
        elif call == 'connect':
            self.writes.update(f'@{name}' for name in _ABSTRACT.findall(rest))

    def _opened(self, rest: str) -> None:
        if '= -1' in rest or 'O_PATH' in rest:
            return
        kind = self.writes if _CHANGING.search(rest) else self.reads
        kind.update(list(_paths(rest))[:1])


def _paths(rest: str) -> Iterator[str]:
    for directory, path in _PATH.findall(rest):
        whole = f'{directory}/{path}' if directory else path
        if path.startswith('/'):
            whole = path
        if whole.startswith('/') and not _OTHERS.search(whole):
            yield _normal(whole)


def _parents(lines: list[str]) -> dict[str, str]:
    """By task, the one that has started it."""
    found: dict[str, str] = {}
    starting: set[str] = set()
    for line in lines:
        call, resumed = _LINE.match(line), _RESUMED.match(line)
        if resumed and resumed[1] in starting:
            starting.remove(resumed[1])
            found[resumed[2]] = resumed[1]
        elif call and call[2] in _CREATES:
            done = _CREATED.match(call[3])
            if done:
                found[done[1]] = call[1]
            else:
                starting.add(call[1])
    return found


def seen(text: str) -> dict[str, _Verb]:
    """By verb, what is in the output of strace.

    Of a tool that a verb runs its name alone counts.
    """
    lines = text.splitlines()
    parents = _parents(lines)
    verbs_seen: dict[str, _Verb] = {}
    current: dict[str, str | None] = {}
    tools: set[str] = set()
    for task, call, rest in (
        found.groups() for line in lines if (found := _LINE.match(line))
    ):
        mark = _MARK.search(rest)
        if mark:
            current[task] = mark[2] if mark[1] == measuring.BEGIN else None
            continue
        if task not in current:
            parent = parents.get(task, '')
            current[task] = current.get(parent)
            if parent in tools:
                tools.add(task)
        verb = current[task]
        if verb is None:
            continue
        entry = verbs_seen.setdefault(verb, _Verb())
        if call == 'execve':
            if '= -1' not in rest:
                tools.add(task)
                entry.tools.add(_TOOL.match(rest)[1])  # type: ignore[index]
        elif task not in tools:
            entry.saw(call, rest)
    return verbs_seen


def main() -> None:
    record = verbs.recorded()
    known = verbs.verbs()
    fresh: dict[str, dict[str, list[str]]] = {}
    for directory in sys.argv[1:]:
        for path in pathlib.Path(directory).glob('strace.*'):
            found = seen(path.read_text(errors='replace'))
            for name, verb in found.items():
                entry = fresh.setdefault(name, {})
                for kind, values in vars(verb).items():
                    entry[kind] = sorted({*entry.get(kind, ()), *values})
    whole = {
        name: {**known[name], **fresh.get(name, record.get(name, {}))}
        for name in known
    }
    verbs.RECORD.write_text(json.dumps(whole, indent=1) + '\n')


if __name__ == '__main__':
    main()
