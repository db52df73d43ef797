# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Sets registers of a process that it traces, as User-Mode Linux does.

Run with a ptrace() preloaded, this prints as JSON what came of it.
"""

import ctypes
import errno
import json
import mmap
import os
import sys

_TRACE_ME = 0
_CONTINUE = 7
_GET_STATE = 0x4204
_SET_STATE = 0x4205
_XSTATE = 0x202
#: As much as User-Mode Linux 6.1 keeps.
_SHORT = 2696
_LONG = 65536
#: The components of ymm15: the lower half is of SSE, the upper one of AVX.
_LOWER = slice(400, 416)
_UPPER = slice(816, 832)
_IN_USE = 512  # the byte of the header that says so of the first components
_SSE_AND_AVX = 0b110
_VALUE = bytes(range(100, 132))

# int3; vmovups ymm15, [rdi]; vzeroupper; ret
_STOP_AND_STORE = bytes.fromhex('cc c57c113f c5f877 c3')

libc = ctypes.CDLL(None, use_errno=True)


class _Part(ctypes.Structure):
    _fields_ = (('base', ctypes.c_void_p), ('length', ctypes.c_size_t))


def ptrace(request: int, process: int, address: int, data: object) -> int:
    libc.ptrace.argtypes = (ctypes.c_int, ctypes.c_int, *[ctypes.c_void_p] * 2)
    libc.ptrace.restype = ctypes.c_long
    ended: int = libc.ptrace(request, process, address, data)
    return ctypes.get_errno() if ended == -1 else 0


def get_state(process: int, length: int) -> bytearray:
    buffer = bytearray(length)
    part = _Part(ctypes.addressof(ctypes.c_char.from_buffer(buffer)), length)
    error = ptrace(_GET_STATE, process, _XSTATE, ctypes.addressof(part))
    assert not error, os.strerror(error)
    return buffer[: part.length]


def set_state(process: int, state: bytearray) -> int:
    base = ctypes.addressof(ctypes.c_char.from_buffer(state))
    part = _Part(base, len(state))
    return ptrace(_SET_STATE, process, _XSTATE, ctypes.addressof(part))


def traced(shared: mmap.mmap) -> None:
    """Stop, then write to the memory what ymm15 holds by then."""
    code = mmap.mmap(-1, mmap.PAGESIZE, prot=7)
    code.write(_STOP_AND_STORE)
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(
        ctypes.addressof(ctypes.c_char.from_buffer(code))
    )
    ptrace(_TRACE_ME, 0, 0, None)
    call(ctypes.addressof(ctypes.c_char.from_buffer(shared)))


def main() -> None:
    shared = mmap.mmap(-1, mmap.PAGESIZE)
    process = os.fork()
    if process == 0:
        traced(shared)
        os._exit(0)
    os.waitpid(process, 0)
    before = get_state(process, _LONG)
    short = get_state(process, _SHORT)
    short[_LOWER] = _VALUE[:16]
    short[_UPPER] = _VALUE[16:]
    short[_IN_USE] |= _SSE_AND_AVX
    error = set_state(process, short)
    after = get_state(process, _LONG)
    ptrace(_CONTINUE, process, 0, None)
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    json.dump(
        {
            'error': errno.errorcode.get(error, ''),
            'whole': len(before),
            'rest_is_kept': before[_SHORT:] == after[_SHORT:],
            'in_use': after[_IN_USE],
            'arrived': shared[:32] == _VALUE,
        },
        sys.stdout,
    )


if __name__ == '__main__':
    main()
