"""Control groups by number: the kernel knows a cgroup by its id, which is its folder's inode number."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOTS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
SHARE, AT_ONCE_S = 0.1, 0.3  # of the time that may go into listing, and how much of it may be saved up
PATHS_MAX, BYTES_MAX = 65536, 16 << 20  # who may make groups chooses their names


class Cgroups:
    """Looks paths up; groups that are new are found by listing all anew, which is bounded in time."""

    def __init__(self, roots: tuple[Path, ...] = ROOTS) -> None:
        self._roots = roots
        self._paths: dict[int, str] = {}  # empty: gone before it could be found, or out of sight
        self._bytes = 0
        self._left_s, self._since = AT_ONCE_S, time.monotonic()
        self.forgotten = 0

    def path(self, number: int) -> str:
        """Return a group's path, as the last part of a line of /proc/PID/cgroup has it; empty if it is not known."""
        if number not in self._paths:
            self.look({number})
        return self._paths.get(number, "")

    def look(self, numbers: Iterable[int]) -> None:
        """Look for groups at once, while their folders are there; numbers are not given again."""
        unknown = [number for number in numbers if number not in self._paths]
        now = time.monotonic()
        self._left_s = min(AT_ONCE_S, self._left_s + (now - self._since) * SHARE)
        self._since = now
        if not unknown or self._left_s <= 0:
            return
        self._list()
        for number in unknown:
            self._paths.setdefault(number, "")
        self._left_s -= time.monotonic() - now

    def _list(self) -> None:
        for root in self._roots:
            if not (root / "cgroup.controllers").exists():  # only version 2 has ids of this kind
                continue
            for folder, number in _folders(str(root)):
                if not self._paths.get(number):
                    self._keep(number, folder.removeprefix(str(root)) or "/")

    def _keep(self, number: int, path: str) -> None:
        self._bytes += len(path)
        if len(self._paths) >= PATHS_MAX or self._bytes > BYTES_MAX:
            self.forgotten += len(self._paths)
            self._paths.clear()
            self._bytes = len(path)
        self._paths[number] = path


def _folders(top: str) -> Iterator[tuple[str, int]]:
    """Yield all folders and their numbers; one with two links has none below (its own, and its `.`), which most are."""
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        try:
            status = os.stat(folder)  # noqa: PTH116 - there may be thousands
            if status.st_nlink != 2:
                with os.scandir(folder) as entries:
                    waiting += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:  # it has just gone
            continue
        yield folder, status.st_ino
