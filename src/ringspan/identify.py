"""Who: a service name for each process, looked up while it lives, else from what exec left of it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ringspan import births, contract
from ringspan.births import Birth
from ringspan.cgroups import Cgroups
from ringspan.directory.keep import Directories
from ringspan.model import Identity
from ringspan.naming import NAMELESS, NO_NAMES, Process, Who, facts_of, who_is
from ringspan.process import TICK_NS, has_begun_at, image
from ringspan.recent import Recent
from ringspan.rules import Rule

UNKNOWN = facts_of(Process(b"", b"", "", ""))
SERVER = contract.number("ROLE_SERVER")
RECHECK_S = 1.0
CACHE_MAX = 8192
BYTES_MAX = 32 << 20  # of the names of processes, of what exec left of them, and of what runs an exec
TEXT_MAX = 1 << 17  # of a process's arguments or environment, which it may make as long as it likes


def _file(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(TEXT_MAX)


def _link(path: Path) -> bytes:
    return os.readlink(os.fsencode(path))  # noqa: PTH115


def _read(root: Path) -> Process:
    """Read /proc/PID; raises OSError if the process is gone."""
    readers = {"exe": _link, "cmdline": _file, "environ": _file, "cgroup": _file}
    texts = {}
    for name, read in readers.items():
        try:
            texts[name] = read(root / name)
        except PermissionError:  # another user's, without CAP_SYS_PTRACE or CAP_DAC_READ_SEARCH
            texts[name] = b""
    executable = texts["exe"].removesuffix(b" (deleted)").decode(errors="backslashreplace")
    return Process(
        texts["cmdline"], births.telling(texts["environ"]), texts["cgroup"].decode(errors="replace"), executable
    )


class Known(NamedTuple):
    """An answer given before: whose, by what /proc showed, and when that was looked at."""

    start_ns: int
    shown: int  # a hash of what /proc showed, which may be long: it only tells whether that has changed
    checked: float
    version: int  # of the directories
    who: Who

    @property
    def size(self) -> int:
        """The bytes it takes, about."""
        return self.who.size


class Identifier:
    """Answers who a row belongs to; keeps one answer per process."""

    def __init__(
        self, proc: Path = Path("/proc"), rules: tuple[Rule, ...] = (), directories: Directories = NO_NAMES
    ) -> None:
        self._proc, self._directories = proc, directories
        self._rules = rules
        self._cgroups = Cgroups()
        self._known: Recent[int, Known] = Recent(CACHE_MAX, BYTES_MAX)
        self._born: Recent[tuple[int, int], Birth] = Recent(CACHE_MAX, BYTES_MAX)
        self._newest: dict[int, int] = {}  # when the latest process of a number began, of those in _born
        self._images: Recent[int, Birth | Who] = Recent(CACHE_MAX, BYTES_MAX)  # what runs an exec, itself or forked
        self._forgotten = 0
        self._unplaced: set[tuple[int, int]] = set()
        self.unplaced = 0  # processes that were gone, and their control group too

    @property
    def let_go(self) -> dict[str, int]:
        """How much was dropped for want of room."""
        return {"processes": self._forgotten, "cgroups": self._cgroups.forgotten}

    def born(self, begun: np.ndarray[Any, np.dtype[Any]]) -> None:
        """Note processes that have begun (contract.h: struct birth)."""
        self._cgroups.look(set(begun["cgroup"].tolist()))
        for one in begun:
            key = int(one["tgid"]), int(one["process_start_ns"])
            birth = births.read(one, self._former(*key))
            self._newest[key[0]] = key[1]
            for tgid, start_ns in self._born.put(key, birth):
                if self._newest.get(tgid) == start_ns:
                    del self._newest[tgid]
                self._forgotten += 1
            self._images.put(birth.image, birth)  # for those that it forks

    def _former(self, tgid: int, start_ns: int) -> Birth | Who | None:
        """Forget who a process is, since it is another program now; returns who it was, if that is known."""
        known = self._known.pop(tgid)
        if known and known.start_ns == start_ns:
            return known.who
        before = self._born.get((tgid, start_ns))
        return before and before._replace(former=None)

    def set_rules(self, rules: tuple[Rule, ...]) -> None:
        """Have other rules from now on."""
        self._rules = rules
        self._known.clear()
        for key, birth in self._born.items():
            self._born.put(key, birth._replace(former=None) if isinstance(birth.former, Who) else birth)
        for of in [of for of, what in self._images.items() if isinstance(what, Who)]:
            self._images.pop(of)

    def __call__(self, row: Any) -> Identity:
        """Return the identity of a row's process."""
        is_server = row.role == SERVER
        return self.who(row).at("server" if is_server else "client", row.local_port if is_server else row.remote_port)

    def who(self, row: Any) -> Who:
        """Return a row's process, whatever its connection."""
        birth = self._born.get((row.tgid, row.process_start_ns))
        if birth and row.start_ktime_ns < birth.since_ns:
            return self._as_it_was(row, birth.former)
        known = self._known.get(row.tgid)
        if known and known.start_ns != row.process_start_ns:
            known = None
        now = time.monotonic()
        if known and now - known.checked < RECHECK_S:
            return known.who
        try:
            known = self._look(row, known, now)
        except (OSError, IndexError, ValueError):
            return known.who if known else self._as_born(row)
        self._forgotten += len(self._known.put(row.tgid, known))
        left = self._images.get(row.image)
        if row.image and (left is None or (row.executed and isinstance(left, Who))):
            self._images.put(row.image, known.who)
        return known.who

    def _look(self, row: Any, known: Known | None, now: float) -> Known:
        """Look in /proc, again only if exec has made another of the process; raises OSError if it is gone."""
        root = self._proc / str(row.tgid)
        if row.process_start_ns and (self._may_be_another(row) or not has_begun_at(root, row.process_start_ns)):
            raise ProcessLookupError(row.tgid)  # another has its pid by now
        process, version = _read(root), self._directories.version
        shown = hash(process)
        same = known and known.shown == shown and known.version == version
        who = known.who if known and same else self._named(row, process)
        return Known(row.process_start_ns, shown, now, version, who)

    def _may_be_another(self, row: Any) -> bool:
        """Whether /proc may show another process of the same number: it tells apart by ticks of the clock alone."""
        if self._newest.get(row.tgid, 0) > row.process_start_ns:
            return True
        is_young = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - row.process_start_ns < 2 * TICK_NS
        return is_young and (row.tgid, row.process_start_ns) in self._born

    def _named(self, row: Any, process: Process) -> Who:
        """Name a process that lives; what it was executed with counts, where that is known."""
        left = self._own(row) or (None if row.executed else self._forked_from(row))
        return self._is(births.beside(left, process) if isinstance(left, Birth) else process)

    def _is(self, process: Process) -> Who:
        return who_is(process, self._rules, self._directories)

    def _own(self, row: Any) -> Birth | None:
        """Return what exec left of a row's process, unless that was lost of a later exec."""
        own = self._born.get((row.tgid, row.process_start_ns))
        return own if own and own.image == row.image else None

    def _forked_from(self, row: Any) -> Birth | Who | None:
        """Return what is known of the exec that a process which had none runs: its parent's, or one's further up."""
        parent = self._born.get((row.parent_tgid, row.parent_start_ns))
        if parent and parent.image == row.image:
            return parent
        return self._images.get(row.image) if row.image else None

    def _as_born(self, row: Any) -> Who:
        """Name a process that is gone by what exec left of it; if it was only forked, it is its parent."""
        return self._as_it_was(row, self._own(row))

    def _as_it_was(self, row: Any, left: Birth | Who | None) -> Who:
        """Name a process by what is left of it, or of what it was before it was another program."""
        if left is None and not row.executed:
            left = self._forked_from(row) or self._parent(row)
        if isinstance(left, Birth):
            return self._is(births.alone(left, self._placed(row, left.cgroup)))
        return left or self._by_thread(row)

    def _placed(self, row: Any, cgroup: int) -> str:
        """Return the control group of a process that is gone; one that is not known is counted."""
        path, key = self._cgroups.path(cgroup), (row.tgid, row.process_start_ns)
        if not path and key not in self._unplaced:
            if len(self._unplaced) >= CACHE_MAX:
                self._unplaced.clear()
            self._unplaced.add(key)
            self.unplaced += 1
        return path

    def _by_thread(self, row: Any) -> Who:
        """Name a row by its thread, when nothing else is known of its process."""
        name = row.comm.decode(errors="backslashreplace") or NAMELESS
        return Who(Identity(name), tuple(rule for rule in self._rules if rule.is_of(UNKNOWN)))

    def _parent(self, row: Any) -> Who | None:
        """Name a row's parent, if that one runs the same exec (it may be another, for an orphan) and still lives."""
        root = self._proc / str(row.parent_tgid)
        try:
            if not row.parent_start_ns or not has_begun_at(root, row.parent_start_ns) or image(root) != row.image:
                return None
            return self._is(_read(root))
        except (OSError, IndexError, ValueError):
            return None
