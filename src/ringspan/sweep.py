"""Exchanges that nothing will end: a Unix socket that dies with its process, an exec or a close_range tells no one.

Nor does a TLS session whose socket is not known.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ringspan import contract, pid_namespace
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
SERVER = contract.number("ROLE_SERVER")
Array = np.ndarray[Any, np.dtype[Any]]
log = logging.getLogger(__name__)


class Sweeper:
    """Ends the exchanges of Unix sockets and processes that exist no more; `swept` counts them."""

    def __init__(self, probe: Probe, proc: Path = Path("/proc")) -> None:
        self._probe = probe
        self._proc = proc
        self._able = True
        self._numbers_are_others = pid_namespace.hidden_from() is not None
        self._gone: dict[int, int] = {}  # since when, by the connection's identity
        self._processes: dict[tuple[int, int], bool] = {}
        self._next_connections = time.monotonic() + CONNECTIONS_EVERY_S
        self.swept = 0

    def sweep(self) -> Array:
        """Return the records of exchanges whose socket is gone, taken out of the kernel's table."""
        self._processes = {}
        gone = self._look(self._silent())
        # Twice in a row: the bytes of a last call may have been on their way.
        found = self._take_out({identity: since for identity, since in self._gone.items() if identity in gone})
        self._gone = gone
        self.swept += len(found)
        if time.monotonic() >= self._next_connections:
            self._sweep_connections()
            self._sweep_sessions()
            self._next_connections = time.monotonic() + CONNECTIONS_EVERY_S
        return np.concatenate(found) if found else np.empty(0, contract.RECORD)

    def _silent(self) -> dict[int, tuple[int, int] | None]:
        """Return the connections, by identity, of exchanges that may end untold; a process where it has no socket."""
        found: dict[int, tuple[int, int] | None] = {}
        for some in self._probe.exchanges():
            silent = some.confirmed & (some.records["family"] <= AF_UNIX)
            found |= dict.fromkeys(some.connections[silent].tolist())
            for i in np.flatnonzero(silent & (some.records["family"] == AF_UNSPEC)):
                record = some.records[i]
                found[int(some.connections[i])] = int(record["tgid"]), int(record["process_start_ns"])
        return found

    def _look(self, silent: dict[int, tuple[int, int] | None]) -> dict[int, int]:
        """Return which of these connections are gone, by identity, and since when."""
        if not silent:
            return {}
        now, found = time.monotonic_ns(), self._probe.connections()  # those that are not there any more have ended
        places = dict(zip(found.heads["identity"].tolist(), found.keys.tolist(), strict=True))
        gone = {}
        for identity, process in silent.items():
            if process:
                ended = not self._lives(*process)
            else:
                ended = identity not in places or self._is_gone(places[identity], identity)
            if ended:
                gone[identity] = self._gone.get(identity, now)
        return gone

    def _take_out(self, gone: dict[int, int]) -> list[Array]:
        """Take the exchanges of these connections out of the kernel's table."""
        found: list[Array] = []
        identities = np.array(list(gone), np.uint64)
        for some in self._probe.exchanges() if gone else ():
            silent = some.confirmed & (some.records["family"] <= AF_UNIX) & np.isin(some.connections, identities)
            found += [
                self._ended(some.records[i : i + 1].copy(), gone[int(some.connections[i])])
                for i in np.flatnonzero(silent)
                if maps.delete(self._probe.maps["exchanges"], some.keys[i].tobytes())
            ]
        return found

    def _is_gone(self, key: int, identity: int, *, forget: bool = False) -> bool:
        """Whether a Unix socket is gone, as far as the kernel can be asked."""
        if not self._able:
            return False
        try:
            return self._probe.is_gone(key, identity, forget=forget)
        except OSError as error:
            self._able = False
            log.warning(
                "Unix sockets closed by exec are not found out: this kernel cannot be asked: %s", error.strerror
            )
        return False

    def _sweep_connections(self) -> None:
        """Forget connections whose Unix socket is gone, once they have no exchanges but such as were not HTTP."""
        busy, found = self._silent(), self._probe.connections()
        gone = []
        for i in np.flatnonzero(found.heads["family"] == AF_UNIX):
            identity = int(found.heads["identity"][i])
            if identity not in busy and self._is_gone(int(found.keys[i]), identity, forget=True):
                gone.append(identity)
        identities = np.array(gone, np.uint64)
        for some in self._probe.exchanges() if gone else ():
            for i in np.flatnonzero(~some.confirmed & np.isin(some.connections, identities)):
                maps.delete(self._probe.maps["exchanges"], some.keys[i].tobytes())

    def _sweep_sessions(self) -> None:
        """Forget the TLS sessions of processes that are gone, and the calls that they were inside."""
        gone = self._of_the_gone("tls_sessions", SESSION_BYTES)
        carried = self._carried() if gone else set()
        for key, connection in gone:
            if connection not in carried:
                maps.delete(self._probe.maps["connections"], connection)
            maps.delete(self._probe.maps["calls"], connection)  # what it was sending
            maps.delete(self._probe.maps["tls_held"], key[TGID_AT : TGID_AT + TGID_BYTES])
            maps.delete(self._probe.maps["tls_sessions"], key)
        for name, size in CALLS_BYTES.items():
            for key, _ in self._of_the_gone(name, size):
                maps.delete(self._probe.maps[name], key)

    def _carried(self) -> set[bytes]:
        """Return the keys of what a TCP socket ends: another process may have it yet."""
        found = self._probe.connections()
        return {found.keys[i].tobytes() for i in np.flatnonzero(found.heads["family"] > AF_UNIX)}

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
            known = self._numbers_are_others or _lives(self._proc, tgid, start_ns)
            self._processes[tgid, start_ns] = known
        return known

    @staticmethod
    def _ended(record: Array, since_ns: int) -> Array:
        word = (
            "INCOMPLETE"
            if record["status"][0]
            else "CONNECTION_CLOSED"
            if record["role"][0] == SERVER
            else "CLIENT_CLOSED"
        )
        record["failure"] = contract.number(f"FAILURE_{word}")
        record["end_ktime_ns"] = since_ns  # when it was first found gone: at most a sweep after it happened
        return record


def _lives(proc: Path, tgid: int, start_ns: int) -> bool:
    """Whether a process lives, as far as can be known; of one that is hidden (hidepid), by its number alone."""
    try:
        return has_begun_at(proc / str(tgid), start_ns)
    except (OSError, IndexError, ValueError):
        pass
    try:
        os.getpriority(os.PRIO_PROCESS, tgid)  # which anyone may ask of anyone, in the sandbox too
    except ProcessLookupError:
        return False
    return True
