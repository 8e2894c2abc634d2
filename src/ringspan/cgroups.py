"""Control groups by number: the kernel knows a cgroup by its id, which is its folder's inode number."""

from __future__ import annotations

import os
import time
from pathlib import Path

ROOTS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
AGAIN_S = 1.0
PATHS_MAX = 65536


class Cgroups:
    """Looks paths up; new groups are found by listing anew, once a second at the most."""

    def __init__(self, roots: tuple[Path, ...] = ROOTS) -> None:
        self._roots = roots
        self._paths: dict[int, str] = {}
        self._listed = float("-inf")
        self.forgotten = 0

    def path(self, number: int) -> str:
        """Return a group's path, as the last part of a line of /proc/PID/cgroup has it; empty if it is not known."""
        now = time.monotonic()
        if number not in self._paths and now - self._listed > AGAIN_S:
            self._list()
            self._listed = now
        return self._paths.get(number, "")

    def _list(self) -> None:
        for root in self._roots:
            if not (root / "cgroup.controllers").exists():  # only version 2 has ids of this kind
                continue
            for folder, _, _ in os.walk(root):
                if len(self._paths) >= PATHS_MAX:
                    self.forgotten += len(self._paths)
                    self._paths.clear()
                try:
                    self._paths[Path(folder).stat().st_ino] = folder.removeprefix(str(root)) or "/"
                except OSError:  # it has just gone
                    continue
