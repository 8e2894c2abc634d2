"""Programs that make one request and are gone (hasty.c), and processes of a given number."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

SOURCE = Path(__file__).with_name("hasty.c")


def programs(folder: Path) -> list[Path]:
    """The same program under two names."""
    names = [folder / "alpha", folder / "beta"]
    subprocess.run(["cc", "-O1", "-pthread", "-o", names[0], SOURCE], check=True)
    shutil.copy(names[0], names[1])
    return names


class CloneArguments(ctypes.Structure):
    """struct clone_args of linux/sched.h, up to set_tid_size."""

    _fields_ = tuple((name, ctypes.c_uint64) for name in (
        "flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls", "set_tid", "set_tid_size"
    ))  # fmt: skip


def run_as(pid: int, command: list[str], environment: Mapping[str, str] = os.environ) -> int:
    """Runs a program as the process of this number (clone3 with set_tid); returns its status."""
    wanted = ctypes.c_int32(pid)
    arguments = CloneArguments(exit_signal=17, set_tid=ctypes.addressof(wanted), set_tid_size=1)
    # PyDLL keeps the interpreter's lock: the child would wait for a thread that it does not have.
    child = ctypes.PyDLL(None, use_errno=True).syscall(435, ctypes.byref(arguments), ctypes.sizeof(arguments))
    if child == 0:
        os.execve(command[0], command, environment)
    if child < 0:
        raise OSError(ctypes.get_errno(), "clone3")
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
