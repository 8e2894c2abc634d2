"""The process that attaches the BPF programs to TLS libraries, those that run now and those that appear later.

Run as `python -m ringspan.tls.attacher SOCKET_FD`. It is told what to look for, then given the programs' descriptors;
says what it has attached to, and goes on until the other end of the socket is closed. It keeps the capabilities that
reading other processes' files and attaching take, and no others; it reads nothing of what strangers send.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import select
import signal
import socket
import stat
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import BinaryIO, NamedTuple

from ringspan import privileges, sandbox
from ringspan.printable import printable
from ringspan.probe import btf, load
from ringspan.probe.compiler import die_with_parent
from ringspan.tls import libraries, places
from ringspan.tls.libraries import Mapped, Wanted
from ringspan.tls.mappings import Key, Mappings
from ringspan.tls.places import LIBRARY, Places

LOOK_S, LOOK_AT_ALL_S = 0.02, 2.0
FILES_MAX, JUDGED_MAX = 512, 1 << 16
MESSAGE_BYTES, DESCRIPTORS = 1 << 16, 64
PROGRAM = "on_{}_{}@{}"  # bpf/tls_programs.h
log = logging.getLogger(__name__)


class File(NamedTuple):
    """What tells a file from others: as `stat` has it, with the time of its last change."""

    device: int
    inode: int
    changed_ns: int


def _plain_file(path: str) -> BinaryIO:
    """Open a file to read, if it is one: to open a device, or to wait at a FIFO, is what a stranger may want."""
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(place).st_mode):
            raise OSError(errno.EINVAL, "not a file")
        return open(f"/proc/self/fd/{place}", "rb")  # noqa: PTH123
    finally:
        os.close(place)


class Attacher:
    """Looks into files, each once, and attaches to those that hold a TLS library."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._programs: dict[str, int] = {}
        self._links: list[int] = []
        self._judged: set[File] = set()
        self._pending: list[tuple[str, int, Places]] = []
        self.attached: list[str] = []

    def look_into(self, path: str, inode: int = 0, name: str = "") -> bool:
        """Look into a file, unless that was done before; returns whether it is there.

        `inode`: if it is still this one; `name`: as others know it.
        """
        name = name or path
        if not self._wanted(name):
            return True
        with suppress(OSError), _plain_file(path) as file:
            status = os.fstat(file.fileno())
            key = File(status.st_dev, status.st_ino, status.st_ctime_ns)
            if inode not in (0, status.st_ino):
                return False
            if key in self._judged:
                return True
            if len(self._judged) >= JUDGED_MAX:
                self._judged.clear()
            self._judged.add(key)
            found = places.find(file.fileno())
            if not found.obstacle:
                self._attach(name, os.dup(file.fileno()), found)
            return True
        return False

    def look_at_all(self) -> None:
        """Look into what the linker's cache names, and what processes have mapped."""
        for path in libraries.cached():
            self.look_into(path)
        known = set()
        for one in libraries.running():
            if (one.path, one.inode) not in known or not one.inode:
                known.add((one.path, one.inode))
                self.look_into_mapped(one)

    def look_into_mapped(self, one: Mapped) -> None:
        """Look into a file that a process has mapped; if that is gone, by the same path as ours."""
        if one.path[:1] == "/" and not self.look_into(one.through, one.inode, one.path):
            self.look_into(one.path, one.inode)

    def begin(self, programs: dict[str, int]) -> None:
        """Take the programs; attach to what was found before they came."""
        self._programs = programs
        pending, self._pending = self._pending, []
        for name, fd, found in pending:
            self._attach(name, fd, found)

    def _attach(self, name: str, fd: int, found: Places) -> None:
        """Attach to a file by its descriptor: its name may be another's by now."""
        if not self._programs:
            self._pending.append((name, fd, found))
            return
        try:
            if len(self.attached) >= FILES_MAX:
                log.warning("TLS of %s is not followed: %s files are", printable(name), FILES_MAX)
                return
            self._link(f"/proc/self/fd/{fd}", found)
            self.attached.append(name)
        except OSError as error:
            log.warning("TLS of %s is not followed: %s", printable(name), error.strerror)
        finally:
            os.close(fd)

    def _link(self, path: str, found: Places) -> None:
        """Attach, returns first: a call that is seen to begin is then seen to end."""
        enter, leave = (PROGRAM.format(found.language, at, LIBRARY) for at in ("enter", "return"))
        at_return = found.language == LIBRARY
        if enter in self._programs:
            self._links.append(load.attach_uprobes(path, self._programs[leave], found.returns, at_return=at_return))
            self._links.append(load.attach_uprobes(path, self._programs[enter], found.entries, at_return=False))
            return
        for offset in found.returns:
            self._links.append(load.attach_uprobe(path, self._programs[leave], offset, at_return=at_return))
        for offset, number in found.entries.items():
            self._links.append(load.attach_uprobe(path, self._programs[f"{enter}{number}"], offset, at_return=False))

    def end(self) -> None:
        """Detach; side by side, since each waits for the kernel."""
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(os.close, self._links))
        self._links = []


class Watch:
    """Says what was mapped since, where perf's records may be had; else all there is, now and then."""

    def __init__(self, attacher: Attacher) -> None:
        self._attacher = attacher
        self._known: set[Key] = set()
        self._mappings: Mappings | None = None
        self._next_look = time.monotonic() + LOOK_AT_ALL_S
        try:
            self._mappings = Mappings()
        except OSError as error:
            log.warning("new TLS libraries are found after up to %g s: %s", LOOK_AT_ALL_S, error.strerror)

    def look(self) -> None:
        """Look into what is new."""
        if not self._mappings:
            if time.monotonic() >= self._next_look:
                self._attacher.look_at_all()
                self._next_look = time.monotonic() + LOOK_AT_ALL_S
            return
        for mapped, key in self._mappings.take():
            if key not in self._known:
                if len(self._known) >= JUDGED_MAX:
                    self._known.clear()
                self._known.add(key)
                self._attacher.look_into_mapped(mapped)
        if self._mappings.lost:
            self._mappings.lost = False
            self._attacher.look_at_all()


def serve(channel: socket.socket) -> None:
    """Serve the consumer until it goes."""
    said = channel.recv(MESSAGE_BYTES)
    if not said:
        return
    told = json.loads(said)
    attacher = Attacher(Wanted(tuple(told["include"]), tuple(told["exclude"])))
    privileges.limit_to_attaching(by_events=not btf.has_uprobe_multi())
    die_with_parent(signal.SIGKILL)  # whatever it hangs in
    if told["sandbox"]:
        sandbox.enter(attaching=True)
    watch = Watch(attacher)
    attacher.look_at_all()
    data, fds, _, _ = socket.recv_fds(channel, MESSAGE_BYTES, DESCRIPTORS)
    if not data:
        return
    attacher.begin(dict(zip(json.loads(data), fds, strict=True)))
    watch.look()
    channel.send(json.dumps({"attached": len(attacher.attached)}).encode())
    while not select.select([channel], [], [], LOOK_S)[0]:
        watch.look()
    attacher.end()
    with suppress(OSError):
        channel.send(b"detached")


def main() -> None:
    """Serve; an interrupt from the terminal is the consumer's to act upon."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    with suppress(ConnectionError):
        serve(socket.socket(fileno=int(sys.argv[1])))
    os._exit(0)


if __name__ == "__main__":
    main()
