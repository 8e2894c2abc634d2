"""A folder for clang's eyes only, that leaves nothing behind, however its maker ends.

Where mounts may be made, it is a tmpfs that is mounted nowhere (fsmount, Linux 5.2): found through its descriptor
alone, it ends with the last process that holds it. Elsewhere it is a temporary folder: removed by the child that uses
it, else by the parent that kills the child, else, if both were killed, by the next start.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "ringspan-"
SIZE = b"8m"
STALE_S = 60.0
FSOPEN, FSCONFIG, FSMOUNT = 430, 431, 432  # the same on all architectures
FSCONFIG_SET_STRING, FSCONFIG_CMD_CREATE = 1, 6
CLOEXEC = 1


class CannotMount(Exception):
    """This process may not mount, or its kernel cannot do it in this way."""


def _call(number: int, *arguments: int | bytes | None) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    given = [ctypes.c_long(a) if isinstance(a, int) else ctypes.c_char_p(a) for a in arguments]
    result = int(libc.syscall(ctypes.c_long(number), *given))
    if result < 0:
        raise CannotMount(os.strerror(ctypes.get_errno()))
    return result


def mount_nowhere() -> int:
    """Return a descriptor of the root of a new tmpfs; raises CannotMount."""
    context = _call(FSOPEN, b"tmpfs", CLOEXEC)
    try:
        _call(FSCONFIG, context, FSCONFIG_SET_STRING, b"size", SIZE, 0)
        _call(FSCONFIG, context, FSCONFIG_SET_STRING, b"mode", b"0700", 0)
        _call(FSCONFIG, context, FSCONFIG_CMD_CREATE, None, None, 0)
        return _call(FSMOUNT, context, CLOEXEC, 0)
    finally:
        os.close(context)


@contextmanager
def private_folder(owner: int) -> Iterator[Path]:
    """Make the folder for a child of process `owner`."""
    try:
        fd = mount_nowhere()
    except CannotMount:
        with tempfile.TemporaryDirectory(prefix=f"{PREFIX}{owner}-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)
        return
    try:
        yield Path(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def remove_of(owner: int) -> None:
    """Remove what a child of process `owner` that was killed has left."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}{owner}-*"):
        _remove(folder)


def remove_stale() -> None:
    """Remove what runs of this user that were killed, parent and child, have left."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        owner = folder.name.removeprefix(PREFIX).partition("-")[0]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            _remove(folder, STALE_S)  # younger ones may be another container's


def _remove(folder: Path, age_s: float = 0.0) -> None:
    """Remove a folder if it is one, and ours, and so old."""
    try:
        status = folder.lstat()
    except OSError:  # it has just gone
        return
    if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and time.time() - status.st_mtime >= age_s:
        shutil.rmtree(folder, ignore_errors=True)
