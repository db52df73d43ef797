# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Each privileged verb is one that somebody has reviewed.

Who adds a verb, or gives one other arguments or more rights, has it measured
(``tests/kernel/measured.py``), looks at what has changed in
``tests/recorded/verbs.json``, and commits that.
"""

from tests.kernel import measured
from tests.kernel import measuring
from tools import verbs

#: What even who only reads opens to write: a socket that answers questions,
#: and the name of its own process.
ALLOWED = {
    '@/org/kernel/linux/storage/multipathd',
    '/proc/self/task/N/comm',
}


def test_no_verb_is_there_that_nobody_has_reviewed() -> None:
    reviewed = {
        name: {one: entry[one] for one in ('context', 'signature')}
        for name, entry in verbs.recorded().items()
    }
    # Neither a name, nor an argument or its type, nor a context is another one
    assert verbs.verbs() == reviewed


def test_what_each_verb_does_was_seen() -> None:
    for name, entry in verbs.recorded().items():
        seen = {'reads', 'writes', 'calls', 'tools'}
        assert seen <= entry.keys(), f'measure {name}'


def test_what_only_reads_was_seen_to_write_nothing() -> None:
    for name, entry in verbs.recorded().items():
        if entry['context'] == 'readonly':
            assert set(entry['writes']) <= ALLOWED, name
            assert entry['tools'] == [], name


def test_what_strace_saw_is_told_apart_by_verb() -> None:
    # Given two threads of a helper, each at a verb, one of which runs a tool
    found = measured.seen(
        f'7 newfstatat(AT_FDCWD</>, "{measuring.BEGIN}a.one", 0x1, 0) = -1\n'
        f'8 newfstatat(AT_FDCWD</>, "{measuring.BEGIN}b.two", 0x1, 0) = -1\n'
        '7 openat(4</sys/devices/x/3:0:0:1>, "delete", O_WRONLY) = 5\n'
        '8 openat(AT_FDCWD</>, "/dev/sdb", O_RDONLY) = 6\n'
        '8 vfork( <unfinished ...>\n'
        '9 execve("/sbin/tool", ["tool"], 0x1) = -1 ENOENT\n'
        '9 execve("/usr/sbin/tool", ["tool"], 0x1 <unfinished ...>\n'
        '9 openat(AT_FDCWD</>, "/etc/tool.conf", O_RDONLY) = 3\n'
        '8 <... vfork resumed>) = 9\n'
        '8 ioctl(6</dev/sdb>, SG_IO, 0x1) = 0\n'
        f'7 newfstatat(AT_FDCWD</>, "{measuring.END}a.one", 0x1, 0) = -1\n'
        '7 openat(AT_FDCWD</>, "/etc/passwd", O_RDONLY) = 5\n'
    )
    # Then each is told what it did itself, and the tool by its name
    assert vars(found['a.one']) == {
        'calls': set(),
        'reads': set(),
        'writes': {'/sys/devices/*/delete'},
        'tools': set(),
    }
    assert vars(found['b.two']) == {
        'calls': {'ioctl SG_IO'},
        'reads': {'/dev/sdX'},
        'writes': set(),
        'tools': {'tool'},
    }
