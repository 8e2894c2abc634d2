"""--exe GLOB: which executables are asked for. The kernel knows inodes and devices; user space judges by path."""

from __future__ import annotations

import fnmatch
import glob
import os
from contextlib import suppress
from pathlib import Path

from ringspan.probe import maps

COMM_BYTES = 15
SEARCHED = ("/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/bin", "/sbin")


def kernel_device(device: int) -> int:
    """Return a device number as the kernel packs it (MKDEV: 12 bits of major, 20 of minor)."""
    return os.major(device) << 20 | os.minor(device)


class Executables:
    """Judges executables by globs: one with a slash against the whole path, one without against the name."""

    def __init__(self, globs: list[str], proc: Path = Path("/proc")) -> None:
        self._globs = globs
        self._proc = proc

    def wants(self, path: str) -> bool:
        """Does any glob match this path?"""
        name = path.rsplit("/", 1)[-1]
        return any(fnmatch.fnmatchcase(path if "/" in one else name, one) for one in self._globs)

    def known(self) -> list[tuple[int, int, bool]]:
        """Judge what runs now and what lies on the search path: (inode, device, wanted)."""
        found: dict[tuple[int, int], bool] = {}
        for entry in self._proc.iterdir():
            if entry.name.isdigit():
                self._judge(entry / "exe", found)
        for named in filter(os.path.isabs, self._globs):
            for match in glob.iglob(named, recursive=True, include_hidden=True):  # noqa: PTH207 - Path.glob raises on some
                self._judge(Path(match), found)
        for folder in dict.fromkeys([*os.environ.get("PATH", "").split(":"), *SEARCHED]):
            for path in Path(folder).iterdir() if folder and Path(folder).is_dir() else ():
                self._judge(path, found)
        return [(inode, device, wanted) for (inode, device), wanted in found.items()]

    def _judge(self, path: Path, found: dict[tuple[int, int], bool]) -> None:
        try:
            real = os.readlink(path) if path.parent.parent == self._proc else str(path.resolve())  # noqa: PTH115
            status = path.stat()
        except OSError:
            return
        key = status.st_ino, kernel_device(status.st_dev)
        wanted = self.wants(real.removesuffix(" (deleted)")) or self.wants(str(path))
        found[key] = found.get(key, False) or wanted

    def judge_process(self, tgid: int, comm: str, fd: int) -> bool | None:
        """Judge a process that passed unjudged, and tell the kernel.

        Of one that is gone only its name is left (comm: the first 15 bytes of the executable's): enough for a glob of
        names, not for one of paths, hence None: not known.
        """
        exe = self._proc / str(tgid) / "exe"
        try:
            path, status = os.readlink(exe), exe.stat()  # noqa: PTH115
        except OSError:
            names = [one for one in self._globs if "/" not in one]
            if any(fnmatch.fnmatchcase(comm, one) for one in names):
                return True
            return False if len(names) == len(self._globs) and len(comm) < COMM_BYTES else None
        wanted = self.wants(path.removesuffix(" (deleted)"))
        key = status.st_ino.to_bytes(8, "little") + kernel_device(status.st_dev).to_bytes(8, "little")
        with suppress(OSError):  # the kernel's table is full: its records are judged here each time
            maps.update(fd, key, bytes([wanted]))
        return wanted
