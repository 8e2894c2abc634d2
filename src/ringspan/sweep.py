"""Exchanges that nothing will end: a Unix socket that dies with its process, an exec or a close_range tells no one.

Nor does a TLS session whose socket is not known.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ringspan import contract
from ringspan.probe import maps
from ringspan.process import has_begun_at

if TYPE_CHECKING:
    from ringspan.probe.session import Probe

AF_UNSPEC, AF_UNIX = 0, 1
# struct tls_key, tls_frame and goroutine in bpf/tls_state.h; how large what is kept by the last two is
TLS_KEY = np.dtype([("address", "u8"), ("start_ns", "u8"), ("tgid", "u8")])
CALLS_BYTES = {"tls_calls": 88, "tls_stacks": 40, "go_calls": 360}
TGID_AT, TGID_BYTES = 16, 4
CONNECTIONS_EVERY_S = 10.0
SESSION_BYTES = 8
SETTLED_NS = 500_000_000  # younger exchanges are left alone
SERVER = contract.number("ROLE_SERVER")


class Sweeper:
    """Ends the exchanges of Unix sockets and processes that exist no more; `swept` counts them."""

    def __init__(self, probe: Probe, proc: Path = Path("/proc")) -> None:
        self._probe = probe
        self._proc = proc
        self._sockets: dict[int, set[str] | None] = {}
        self._processes: dict[tuple[int, int], bool] = {}
        self._next_connections = time.monotonic() + CONNECTIONS_EVERY_S
        self.swept = 0

    def sweep(self) -> np.ndarray[Any, np.dtype[Any]]:
        """Return the records of exchanges whose socket is gone, taken out of the kernel's table."""
        self._sockets, self._processes = {}, {}
        found = []
        for some in self._probe.exchanges():
            silent = some.confirmed & (some.records["family"] <= AF_UNIX)
            for i in np.flatnonzero(silent):
                record = some.records[i : i + 1].copy()
                if self._is_orphan(record[0]) and maps.delete(self._probe.maps["exchanges"], some.keys[i].tobytes()):
                    found.append(self._ended(record))
        self.swept += len(found)
        if time.monotonic() >= self._next_connections:
            self._sweep_connections()
            self._sweep_sessions()
            self._next_connections = time.monotonic() + CONNECTIONS_EVERY_S
        return np.concatenate(found) if found else np.empty(0, contract.RECORD)

    def _sweep_connections(self) -> None:
        """Forget connections whose Unix socket is gone; their exchanges have been ended before."""
        found = self._probe.connections()
        self._sockets = {}  # listed after the connections, so that none of them is too young to be listed
        for i in np.flatnonzero(found.heads["family"] == AF_UNIX):
            if not self._exists(int(found.heads["netns"][i]), int(found.heads["inode"][i])):
                maps.delete(self._probe.maps["connections"], found.keys[i].tobytes())

    def _sweep_sessions(self) -> None:
        """Forget the TLS sessions of processes that are gone, and the calls that they were inside."""
        for key, connection in self._of_the_gone("tls_sessions", SESSION_BYTES):
            maps.delete(self._probe.maps["connections"], connection)
            maps.delete(self._probe.maps["calls"], connection)  # what it was sending
            maps.delete(self._probe.maps["tls_held"], key[TGID_AT : TGID_AT + TGID_BYTES])
            maps.delete(self._probe.maps["tls_sessions"], key)
        for name, size in CALLS_BYTES.items():
            for key, _ in self._of_the_gone(name, size):
                maps.delete(self._probe.maps[name], key)

    def _of_the_gone(self, name: str, value_bytes: int) -> list[tuple[bytes, bytes]]:
        fd, gone = self._probe.maps.get(name), []
        for keys, values in maps.entries(fd, TLS_KEY.itemsize, value_bytes) if fd is not None else ():
            of = keys.view(TLS_KEY)[:, 0]
            dead = [i for i in range(len(keys)) if not self._lives(int(of["tgid"][i]), int(of["start_ns"][i]))]
            gone += [(keys[i].tobytes(), values[i].tobytes()) for i in dead]
        return gone

    def _lives(self, tgid: int, start_ns: int) -> bool:
        known = self._processes.get((tgid, start_ns))
        if known is None:
            try:
                known = has_begun_at(self._proc / str(tgid), start_ns)
            except (OSError, IndexError, ValueError):
                known = False
            self._processes[tgid, start_ns] = known
        return known

    def _exists(self, netns: int, inode: int) -> bool:
        """Whether a socket exists, as far as can be seen: of a namespace that no process shows, all do."""
        if netns not in self._sockets:
            self._sockets[netns] = self._unix_sockets(netns)
        there = self._sockets[netns]
        return there is None or str(inode) in there

    def _is_orphan(self, record: Any) -> bool:
        if time.monotonic_ns() - int(record["start_ktime_ns"]) < SETTLED_NS:
            return False
        if record["family"] == AF_UNSPEC:
            return not self._lives(int(record["tgid"]), int(record["process_start_ns"]))
        return not self._exists(int(record["netns"]), int(record["socket_inode"]))

    def _unix_sockets(self, netns: int) -> set[str] | None:
        """List the Unix sockets of a network namespace by inode number, through any process that lives there."""
        for process in self._proc.iterdir():
            try:
                if process.name.isdigit() and (process / "ns/net").stat().st_ino == netns:
                    lines = (process / "net/unix").read_text(errors="replace").splitlines()
                    return {line.split()[6] for line in lines[1:] if len(line.split()) > 6}
            except OSError:  # it has just ended
                continue
        return None

    @staticmethod
    def _ended(record: np.ndarray[Any, np.dtype[Any]]) -> np.ndarray[Any, np.dtype[Any]]:
        word = (
            "INCOMPLETE"
            if record["status"][0]
            else "CONNECTION_CLOSED"
            if record["role"][0] == SERVER
            else "CLIENT_CLOSED"
        )
        record["failure"] = contract.number(f"FAILURE_{word}")
        record["end_ktime_ns"] = time.monotonic_ns()  # when it was found out: at most a sweep after it happened
        return record
