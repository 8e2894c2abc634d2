"""Records made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from ringspan import contract
from ringspan.model import rows

LOOPBACK = bytes([127, 0, 0, 1])
DEFAULTS: dict[str, Any] = {
    "version": 1,
    "kind": contract.number("RECORD_EXCHANGE"),
    "role": contract.number("ROLE_SERVER"),
    "family": 2,
    "http_minor": 1,
    "status": 200,
    "method": b"GET",
    "target": b"/",
    "host": b"example.com",
    "host_bytes": 11,
    "local_address": LOOPBACK,
    "remote_address": LOOPBACK,
    "local_port": 8080,
    "remote_port": 40000,
    "start_ktime_ns": 1_000_000,
    "first_byte_ktime_ns": 2_000_000,
    "end_ktime_ns": 3_000_000,
    "trace_id_high": 1,
    "trace_id_low": 2,
    "span_id": 3,
    "tgid": 77,
    "comm": b"tester",
}
CLIENT = {"role": contract.number("ROLE_CLIENT"), "local_port": 40000, "remote_port": 8080}


def batch(*changes: dict[str, Any]) -> np.ndarray[Any, np.dtype[Any]]:
    out = np.zeros(len(changes), contract.RECORD)
    for i, change in enumerate(changes):
        for name, value in (DEFAULTS | change).items():
            out[i][name] = value
    return out


def row(**changes: Any) -> Any:
    return rows(batch(changes))[0]
