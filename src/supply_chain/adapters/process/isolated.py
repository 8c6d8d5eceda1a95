"""Runs a program that has only its files: no environment, no sockets. A script: `isolated.py HOME PROGRAM [WORD…]`.

The kernel refuses the system call `socket` to the program and to all that it starts (seccomp(2)); this needs no
privileges. A connection cannot be inherited: the caller passes no descriptors but the three standard ones.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

NO_NEW_PRIVILEGES, SECCOMP, FILTER = 38, 22, 2
"""PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP and SECCOMP_MODE_FILTER (prctl(2))."""
MACHINES = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
"""The machine → its number in the kernel's audit, and that of the system call `socket`."""
LOAD, EQUALS, RETURN = 0x20, 0x15, 0x06
"""Instructions of the Berkeley packet filter: load a word, skip if it is not equal, return."""
KILL, DENY, ALLOW = 0x80000000, 0x00050000 | 13, 0x7FFF0000
"""What the filter returns: SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_ERRNO with EACCES, and SECCOMP_RET_ALLOW."""


def make_filter(machine: str) -> bytes:
    """Return the filter that refuses sockets on a machine, and other machines' numbers of system calls."""
    audit, socket = MACHINES[machine]
    program = ((LOAD, 0, 0, 4), (EQUALS, 1, 0, audit), (RETURN, 0, 0, KILL),
               (LOAD, 0, 0, 0), (EQUALS, 0, 1, socket), (RETURN, 0, 0, DENY), (RETURN, 0, 0, ALLOW))  # fmt: skip
    return b"".join(struct.pack("HBBI", *each) for each in program)


def refuse_sockets() -> None:
    """Refuse sockets to this process from now on; raise `OSError` if the kernel cannot."""
    code = make_filter(os.uname().machine)
    instructions = ctypes.create_string_buffer(code, len(code))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(instructions)))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    for words in ((NO_NEW_PRIVILEGES, 1, 0, 0, 0), (SECCOMP, FILTER, ctypes.addressof(program), 0, 0)):
        if prctl(*(ctypes.c_ulong(word) for word in words)) != 0:
            raise OSError(ctypes.get_errno(), "the kernel does not filter system calls")


def main(home: str, program: str, *words: str) -> None:
    """Become a program with an empty environment but for its home, and without sockets."""
    refuse_sockets()
    os.execve(program, [program, *words], {"HOME": home, "TMPDIR": home})  # noqa: S606  # what it becomes has a path and no shell


if __name__ == "__main__":
    main(*sys.argv[1:])
