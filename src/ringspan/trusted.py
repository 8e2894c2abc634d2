"""Files that decide what root does: settings, keys, certificates: out of other users' reach, as sudo and ssh ask."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ringspan.errors import UsageError

OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def read(path: str | Path, bytes_max: int, where: str) -> bytes:
    """Read a file that someone named; raises UsageError if that cannot be, or if root must not trust it."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            if not os.geteuid():
                _check_links(os.path.abspath(path), where)  # noqa: PTH100 - resolve() would follow them
                _check(file.fileno(), where)
            content = file.read(bytes_max + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{where}: {reason}") from error
    if len(content) > bytes_max:
        raise UsageError(f"{where}: larger than {bytes_max} bytes")
    return content


def _check_links(path: str, where: str) -> None:
    """Judge the links on the way to a file: whose they are decides which file it is."""
    for part in (Path(path), *Path(path).parents):
        found = os.lstat(part)
        if stat.S_ISLNK(found.st_mode) and found.st_uid not in (0, _invoker()):
            raise UsageError(f"{where}: {part} is a link of user {found.st_uid}, so not to be followed by root")


def _check(fd: int, where: str) -> None:
    """Judge an open file, wherever links led to, and the folder it lies in."""
    found = os.fstat(fd)
    if stat.S_ISCHR(found.st_mode):  # /dev/null, a terminal
        return
    _judge(found, where)
    place = os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115
    if place.startswith("/"):  # not a pipe
        folder = os.path.dirname(place)  # noqa: PTH120
        _judge(os.stat(folder), f"{where}: its folder {folder}", sticky=True)  # noqa: PTH116


def _judge(found: os.stat_result, where: str, *, sticky: bool = False) -> None:
    safe = sticky and found.st_mode & stat.S_ISVTX
    if found.st_mode & OTHERS_WRITE and not safe:
        raise UsageError(f"{where}: writable by others, so not to be trusted by root", "chmod go-w")
    if found.st_uid not in (0, _invoker()):
        raise UsageError(f"{where}: owned by user {found.st_uid}, so not to be trusted by root", "chown root")


def _invoker() -> int:
    """Return who has called sudo, if anyone did."""
    given = os.environ.get("SUDO_UID", "")
    return int(given) if given.isascii() and given.isdigit() and len(given) < 11 else 0
