"""The process that attaches the BPF programs to TLS libraries, those that run now and those that appear later.

Run as `python -m ringspan.tls.attacher SOCKET_FD`. It is told what to look for, then given the programs' descriptors;
says what it has attached to, and goes on until the other end of the socket is closed. It keeps the capabilities that
reading other processes' files and attaching take, and no others; it reads nothing of what strangers send.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ringspan import privileges, sandbox
from ringspan.probe import btf
from ringspan.probe.compiler import die_with_parent
from ringspan.tls import libraries, places
from ringspan.tls.bounded import open_file
from ringspan.tls.followed import ALL, File, Files, Found
from ringspan.tls.libraries import Mapped, Wanted
from ringspan.tls.mappings import Key, Mappings

LOOK_S, LOOK_AT_ALL_S, FORGET_S = 0.02, 2.0, 10.0
BETWEEN_LOOKS_S = 0.002  # however much is being mapped
JUDGED_MAX = 1 << 16
MESSAGE_BYTES, DESCRIPTORS = 1 << 16, 64
log = logging.getLogger("ringspan.tls.attacher")  # it is run as a program


class Attacher:
    """Looks into files, each once, and follows those that hold a TLS library."""

    def __init__(self, wanted: Wanted, files: Files) -> None:
        self._wanted = wanted
        self._judged: set[File] = set()
        self.files = files
        self._next_forget = time.monotonic() + FORGET_S

    def look_into(self, path: str, inode: int = 0, name: str = "", pid: int = ALL) -> bool:
        """Look into a file, unless that was done before; returns whether it is there.

        `inode`: if it is still this one; `name`: as others know it; `pid`: a process that uses it.
        """
        return self._look(path, Found(path, name or path, pid), inode)

    def _look(self, path: str, found: Found, inode: int = 0) -> bool:
        if not self._wanted(found.name):
            return True
        try:
            fd = open_file(path)
        except BlockingIOError:  # somebody holds a lease of it
            self.files.defer(found)
            return True
        except OSError:
            return False
        try:
            return self._look_into(fd, inode, found)
        finally:
            os.close(fd)
            self.files.let_go()  # whoever waits for a file waits no longer than one takes to look into

    def _look_into(self, fd: int, inode: int, found: Found) -> bool:
        key = File.of(fd)
        if inode not in (0, key.inode):
            return False
        if not self._wanted(found.name, str(Path(f"/proc/self/fd/{fd}").readlink())):
            return True
        if self.files.take(key, found.pid) or key in self._judged:
            return True
        there = places.find(fd)
        if not there.obstacle:
            self.files.follow(key, fd, found._replace(places=there))
            return True
        if len(self._judged) >= JUDGED_MAX:
            self._judged.clear()
        self._judged.add(key)
        return True

    def look_at_all(self) -> None:
        """Look into what the linker's cache names, and what processes have mapped."""
        for path in self._cached():
            for pid in self.files.pids or (ALL,):
                self.look_into(path, pid=pid)
        known = set()
        for one in self._mapped():
            key = hash((one.path, one.device, one.inode, one.pid if self.files.pids else ALL))  # paths may be long
            if key not in known or not one.inode:
                known.add(key)
                self.look_into_mapped(one)

    def _cached(self) -> set[str]:
        """Return what the linker's cache names, by the paths that processes' maps have."""
        return {os.path.realpath(path) for path in libraries.cached() if not self._wanted.excludes(path)}

    def _mapped(self) -> Iterator[Mapped]:
        if not self.files.pids:
            return libraries.running()
        return itertools.chain.from_iterable(map(libraries.of_process, self.files.pids))

    def look_into_mapped(self, one: Mapped) -> bool:
        """Look into a file that a process has mapped; if that is gone, by the same path as ours.

        Returns whether it was there.
        """
        return (
            one.path[:1] != "/"
            or self.look_into(one.through, one.inode, one.path, one.pid)
            or self.look_into(one.path, one.inode, pid=one.pid)
        )

    def settle(self) -> None:
        """See to files that change, and to those that nobody uses any more."""
        for found, path in self.files.settle():
            if not self._look(path, found):
                self._look(found.name, found)
        if self.files and time.monotonic() >= self._next_forget:
            self._next_forget = time.monotonic() + FORGET_S
            self._forget()

    def _forget(self) -> None:
        if not self.files.may_forget():
            return
        was_full = self.files.full
        self.files.forget({one.inode for one in libraries.running()}, self._cached())
        if was_full:
            self.look_at_all()


