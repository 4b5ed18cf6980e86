"""seccomp of Linux: the calls that a process may make, once it has given up all others.

A filter is a program of classic BPF, which the kernel runs before each call:
https://docs.kernel.org/userspace-api/seccomp_filter.html
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys

# What a process needs that decodes one video in one thread, its libraries loaded: by name, the
# numbers on x86-64 and on aarch64. No call here makes a process, a thread or a socket, runs a
# program, changes a file, or reaches another process.
_ALLOWED = {
    "read": (0, 63),
    "readv": (19, 65),
    "pread64": (17, 67),
    "write": (1, 64),
    "writev": (20, 66),
    "lseek": (8, 62),
    "close": (3, 57),
    "dup": (32, 23),
    "flock": (73, 32),
    "fstat": (5, 80),
    "newfstatat": (262, 79),
    "stat": (4, None),
    "lstat": (6, None),
    "statx": (332, 291),
    "access": (21, None),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "readlink": (89, None),
    "readlinkat": (267, 78),
    "getdents64": (217, 61),
    "getcwd": (79, 17),
    "munmap": (11, 215),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "brk": (12, 214),
    "futex": (202, 98),
    "set_robust_list": (273, 99),
    "rseq": (334, 293),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "getpid": (39, 172),
    "gettid": (186, 178),
    "getppid": (110, 173),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "getrusage": (98, 165),
    "times": (100, 153),
    "uname": (63, 160),
    "sysinfo": (99, 179),
    "getrandom": (318, 278),
    "time": (201, None),
    "gettimeofday": (96, 169),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "nanosleep": (35, 101),
    "restart_syscall": (219, 128),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "poll": (7, None),
    "ppoll": (271, 73),
    "select": (23, None),
    "pselect6": (270, 72),
    "exit": (60, 93),
    "exit_group": (231, 94),
}
# Those of which an argument decides.
_OPEN, _OPENAT = (2, None), (257, 56)
_MMAP, _MPROTECT = (9, 222), (10, 226)
_FCNTL = (72, 25)
_PRLIMIT64 = (302, 261)
_TGKILL = (234, 131)
_SECCOMP = (317, 277)

_AUDIT_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32_BIT = 0x40000000
# Later calls than those of Linux 6.16 get the answer of a kernel that has none, and so does clone3,
# of which no filter sees the arguments: libraries then take the older ones.
_FIRST_UNKNOWN, _CLONE3 = 468, 435

_NOT_TO_READ = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_PROT_EXEC = 4
_F_SETFL = 4  # of those below it none reaches another process
_F_DUPFD_CLOEXEC = 1030

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_ALLOW, _KILL, _FAIL = 0x7FFF0000, 0x80000000, 0x00050000
_SET_MODE_FILTER, _ALL_THREADS = 1, 1


def restrict_calls() -> bool:
    """Takes from the calling process all calls but those of `_ALLOWED`, and some others in part.

    They fail with EPERM. One for another architecture kills the process.

    Returns:
        Whether the kernel did it. It needs `no_new_privs`.
    """
    machine = platform.machine()
    if sys.platform != "linux" or machine not in _AUDIT_ARCHITECTURES:
        return False
    program = _filter(machine)
    instructions = ctypes.create_string_buffer(program, len(program))
    fprog = struct.pack("HQ", len(program) // 8, ctypes.addressof(instructions))
    number = _SECCOMP[_column(machine)]
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    syscall.restype = ctypes.c_long
    return syscall(ctypes.c_long(number), _SET_MODE_FILTER, _ALL_THREADS, fprog) == 0


def _column(machine: str) -> int:
    return 0 if machine == "x86_64" else 1


def _filter(machine: str) -> bytes:
    column = _column(machine)
    code = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_EQUAL, _AUDIT_ARCHITECTURES[machine], 1, 0),
        _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER),
    ]
    if machine == "x86_64":
        code += [_step(_AT_LEAST, _X32_BIT, 0, 1), _step(_RETURN, _KILL)]
    for numbers in _ALLOWED.values():
        if numbers[column] is not None:
            code += [_step(_EQUAL, numbers[column], 0, 1), _step(_RETURN, _ALLOW)]
    for numbers, argument, tests in (
        (_OPENAT, 2, [_step(_ANY_BIT, _NOT_TO_READ, 1, 0)]),
        (_OPEN, 1, [_step(_ANY_BIT, _NOT_TO_READ, 1, 0)]),
        (_MMAP, 2, [_step(_ANY_BIT, _PROT_EXEC, 1, 0)]),
        (_MPROTECT, 2, [_step(_ANY_BIT, _PROT_EXEC, 1, 0)]),
        (_PRLIMIT64, 0, [_step(_EQUAL, 0, 0, 1)]),  # its own
        (_TGKILL, 0, [_step(_EQUAL, os.getpid(), 0, 1)]),  # as abort() does
        (_FCNTL, 1, [_step(_EQUAL, _F_DUPFD_CLOEXEC, 1, 0), _step(_AT_LEAST, _F_SETFL, 1, 0)]),
    ):
        if numbers[column] is not None:
            decision = [*tests, _step(_RETURN, _ALLOW), _step(_RETURN, _FAIL | errno.EPERM)]
            load = _step(_LOAD, _FIRST_ARGUMENT + 8 * argument)  # its lower half comes first
            code += [_step(_EQUAL, numbers[column], 0, 1 + len(decision)), load, *decision]
    code += [
        _step(_EQUAL, _CLONE3, 1, 0),
        _step(_AT_LEAST, _FIRST_UNKNOWN, 0, 1),
        _step(_RETURN, _FAIL | errno.ENOSYS),
        _step(_RETURN, _FAIL | errno.EPERM),
    ]
    return b"".join(code)


def _step(operation: int, value: int, if_so: int = 0, if_not: int = 0) -> bytes:
    return struct.pack("HBBI", operation, if_so, if_not, value)
