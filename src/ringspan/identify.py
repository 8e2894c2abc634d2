"""Who: a service name for each process, looked up while it lives, else from what exec left of it."""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ringspan import contract
from ringspan.cgroups import Cgroups
from ringspan.directory.keep import Directories
from ringspan.model import Identity
from ringspan.naming import NAMELESS, NO_NAMES, Process, Who, facts_of, who_is
from ringspan.process import TICK_NS, has_begun_at
from ringspan.rules import VARIABLES, Rule

UNKNOWN = facts_of(Process(b"", b"", "", ""))
SERVER = contract.number("ROLE_SERVER")
RECHECK_S = 1.0
CACHE_MAX = 8192
TEXT_MAX = 1 << 17  # of a process's arguments or environment, which it may make as long as it likes
TELLING = tuple(f"{name}=".encode() for name in VARIABLES)
OF_A_PROCESS = ("/proc/", "/dev/fd/", "/dev/std")  # names of what the process that says them has open


class Birth(NamedTuple):
    """What exec left of a process; of the environment only what tells. What it did before, it did as what it was."""

    arguments: bytes
    environment: bytes
    filename: str
    cgroup: int
    since_ns: int  # when that was, by the clock of records
    former: Birth | Who | None = None


def _telling(environment: bytes) -> bytes:
    """Return of an environment what names and rules go by: the rest may be long, and secret."""
    return b"\0".join(word for word in environment.split(b"\0") if word.startswith(TELLING))


def _executable(filename: str) -> str:
    """Return a name that exec was given, as it is: where its links lead, only the process that is gone could tell."""
    plain = os.path.normpath("/" + filename.lstrip("/")) if filename.startswith("/") else filename
    return "" if plain.startswith(OF_A_PROCESS) else filename


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
    return Process(texts["cmdline"], _telling(texts["environ"]), texts["cgroup"].decode(errors="replace"), executable)


class Known(NamedTuple):
    """An answer given before: whose, by what /proc showed, and when that was looked at."""

    start_ns: int
    process: Process
    checked: float
    version: int  # of the directories
    who: Who