class Watch:
    """Says what was mapped since, where perf's records may be had; else all there is, now and then."""

    def __init__(self, attacher: Attacher, channel: socket.socket) -> None:
        self._attacher, self._channel = attacher, channel
        self._told = select.epoll()
        self._told.register(channel, select.EPOLLIN)
        self._looked = 0.0
        self._known: set[tuple[Key, int]] = set()
        self._changed = 0
        self._mappings: Mappings | None = None
        self._next_look = time.monotonic() + LOOK_AT_ALL_S
        try:
            self._mappings = Mappings(self._told)
        except OSError as error:
            log.warning("new TLS libraries are found after up to %g s: %s", LOOK_AT_ALL_S, error.strerror)

    def wait(self) -> bool:
        """Wait until it is time to look: at once if something was mapped, or may be; returns whether to end."""
        time.sleep(max(0.0, self._looked + BETWEEN_LOOKS_S - time.monotonic()))
        woken = [fd for fd, _ in self._told.poll(LOOK_S)]
        self._looked = time.monotonic()
        return self._channel.fileno() in woken

    def look(self) -> None:
        """Look into what is new."""
        if not self._mappings:
            if time.monotonic() >= self._next_look:
                self._attacher.look_at_all()
                self._next_look = time.monotonic() + LOOK_AT_ALL_S
            return
        files, pids = self._attacher.files, self._attacher.files.pids
        if files.changed != self._changed:
            self._changed = files.changed
            self._known.clear()  # who maps what has changed tells where it is
        for mapped, key in self._mappings.take():
            known = key, mapped.pid if pids else ALL
            if known in self._known or (pids and mapped.pid not in pids):
                continue
            if not self._attacher.look_into_mapped(mapped):
                continue  # gone with its process: the next one that maps it tells
            if len(self._known) >= JUDGED_MAX:
                self._known.clear()
            self._known.add(known)
        if self._mappings.lost:
            self._mappings.lost = False
            self._attacher.look_at_all()


def serve(channel: socket.socket) -> None:
    """Serve the consumer until it goes."""
    said = channel.recv(MESSAGE_BYTES)
    if not said:
        return
    told = json.loads(said)
    files = Files(told["pids"] if btf.has_uprobe_multi() else ())
    attacher = Attacher(Wanted(tuple(told["include"]), tuple(told["exclude"])).resolved(), files)
    watch = Watch(attacher, channel)  # before: where perf_event_paranoid is 3 (Debian's), it takes CAP_SYS_ADMIN
    privileges.limit_to_attaching(by_events=not btf.has_uprobe_multi())
    die_with_parent(signal.SIGKILL)  # whatever it hangs in
    if told["sandbox"]:
        sandbox.enter(attaching=True)
    attacher.look_at_all()
    while not select.select([channel], [], [], LOOK_S)[0]:  # the programs take a while: nobody is to wait for them
        attacher.settle()
    data, fds, _, _ = socket.recv_fds(channel, MESSAGE_BYTES, DESCRIPTORS)
    if not data:
        return
    files.begin(dict(zip(json.loads(data), fds, strict=True)))
    watch.look()
    said = b""
    while True:
        now = json.dumps({"attached": len(files), "refused": files.refused, "changed": files.changed}).encode()
        if now != said:
            channel.send(now)
            said = now
        if watch.wait():
            break
        watch.look()
        attacher.settle()
    files.end()
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
