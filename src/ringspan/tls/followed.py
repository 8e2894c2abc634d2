"""Files that are followed: attached to for all processes or for those asked for, let go of before one is written to."""

from __future__ import annotations

import errno
import logging
import os
import resource
import threading
import time
from collections.abc import Container, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from ringspan.printable import printable
from ringspan.probe import load
from ringspan.tls.guards import Guards
from ringspan.tls.places import LIBRARY, Places

FILES_MAX, PIDS_MAX = 512, 16  # of more processes, all are attached to: each has links of its own
DESCRIPTORS, SPARE_DESCRIPTORS, THREADS = 1024, 256, 16
SETTLE_S, SETTLE_MAX_S, DEFERRED_MAX = 0.5, 60.0, 1024
Place = tuple[int, int]  # device, inode
PROGRAM = "on_{}_{}@{}"  # bpf/tls_programs.h
ALL = 0  # in a process's place
log = logging.getLogger(__name__)


class File(NamedTuple):
    """What tells a file from others, as `stat` has it, and what is in it from what was before: its last change."""

    device: int
    inode: int
    changed_ns: int

    @property
    def place(self) -> Place:
        """What tells a file from others while it is held."""
        return self.device, self.inode

    @classmethod
    def of(cls, fd: int) -> File:
        """Look at an open file."""
        status = os.fstat(fd)
        return cls(status.st_dev, status.st_ino, status.st_ctime_ns)


class Found(NamedTuple):
    """A file with a TLS library: by which path it was found, and by which others know it; `pid`: who uses it."""

    path: str
    name: str
    pid: int
    places: Places = Places()
    tries: int = 0  # so far


class Again(NamedTuple):
    """A file that is to be looked into again, when, and by which descriptor: nobody may use it any more."""

    due: float
    found: Found
    held: int = -1


@dataclass
class Followed:
    """A file that is followed, held open; for which processes, and the links."""

    found: Found
    fd: int
    links: dict[int, list[int]] = field(default_factory=dict)


