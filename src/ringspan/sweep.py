"""Exchanges that nothing will end: a Unix socket tells no one when its process dies without closing it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ringspan import contract
from ringspan.probe import maps

if TYPE_CHECKING:
    from ringspan.probe.session import Probe

AF_UNIX = 1
KEY_BYTES = 16
SERVER = contract.number("ROLE_SERVER")


class Sweeper:
    """Ends the exchanges of dead processes on Unix sockets; `swept` counts them."""

    def __init__(self, probe: Probe, proc: Path = Path("/proc")) -> None:
        self._probe = probe
        self._proc = proc
        self.swept = 0

    def sweep(self) -> np.ndarray[Any, np.dtype[Any]]:
        """Return the records of exchanges whose process is gone, taken out of the kernel's table."""
        fd, size = self._probe.maps["exchanges"], contract.RECORD.itemsize
        found = []
        for key in maps.keys(fd, KEY_BYTES):
            value = maps.lookup(fd, key, size + 8)
            record = np.frombuffer(value, contract.RECORD, 1) if value and value[size] else None
            if record is None or not self._is_orphan(record[0]) or not maps.delete(fd, key):
                continue
            found.append(self._ended(record.copy()))
        self.swept += len(found)
        return np.concatenate(found) if found else np.empty(0, contract.RECORD)

    def _is_orphan(self, record: Any) -> bool:
        """Is the process gone that had the exchange, and the socket too, which another may hold?"""
        if record["family"] != AF_UNIX or (self._proc / str(record["tgid"])).exists():
            return False
        return not self._socket_exists(int(record["netns"]), str(record["socket_inode"]))

    def _socket_exists(self, netns: int, inode: str) -> bool:
        """Look for a Unix socket in its network namespace, through any process that lives there."""
        for process in self._proc.iterdir():
            try:
                if process.name.isdigit() and (process / "ns/net").stat().st_ino == netns:
                    lines = (process / "net/unix").read_text(errors="replace").splitlines()
                    return any(line.split()[6:7] == [inode] for line in lines)
            except OSError:  # it has just ended
                continue
        return False

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
        return record
