"""Runs a command as a systemd unit would: its user's capabilities, system call filter and memory protection, read from it.

Usage: as_service.py UNIT COMMAND...; run by Debian's Python, which has libseccomp's module. What takes a namespace of
its own (ProtectSystem= and the like) is left out.
"""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import sys
from pathlib import Path

import seccomp

INNER = "--inner"
INNER = "--inner"
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1


def values(unit: Path, key: str) -> list[str]:
    lines = unit.read_text().splitlines()
    return [line.partition("=")[2] for line in lines if line.startswith(f"{key}=")]


def calls(name: str) -> set[str]:
    """The system calls of a set such as @system-service, sets in it included."""
    if not name.startswith("@"):
        return {name}
    done = subprocess.run(
        ["systemd-analyze", "syscall-filter", "--no-pager", name], capture_output=True, text=True, check=True
    )
    words = [line.strip() for line in done.stdout.splitlines()[1:]]
    return set().union(*(calls(word) for word in words if word and not word.startswith("#")))


def load_filter(unit: Path) -> None:
    allowed: set[str] = calls("@default")
    for value in values(unit, "SystemCallFilter"):
        for name in value.removeprefix("~").split():
            allowed = allowed - calls(name) if value.startswith("~") else allowed | calls(name)
    rules = seccomp.SyscallFilter(seccomp.ERRNO(errno.EPERM))
    for name in sorted(allowed):
        if seccomp.resolve_syscall(seccomp.Arch(), name) >= 0:
            rules.add_rule(seccomp.ALLOW, name)
    rules.load()


def main() -> None:
    unit, command = Path(sys.argv[1]), sys.argv[2:]
    if command[0] != INNER:
        names = values(unit, "AmbientCapabilities")[0].split()
        wanted = ",".join(f"+{name.removeprefix('CAP_').lower()}" for name in names)
        flags = [
            "--reuid=nobody",
            "--regid=nogroup",
            "--clear-groups",
            f"--inh-caps={wanted}",
            f"--ambient-caps={wanted}",
        ]
        os.execvp("setpriv", ["setpriv", *flags, sys.executable, __file__, str(unit), INNER, *command])
    libc = ctypes.CDLL(None, use_errno=True)
    if values(unit, "MemoryDenyWriteExecute") == ["yes"] and libc.prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0):
        print("this kernel cannot refuse executable memory (before Linux 6.3)", file=sys.stderr)
    load_filter(unit)
    os.execv(command[1], command[1:])


if __name__ == "__main__":
    main()