class Files:
    """Follows files; `refused` counts those there was no room for, `changed` those let go of since they changed."""

    def __init__(self, pids: Iterable[int] = ()) -> None:
        asked = frozenset(pids)
        self.pids = asked if len(asked) <= PIDS_MAX else frozenset()
        self._programs: dict[str, int] = {}
        self._followed: dict[Place, Followed] = {}
        self._unsettled: list[Again] = []
        self._guards = Guards()
        self._by_process: bool | None = None
        self._descriptors = _descriptors() - SPARE_DESCRIPTORS
        self.refused = self.changed = 0
        self.full = False

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._followed)

    def take(self, key: File, pid: int) -> bool:
        """Attach to a file for a process, if it is one that is followed; returns whether it is."""
        followed = self._followed.get(key.place)
        if followed:
            self._link(followed, pid)
        return bool(followed)

    def follow(self, key: File, fd: int, found: Found) -> None:
        """Follow a file by its descriptor, whose places have been read; one that is being written is tried later."""
        fd = os.dup(fd)
        try:
            if not self._has_room(found):
                os.close(fd)
                return
            self._guards.add(fd)
            if File.of(fd) != key:
                raise BlockingIOError(errno.EAGAIN, "it has changed")  # noqa: TRY301
        except BlockingIOError:
            self._drop(fd)
            self.defer(found)
        except OSError as error:
            self._drop(fd)
            log.warning("TLS of %s is not followed: cannot tell when it is written to: %s", *_words(found, error))
        else:
            self._followed[key.place] = Followed(found, fd)
            self._link(self._followed[key.place], found.pid)

    def defer(self, found: Found) -> None:
        """Have a file looked into later, and ever later: who keeps it from being read may be a stranger."""
        if len(self._unsettled) < DEFERRED_MAX:
            due = time.monotonic() + min(SETTLE_S * 2**found.tries, SETTLE_MAX_S)
            self._unsettled.append(Again(due, found._replace(tries=found.tries + 1, places=Places())))
        else:
            self.refused += 1

    def begin(self, programs: dict[str, int]) -> None:
        """Take the programs; attach to what was found before they came."""
        self._programs = programs
        for followed in list(self._followed.values()):
            for pid in list(followed.links):
                self._link(followed, pid)

    def let_go(self) -> None:
        """Let go of files that are about to be written to."""
        for fd in self._guards.broken():
            for place in [place for place, one in self._followed.items() if one.fd == fd]:
                self._let_go(place)

    def settle(self) -> Iterator[tuple[Found, str]]:
        """Let go of such files; yield those that are to be looked into again, with the path to open."""
        self.let_go()
        now = time.monotonic()
        due = [one for one in self._unsettled if one.due <= now]
        self._unsettled = [one for one in self._unsettled if one.due > now]
        for one in due:
            yield one.found, one.found.path if one.held < 0 else f"/proc/self/fd/{one.held}"
            if one.held >= 0:
                os.close(one.held)

    def may_forget(self) -> bool:
        """Whether it is worth asking who has mapped what: there is no room, or there are deleted files."""
        return self.full or any(not os.fstat(one.fd).st_nlink for one in self._followed.values())

    def forget(self, mapped: Container[int], kept: Container[str]) -> None:
        """Let go of files that nobody has mapped: of deleted ones, and if there is no room, of all but those `kept`.

        `mapped`: numbers of inodes; `kept`: names.
        """
        for place, one in list(self._followed.items()):
            unused = self.full and one.found.name not in kept
            if place[1] not in mapped and (unused or not os.fstat(one.fd).st_nlink):
                self._end(self._followed.pop(place))
        self.full = False

    def end(self) -> None:
        """Detach; side by side, since each waits for the kernel."""
        _close([link for followed in self._followed.values() for links in followed.links.values() for link in links])
        self._followed = {}

    def _let_go(self, place: Place) -> None:
        followed = self._followed.pop(place)
        due, path = time.monotonic() + SETTLE_S, f"/proc/self/fd/{followed.fd}"
        held = [os.open(path, os.O_PATH | os.O_CLOEXEC) for _ in followed.links]
        self._end(followed)
        self.changed += 1
        self._unsettled += [
            Again(due, followed.found._replace(pid=pid, tries=0), fd)
            for pid, fd in zip(followed.links, held, strict=True)
        ]

    def _end(self, followed: Followed) -> None:
        _close([link for links in followed.links.values() for link in links])
        self._drop(followed.fd)

    def _drop(self, fd: int) -> None:
        self._guards.remove(fd)
        os.close(fd)

    def _has_room(self, found: Found) -> bool:
        held = sum(1 + sum(map(len, one.links.values())) for one in self._followed.values())
        places = found.places
        links = len(places.entries) + len(places.returns)
        needed = 1 + (2 * max(1, len(self.pids)) if self._is_multi(places) else links)
        if len(self._followed) < FILES_MAX and held + needed <= self._descriptors:
            return True
        if not self.refused:
            log.warning(
                "TLS of %s is not followed: %s files are; nor is that of others", printable(found.name), len(self)
            )
        self.refused += 1
        self.full = True
        return False

    def _is_multi(self, places: Places) -> bool:
        return not self._programs or PROGRAM.format(places.language, "enter", LIBRARY) in self._programs

    def _link(self, followed: Followed, pid: int) -> None:
        """Attach for a process, unless that is done, or there are no programs yet."""
        pid = pid if self.pids else ALL
        if followed.links.get(pid) or (self._programs and followed.links.get(ALL)):
            return
        followed.links[pid] = []
        if not self._programs:
            return
        if pid and not self._tells_processes(followed):
            del followed.links[pid]
            pid = ALL
        try:
            followed.links[pid] = self._attach(followed, pid)
        except OSError as error:
            if error.errno != errno.ESRCH:
                log.warning("TLS of %s is not followed: %s", *_words(followed.found, error))

    def _attach(self, followed: Followed, pid: int) -> list[int]:
        """Attach, returns first: a call that is seen to begin is then seen to end; raises OSError."""
        path, places = f"/proc/self/fd/{followed.fd}", followed.found.places
        enter, leave = (PROGRAM.format(places.language, at, LIBRARY) for at in ("enter", "return"))
        links: list[int] = []
        try:
            if self._is_multi(places):
                for program, offsets in ((leave, places.returns), (enter, places.entries)):
                    links.append(load.attach_uprobes(path, self._programs[program], offsets, pid))
                return links
            each = [(leave, offset) for offset in places.returns]
            each += [(f"{enter}{number}", offset) for offset, number in places.entries.items()]
            for program, offset in each:
                links.append(load.attach_uprobe(path, self._programs[program], offset))
        except OSError:
            _close(links)
            raise
        return links

    def _tells_processes(self, followed: Followed) -> bool:
        """Whether links are for processes. Until 6.10 (46ba0e49b642) they were for threads: one is tried."""
        if self._by_process is None and self._is_multi(followed.found.places):
            with ThreadPoolExecutor(1) as pool:
                thread = pool.submit(threading.get_native_id).result()
                try:
                    _close(self._attach(followed, thread))
                    self._by_process = False
                except OSError as error:
                    self._by_process = error.errno == errno.ESRCH
        return bool(self._by_process)


def _descriptors() -> int:
    """Have as many descriptors as are allowed; returns how many, or what there are at the least if that is not told."""
    try:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard == resource.RLIM_INFINITY:
            return soft
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):  # a unit may forbid to ask
        return DESCRIPTORS
    return hard


def _words(found: Found, error: OSError) -> tuple[str, str]:
    return printable(found.name), error.strerror or str(error)


def _close(fds: list[int]) -> None:
    with ThreadPoolExecutor(THREADS) as pool, suppress(OSError):
        list(pool.map(os.close, fds))
