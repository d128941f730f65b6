"""Run a command behind the system call filters that systemd would make of a unit.

    python -m tests.fakes.unit_sandbox systemd/milepost-agent.service COMMAND...

By libseccomp, which systemd uses too; the groups of calls are those of ``systemd-analyze
syscall-filter``. What needs root (mounts, devices, users) is not done.
"""

import ctypes
import errno
import os
import socket
import subprocess
import sys
from ctypes import c_int, c_uint, c_uint32, c_uint64, c_void_p

ALLOW = 0x7FFF0000
PR_SET_NO_NEW_PRIVS = 38
PROT_WRITE, PROT_EXEC, SHM_EXEC = 2, 4, 0o100000
MASKED_EQUAL, EQUAL, GREATER = 7, 4, 6
LAST_FAMILY = 45
"""AF_MCTP; the kernel knows no later one."""


class Compare(ctypes.Structure):
    _fields_ = (("arg", c_uint), ("op", c_int), ("a", c_uint64), ("b", c_uint64))


library = ctypes.CDLL("libseccomp.so.2")
library.seccomp_init.restype = c_void_p
library.seccomp_init.argtypes = (c_uint32,)
library.seccomp_rule_add_array.argtypes = (c_void_p, c_uint32, c_int, c_uint, c_void_p)
library.seccomp_load.argtypes = (c_void_p,)


def refuse(number):
    return 0x00050000 | number


class Filter:
    def __init__(self, default):
        self.context = library.seccomp_init(default)

    def add(self, action, name, *comparisons):
        """Calls that this processor does not have are no matter."""
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:
            array = (Compare * len(comparisons))(*comparisons)
            done = library.seccomp_rule_add_array(
                self.context, action, number, len(comparisons), array
            )
            assert done == 0, (name, done)

    def load(self):
        done = library.seccomp_load(self.context)
        assert done == 0, done


def calls_of(word):
    """A call, or all of a group with the groups in it."""
    if not word.startswith("@"):
        return {word}
    done = subprocess.run(
        ["systemd-analyze", "--no-pager", "syscall-filter", word],
        capture_output=True,
        text=True,
        check=True,
    )
    names = [line.strip() for line in done.stdout.splitlines()[1:]]
    return set().union(
        *(calls_of(name) if name.startswith("@") else {name} for name in names if name[:1] != "#")
    )


def settings_of(unit):
    """Every setting with all its values, in their order."""
    settings = {}
    for line in open(unit, encoding="utf-8").read().splitlines():  # noqa: PTH123, SIM115
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            settings.setdefault(name, []).append(value)
    return settings


def allowed_calls(lines):
    """The first line decides that it is a list of what is allowed (systemd.exec(5))."""
    assert not lines[0].startswith("~")
    allowed = calls_of("@default")
    for line in lines:
        calls = set().union(*(calls_of(word) for word in line.lstrip("~").split()))
        allowed = allowed - calls if line.startswith("~") else allowed | calls
    return allowed


def confine(unit):
    settings = settings_of(unit)
    assert ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    families = Filter(ALLOW)
    (words,) = settings["RestrictAddressFamilies"]
    known = {getattr(socket, word).value for word in words.split()}
    for family in set(range(LAST_FAMILY + 1)) - known:
        families.add(refuse(errno.EAFNOSUPPORT), "socket", Compare(0, EQUAL, family))
    families.add(refuse(errno.EAFNOSUPPORT), "socket", Compare(0, GREATER, LAST_FAMILY))
    memory = Filter(ALLOW)
    if settings.get("MemoryDenyWriteExecute") == ["yes"]:
        both = PROT_WRITE | PROT_EXEC
        memory.add(refuse(errno.EPERM), "mmap", Compare(2, MASKED_EQUAL, both, both))
        for name in ("mprotect", "pkey_mprotect"):
            memory.add(refuse(errno.EPERM), name, Compare(2, MASKED_EQUAL, PROT_EXEC, PROT_EXEC))
        memory.add(refuse(errno.EPERM), "shmat", Compare(2, MASKED_EQUAL, SHM_EXEC, SHM_EXEC))
    clock = Filter(ALLOW)
    if settings.get("ProtectClock") == ["yes"]:
        for name in calls_of("@clock"):
            clock.add(refuse(errno.EPERM), name)
    (error,) = settings["SystemCallErrorNumber"]
    calls = Filter(refuse(getattr(errno, error)))
    for name in allowed_calls(settings["SystemCallFilter"]):
        calls.add(ALLOW, name)
    for each in (families, memory, clock, calls):  # the last may refuse to load another
        each.load()


if __name__ == "__main__":
    confine(sys.argv[1])
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606