class Identifier:
    """Answers who a row belongs to; keeps one answer per process."""

    def __init__(
        self, proc: Path = Path("/proc"), rules: tuple[Rule, ...] = (), directories: Directories = NO_NAMES
    ) -> None:
        self._proc, self._directories = proc, directories
        self._rules = rules
        self._cgroups = Cgroups()
        self._known: OrderedDict[int, Known] = OrderedDict()
        self._born: OrderedDict[tuple[int, int], Birth] = OrderedDict()
        self._newest: dict[int, int] = {}  # when the latest process of a number began, of those in _born
        self._forgotten = 0

    @property
    def let_go(self) -> dict[str, int]:
        """How much was dropped for want of room."""
        return {"processes": self._forgotten, "cgroups": self._cgroups.forgotten}

    def born(self, births: np.ndarray[Any, np.dtype[Any]]) -> None:
        """Note processes that have begun (contract.h: struct birth)."""
        for birth in births:
            environment = birth["environment"].ljust(births.dtype["environment"].itemsize, b"\0")
            telling = _telling(environment[: int(birth["environment_bytes"])])
            arguments = birth["arguments"][: int(birth["arguments_bytes"])]
            key = int(birth["tgid"]), int(birth["process_start_ns"])
            filename = birth["filename"].partition(b"\0")[0].decode(errors="replace")
            former = self._former(*key)
            self._born[key] = Birth(arguments, telling, filename, int(birth["cgroup"]), int(birth["ktime_ns"]), former)
            self._born.move_to_end(key)
            self._newest[key[0]] = key[1]
        while len(self._born) > CACHE_MAX:
            (tgid, start_ns), _ = self._born.popitem(last=False)
            if self._newest.get(tgid) == start_ns:
                del self._newest[tgid]
            self._forgotten += 1

    def _former(self, tgid: int, start_ns: int) -> Birth | Who | None:
        """Forget who a process is, since it is another program now; returns who it was, if that is known."""
        known = self._known.pop(tgid, None)
        if known and known.start_ns == start_ns:
            return known.who
        before = self._born.get((tgid, start_ns))
        return before and before._replace(former=None)

    def set_rules(self, rules: tuple[Rule, ...]) -> None:
        """Have other rules from now on."""
        self._rules = rules
        self._known.clear()
        for key, birth in self._born.items():
            if isinstance(birth.former, Who):
                self._born[key] = birth._replace(former=None)

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
        self._known[row.tgid] = known
        self._known.move_to_end(row.tgid)
        if len(self._known) > CACHE_MAX:
            self._known.popitem(last=False)
            self._forgotten += 1
        return known.who

    def _look(self, row: Any, known: Known | None, now: float) -> Known:
        """Look in /proc, again only if exec has made another of the process; raises OSError if it is gone."""
        root = self._proc / str(row.tgid)
        if row.process_start_ns and (self._may_be_another(row) or not has_begun_at(root, row.process_start_ns)):
            raise ProcessLookupError(row.tgid)  # another has its pid by now
        process, version = _read(root), self._directories.version
        same = known and known.process == process and known.version == version
        who = known.who if known and same else self._named(row, process)
        return Known(row.process_start_ns, process, now, version, who)

    def _may_be_another(self, row: Any) -> bool:
        """Whether /proc may show another process of the same number: it tells apart by ticks of the clock alone."""
        if self._newest.get(row.tgid, 0) > row.process_start_ns:
            return True
        is_young = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - row.process_start_ns < 2 * TICK_NS
        return is_young and (row.tgid, row.process_start_ns) in self._born

    def _named(self, row: Any, process: Process) -> Who:
        """Name a process that lives; where /proc does not show all of it, exec may have left more."""
        if not process.executable and (row.tgid, row.process_start_ns) in self._born:
            return self._as_born(row)
        return self._is(process)

    def _is(self, process: Process) -> Who:
        return who_is(process, self._rules, self._directories)

    def _as_born(self, row: Any) -> Who:
        """Name a process that is gone by what exec left of it; if it was only forked, it is its parent."""
        return self._as_it_was(row, self._born.get((row.tgid, row.process_start_ns)))

    def _as_it_was(self, row: Any, left: Birth | Who | None) -> Who:
        """Name a process by what is left of it, or of what it was before it was another program."""
        if isinstance(left, Birth):
            cgroup, executable = self._cgroups.path(left.cgroup), _executable(left.filename)
            return self._is(Process(left.arguments, left.environment, cgroup, executable))
        return left or self._as_begun(row)

    def _as_begun(self, row: Any) -> Who:
        """Name a process of which exec left nothing."""
        if row.executed:  # what it was begun with was lost: its parent is another program
            return self._by_thread(row)
        known = self._known.get(row.parent_tgid)
        if known and known.start_ns == row.parent_start_ns:
            return known.who
        birth = self._born.get((row.parent_tgid, row.parent_start_ns))
        if birth and isinstance(birth.former, Who) and row.start_ktime_ns < birth.since_ns:
            return birth.former
        return self._parent(row) or self._by_thread(row)

    def _by_thread(self, row: Any) -> Who:
        """Name a row by its thread, when nothing else is known of its process."""
        name = row.comm.decode(errors="backslashreplace") or NAMELESS
        return Who(Identity(name), tuple(rule for rule in self._rules if rule.is_of(UNKNOWN)))

    def _parent(self, row: Any) -> Who | None:
        """Name a row's parent, if that one was executing the same (by its thread's name) and still lives."""
        root = self._proc / str(row.parent_tgid)
        try:
            if not row.parent_start_ns or not has_begun_at(root, row.parent_start_ns):
                return None
            same = (root / "comm").read_bytes().rstrip(b"\n") == row.comm
            return self._is(_read(root)) if same else None
        except (OSError, IndexError, ValueError):
            return None
