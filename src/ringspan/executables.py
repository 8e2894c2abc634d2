"""--exe GLOB: which executables are asked for. The kernel knows inodes, devices, ctimes; user space judges by path."""

from __future__ import annotations

import fnmatch
import glob
import os
import struct
from pathlib import Path

from ringspan.process import has_begun_at

COMM_BYTES = 15
KEY = struct.Struct("<QQQ")  # struct executable in bpf/state.h
SEARCHED = ("/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/bin", "/sbin")


def kernel_device(device: int) -> int:
    """Return a device number as the kernel packs it (MKDEV: 12 bits of major, 20 of minor)."""
    return os.major(device) << 20 | os.minor(device)


def key_of(status: os.stat_result) -> tuple[int, int, int]:
    """Return what the kernel knows an executable by: inode, device, ctime. What is done to a file changes the last."""
    return status.st_ino, kernel_device(status.st_dev), status.st_ctime_ns


class Executables:
    """Judges executables by globs: one with a slash against the whole path, one without against the name."""

    def __init__(self, globs: list[str], proc: Path = Path("/proc")) -> None:
        self._globs = globs
        self._proc = proc
        self.emptied = 0  # how often the kernel's table of verdicts was full

    def wants(self, path: str) -> bool:
        """Does any glob match this path?"""
        name = path.rsplit("/", 1)[-1]
        return any(fnmatch.fnmatchcase(path if "/" in one else name, one) for one in self._globs)

    def known(self) -> list[tuple[int, int, int, bool]]:
        """Judge what runs now and what lies on the search path: (inode, device, ctime, wanted)."""
        found: dict[tuple[int, int, int], bool] = {}
        for entry in self._proc.iterdir():
            if entry.name.isdigit():
                self._judge(entry / "exe", found)
        for named in filter(os.path.isabs, self._globs):
            for match in glob.iglob(named, recursive=True, include_hidden=True):  # noqa: PTH207 - Path.glob raises on some
                self._judge(Path(match), found)
        for folder in dict.fromkeys([*os.environ.get("PATH", "").split(":"), *SEARCHED]):
            for path in Path(folder).iterdir() if folder and Path(folder).is_dir() else ():
                self._judge(path, found)
        return [(*key, wanted) for key, wanted in found.items()]

    def _judge(self, path: Path, found: dict[tuple[int, int, int], bool]) -> None:
        try:
            real = os.readlink(path) if path.parent.parent == self._proc else str(path.resolve())  # noqa: PTH115
            status = path.stat()
        except OSError:
            return
        key = key_of(status)
        wanted = self.wants(real.removesuffix(" (deleted)")) or self.wants(str(path))
        found[key] = found.get(key, False) or wanted

    def judge_process(self, tgid: int, start_ns: int, comm: str, fd: int) -> bool | None:
        """Judge a process that passed unjudged, and tell the kernel.

        Of one that is gone only its name is left (comm: the first 15 bytes of the executable's): enough for a glob of
        names, not for one of paths, hence None: not known.
        """
        root = self._proc / str(tgid)
        try:
            path, status = os.readlink(root / "exe"), (root / "exe").stat()  # noqa: PTH115
            there = has_begun_at(root, start_ns)
        except (OSError, IndexError, ValueError):
            there = False
        if not there:
            names = [one for one in self._globs if "/" not in one]
            if any(fnmatch.fnmatchcase(comm, one) for one in names):
                return True
            return False if len(names) == len(self._globs) and len(comm) < COMM_BYTES else None
        wanted = self.wants(path.removesuffix(" (deleted)"))
        self._tell(fd, KEY.pack(*key_of(status)), wanted)
        return wanted

    def _tell(self, fd: int, key: bytes, wanted: bool) -> None:
        """Tell the kernel a verdict; if its table is full (of files that are gone, mostly), all are judged anew."""
        from ringspan.probe import maps  # noqa: PLC0415 - a start must not wait for numpy

        try:
            maps.update(fd, key, bytes([wanted]))
        except OSError:
            maps.clear(fd, KEY.size, 1)
            self.emptied += 1
            maps.update(fd, key, bytes([wanted]))
