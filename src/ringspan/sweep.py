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
        return record["family"] == AF_UNIX and not (self._proc / str(record["tgid"])).exists()

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
        record["end_ktime_ns"] = max(int(record["start_ktime_ns"][0]), int(record["first_byte_ktime_ns"][0]))
        return record
