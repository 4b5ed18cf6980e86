"""Landlock of Linux: the files that a process may read, once it has given up all others.

https://docs.kernel.org/userspace-api/landlock.html
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable

# The numbers of all architectures are the same.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_RULE_PATH_BENEATH = 1
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
# Rights over files that each version knows, from 1: the thirteen of the first, then rename between
# folders, truncate, and commands to devices.
_FILE_RIGHTS = (13, 14, 15, 15, 16)
_TCP_VERSION, _TCP_RIGHTS = 4, 0b11  # bind, connect
_SCOPE_VERSION, _SCOPES = 6, 0b11  # abstract Unix sockets, signals to others


def landlock_version() -> int:
    """The version of the running kernel; 0 where it has none, or does not let us use it."""
    return max(0, _call(_CREATE_RULESET, None, 0, _VERSION_FLAG))


def restrict_files(readable: Iterable[str]) -> bool:
    """Takes from the calling thread all files but some, the network, and signals to others.

    Args:
        readable: Files that it may open to read, and folders of such files. What is not there is
            left out.

    Returns:
        Whether the kernel did it. It needs `no_new_privs`.
    """
    version = landlock_version()
    if not version:
        return False
    handled = struct.pack(
        "QQQ",
        (1 << _FILE_RIGHTS[min(version, len(_FILE_RIGHTS)) - 1]) - 1,
        _TCP_RIGHTS if version >= _TCP_VERSION else 0,
        _SCOPES if version >= _SCOPE_VERSION else 0,
    )
    ruleset = _call(_CREATE_RULESET, handled, len(handled), 0)
    if ruleset < 0:
        return False
    try:
        for path in readable:
            _allow(ruleset, path)
        return _call(_RESTRICT_SELF, ruleset, 0) == 0
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str) -> None:
    try:
        file = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # whoever opens it gets the same error
    try:
        rights = _READ_FILE | (_READ_DIR if stat.S_ISDIR(os.fstat(file).st_mode) else 0)
        _call(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, struct.pack("=Qi", rights, file), 0)
    finally:
        os.close(file)


def _call(number: int, *arguments: int | bytes | None) -> int:
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    syscall.restype = ctypes.c_long
    # An int is passed as 32 bits, and what is read there are 64.
    passed = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return syscall(ctypes.c_long(number), *passed)
