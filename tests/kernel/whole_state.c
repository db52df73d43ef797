/* SPDX-FileCopyrightText: The attachworker contributors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A ptrace() that the lab preloads into linux.uml. Without it User-Mode Linux
 * 6.1 panics before init, in put_fp_registers, where the processor has AMX
 * (Intel, since 2023).
 *
 * User-Mode Linux traces the processes of its guest, and keeps the first 2696
 * bytes of the extended state (XSAVE) of each. The kernel of the machine gives
 * out any beginning of a state, but takes only a whole one, and answers EFAULT
 * to less. With AMX a whole one has 11008 bytes. So the rest is read from the
 * process, and goes back to where it was.
 *
 * A state of User-Mode Linux can be laid over the beginning of the whole one,
 * because this interface has each component where the processor documents it,
 * whether it is in use or not. Which ones are in use is said by the header, at
 * byte 512, and the header of User-Mode Linux holds. It never has AMX in use:
 * a program has to ask its kernel for that, and User-Mode Linux grants it to
 * none.
 *
 * Linux 6.13 and later ask for the size of the state. Once the user-mode-linux
 * of the oldest Debian that is served is as new (a test says so: it expects
 * the panic), delete this file and what uses it: build_ptrace in machines.py,
 * test_whole_state.py, set_state.py and amx.c in tests/lab, and the compiler
 * in bindep.txt.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>

/* Not on the stack: those of a kernel are small. Only one thread traces. */
static char whole[1 << 16];

long ptrace(enum __ptrace_request request, ...)
{
    static long (*next)(enum __ptrace_request, ...);
    struct iovec all = {whole, sizeof(whole)};
    struct iovec *given;
    va_list arguments;
    pid_t process;
    void *address;
    void *data;
    long result;

    va_start(arguments, request);
    process = va_arg(arguments, pid_t);
    address = va_arg(arguments, void *);
    data = va_arg(arguments, void *);
    va_end(arguments);

    if (next == NULL)
        next = (long (*)(enum __ptrace_request, ...))dlsym(RTLD_NEXT,
                                                           "ptrace");
    result = next(request, process, address, data);
    if (result == 0 || errno != EFAULT || request != PTRACE_SETREGSET ||
        (uintptr_t)address != NT_X86_XSTATE)
        return result;

    given = data;
    if (next(PTRACE_GETREGSET, process, address, &all) != 0)
        return -1;
    if (given->iov_len > all.iov_len) {
        errno = EFAULT;
        return -1;
    }
    memcpy(whole, given->iov_base, given->iov_len);
    return next(PTRACE_SETREGSET, process, address, &all);
}
