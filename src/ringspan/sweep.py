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
        silent = self._silent()
        gone = self._look(silent)
        found = []
        for key, record in silent:
            since = self._gone.get(_identity(key))  # twice in a row: a last call's bytes may have been on their way
            if since and _identity(key) in gone and maps.delete(self._probe.maps["exchanges"], key):
                found.append(self._ended(record, since))
        self._gone = gone
        self.swept += len(found)
        if time.monotonic() >= self._next_connections:
            self._sweep_connections()
            self._sweep_sessions()
            self._next_connections = time.monotonic() + CONNECTIONS_EVERY_S
        return np.concatenate(found) if found else np.empty(0, contract.RECORD)

    def _silent(self) -> list[tuple[bytes, Array]]:
        """Return the exchanges, by key, of which no one need tell that they have ended."""
        found = []
        for some in self._probe.exchanges():
            silent = np.flatnonzero(some.confirmed & (some.records["family"] <= AF_UNIX))
            found += [(some.keys[i].tobytes(), some.records[i : i + 1].copy()) for i in silent]
        return found

    def _look(self, silent: list[tuple[bytes, Array]]) -> dict[int, int]:
        """Return which of their connections are gone, by identity, and since when."""
        if not silent:
            return {}
        now, found = time.monotonic_ns(), self._probe.connections()  # those that are not there any more have ended
        places = dict(zip(found.heads["identity"].tolist(), found.keys.tolist(), strict=True))
        gone = {}
        for identity, record in {_identity(key): record[0] for key, record in silent}.items():
            if record["family"] == AF_UNSPEC:
                ended = not self._lives(int(record["tgid"]), int(record["process_start_ns"]))
            else:
                ended = identity not in places or self._is_gone(places[identity], identity)
            if ended:
                gone[identity] = self._gone.get(identity, now)
        return gone

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
        """Forget connections whose Unix socket is gone, once they have no exchanges."""
        busy = {_identity(key) for key, _ in self._silent()}
        found = self._probe.connections()
        for i in np.flatnonzero(found.heads["family"] == AF_UNIX):
            identity = int(found.heads["identity"][i])
            if identity not in busy:
                self._is_gone(int(found.keys[i]), identity, forget=True)

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


def _identity(key: bytes) -> int:
    """Return the connection's, of struct exchange_key."""
    return int.from_bytes(key[:8], "little")
