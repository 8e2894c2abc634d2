"""Which files may hold a TLS library: by name, in the linker's cache and among what processes have mapped."""

from __future__ import annotations

import fnmatch
import glob
import logging
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

CACHE = Path("/etc/ld.so.cache")
MAGIC = b"glibc-ld.so.cache1.1"
HEADER_BYTES, ENTRY = 48, struct.Struct("<iIIIQ")  # struct cache_file_new, file_entry_new (glibc's dl-cache.h)
NAMED = re.compile(r"lib(ssl|gnutls|boringssl|python)[-_.\w+]*\.so[.\d]*|[^/]*(ssl|tls)[^/]*\.so[.\d]*", re.IGNORECASE)
SHARED = re.compile(r"\.so(\.|$)")
DELETED = " (deleted)"
MAPS_BYTES = 16 << 20  # of /proc/PID/maps: some 160,000 mappings as they are, 4,096 of the longest paths
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """Which files are looked into: TLS libraries by their names, executables, and as the user says."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def __call__(self, *paths: str) -> bool:
        """Whether a file may hold a TLS library by any of its paths, is asked for, and by none is not to be."""
        return not any(map(self.excludes, paths)) and any(map(self._may_be, paths))

    def excludes(self, path: str) -> bool:
        """Whether a file is not to be followed, if this is one of its paths."""
        return _matches(path, self.exclude)

    def resolved(self) -> Wanted:
        """Exclude files by where the linker's names lead, too: what is mapped has no other path."""
        led = {glob.escape(os.path.realpath(path)) for path in cached() if self.excludes(path)}
        return Wanted(self.include, (*self.exclude, *sorted(led)))

    def _may_be(self, path: str) -> bool:
        name = path.rpartition("/")[2]
        return not SHARED.search(name) or bool(NAMED.fullmatch(name)) or _matches(path, self.include)


def _matches(path: str, globs: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(path, one) for one in globs)


class Mapped(NamedTuple):
    """A file that a process has mapped to run: its path as that process sees it."""

    pid: int
    path: str
    inode: int
    device: bytes = b""  # as /proc/PID/maps has it
    begin: int = 0
    end: int = 0

    @property
    def through(self) -> str:
        """The path by which others see it."""
        return f"/proc/{self.pid}/root{self.path}"

    @property
    def itself(self) -> str:
        """The file itself, whatever its path leads to now: for who has CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE."""
        return f"/proc/{self.pid}/map_files/{self.begin:x}-{self.end:x}"


def cached(cache: Path = CACHE) -> list[str]:
    """Return the paths of shared libraries that the linker's cache names."""
    try:
        raw = cache.read_bytes()
        raw = raw[raw.index(MAGIC) :]
        (count,) = struct.unpack_from("<I", raw, len(MAGIC))
        entries = ENTRY.iter_unpack(raw[HEADER_BYTES : HEADER_BYTES + count * ENTRY.size])
        return list(dict.fromkeys(_text(raw, value) for _, _, value, _, _ in entries))
    except (OSError, ValueError, struct.error):
        return []


def _text(raw: bytes, at: int) -> str:
    return os.fsdecode(raw[at : raw.index(b"\0", at)])


def of_process(pid: int, proc: Path = Path("/proc")) -> Iterator[Mapped]:
    """List the files that a process has mapped to run, each once; of very many mappings the first."""
    known = set()  # hashes: a path may have 4 KiB, and a process 65,530 of them, or as vm.max_map_count says
    for line in _mappings(pid, proc):
        words = line.rstrip(b"\n").split(None, 5)
        if len(words) == 6 and words[1][2:3] == b"x" and words[5][:1] == b"/" and hash(words[5]) not in known:
            known.add(hash(words[5]))
            begin, _, end = words[0].partition(b"-")
            yield Mapped(pid, os.fsdecode(words[5]), int(words[4]), words[3], int(begin, 16), int(end, 16))


def _mappings(pid: int, proc: Path) -> Iterator[bytes]:
    left = MAPS_BYTES
    try:
        with (proc / str(pid) / "maps").open("rb") as file:
            for line in file:
                left -= len(line)
                if left < 0:
                    _say_cut(pid)
                    return
                yield line
    except OSError:
        return


@lru_cache(1024)
def _say_cut(pid: int) -> None:
    """Say once of a process that not all of it was looked at."""
    log.warning("process %d has more than %d MiB of mappings: TLS libraries beyond are not seen", pid, MAPS_BYTES >> 20)


def running(proc: Path = Path("/proc")) -> Iterator[Mapped]:
    """List what all processes have mapped to run."""
    for entry in os.listdir(proc):  # noqa: PTH208
        if entry.isdigit() and int(entry) != os.getpid():
            yield from of_process(int(entry), proc)
