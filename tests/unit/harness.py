"""The C code of bpf/ that parses and pairs, built for user space and driven call by call."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ringspan import contract
from ringspan.files import bpf_folder
from ringspan.protocols import http1

if TYPE_CHECKING:
    from collections.abc import Sequence

C_FOLDER = Path(__file__).parents[1] / "c"
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wno-sign-compare", "-Wno-unused", "-Wno-unknown-pragmas"]
FLAGS = ["-std=gnu11", "-fno-strict-aliasing", "-O1", "-g", "-fPIC", "-shared", *WARNINGS]
INGRESS, EGRESS = 0, 1
UNKNOWN, CLIENT, SERVER = (contract.number(f"ROLE_{name}") for name in ("UNKNOWN", "CLIENT", "SERVER"))
PEER_FIN, SHUTDOWN, CLOSE = range(3)
COUNTERS = [name for name in contract.header().numbers if name.startswith("COUNTER_")]
RECORDS_MAX = 1024


class Given(ctypes.Structure):
    """Mirrors struct given of tests/c/harness.c."""

    _fields_ = (
        ("begin_ns", ctypes.c_uint64),
        ("end_ns", ctypes.c_uint64),
        ("bytes", ctypes.c_uint64),
        ("data", ctypes.c_char_p),
        ("pieces", ctypes.POINTER(ctypes.c_uint32)),
        ("pieces_count", ctypes.c_uint32),
        ("sequence", ctypes.c_uint32),
        ("skip", ctypes.c_uint32),
        ("direction", ctypes.c_uint8),
        ("opaque", ctypes.c_uint8),
        ("as_messages", ctypes.c_uint8),
        ("_pad", ctypes.c_uint8),
    )


def compiler() -> str:
    """Return the C compiler; skips the test where there is none."""
    found = shutil.which("cc")
    if not found:
        pytest.skip("no C compiler: there is no cc in PATH")
    return found


def cache_folder() -> Path:
    """Return the folder that keeps what was compiled."""
    named = os.environ.get("RINGSPAN_TEST_CACHE")
    folder = Path(named) if named else Path.home() / ".cache" / "ringspan-tests"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _digest(command: Sequence[str]) -> str:
    sources = sorted([*bpf_folder().glob("*.h"), *C_FOLDER.iterdir()])
    texts = [" ".join(command), http1.c_header(), *(path.read_text() for path in sources)]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


@cache
def library() -> ctypes.CDLL:
    """Compile the harness, unless that was done before, and load it with the automaton's table."""
    command = [compiler(), *FLAGS]
    target = cache_folder() / f"harness-{_digest(command)}.so"
    if not target.exists():
        _compile(command, target)
    loaded = ctypes.CDLL(str(target))
    loaded.harness_load(http1.table())
    assert loaded.harness_record_bytes() == contract.RECORD.itemsize
    return loaded


def _compile(command: list[str], target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        (Path(folder) / "http1_states.h").write_text(http1.c_header())
        built = Path(folder) / target.name
        include = ["-I", folder, "-I", str(C_FOLDER), "-I", str(bpf_folder())]
        done = subprocess.run(
            [*command, *include, str(C_FOLDER / "harness.c"), "-o", str(built)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            pytest.fail(f"bpf/ does not build for user space:\n{done.stderr}", pytrace=False)
        built.replace(target)


class Connection:
    """The one connection that the library follows; a new one takes the place of the one before."""

    def __init__(self, role: int = UNKNOWN, *, born: bool = True) -> None:
        self._c = library()
        self._c.harness_open(role, born)
        self._sent = [0, 0]
        self.now = 0

    def limit(self, *, exchanges: int = 256, records: int = RECORDS_MAX, refuse: bool = False) -> None:
        """Say how many exchanges and records there is room for, and whether the filters refuse this connection."""
        self._c.harness_limit(exchanges, records, refuse)

    def given(self, direction: int, data: bytes, pieces: Sequence[int] = (), **more: int) -> Given:
        """Describe the bytes of a call, which takes one tick of the clock from 10 * n to 10 * n + 5."""
        self.now += 10
        array = (ctypes.c_uint32 * len(pieces))(*pieces) if pieces else None
        given = Given(self.now, self.now + 5, len(data), data, array, len(pieces), self._sent[direction])
        given.direction = direction
        for name, value in more.items():
            setattr(given, name, value)
        self._sent[direction] += len(data)
        return given

    def call(self, direction: int, data: bytes, pieces: Sequence[int] = (), **more: int) -> int:
        """Move bytes by one call; returns the rounds it took, 0 if the connection is off."""
        return self.call_given(self.given(direction, data, pieces, **more))

    def call_given(self, given: Given) -> int:
        """Move the bytes that were described; returns as call does."""
        return int(self._c.harness_call(ctypes.byref(given), 1, ctypes.c_uint64(self.now + 5), 0, 0))

    def call_helped(self, written: Given, read: Given) -> int:
        """Let a reader follow what another thread is still writing, then what it has read itself."""
        both = (Given * 2)(written, read)
        return int(self._c.harness_call(both, 2, ctypes.c_uint64(self.now + 5), 0, 0))

    def end_of_stream(self, *, error: int = 0) -> None:
        """Let a receive return 0, after the peer's FIN, or fail."""
        self.now += 10
        if error:
            self._c.harness_error(error)
        else:
            self._c.harness_end(PEER_FIN, ctypes.c_uint64(self.now))
        self._c.harness_call(None, 0, ctypes.c_uint64(self.now), not error, error)

    def send_fails(self, error: int) -> None:
        """Let a send fail for good."""
        self._c.harness_error(error)

    def end(self, ending: int) -> None:
        """Take in PEER_FIN, SHUTDOWN or CLOSE."""
        self.now += 10
        self._c.harness_end(ending, ctypes.c_uint64(self.now))

    def records(self) -> np.ndarray[Any, np.dtype[Any]]:
        """Return what was emitted so far."""
        number = self._c.harness_recorded()
        buffer = ctypes.create_string_buffer(number * contract.RECORD.itemsize or 1)
        self._c.harness_records(buffer, number)
        return np.frombuffer(buffer, contract.RECORD, number)

    def counters(self) -> dict[str, int]:
        """Return the counters of times that are not zero, by their C names without COUNTER_, in lower case."""
        return {name: value for name, value in self._counted().items() if value and not name.endswith("_bytes")}

    @property
    def unfollowed_bytes(self) -> int:
        """How many bytes have passed out of sync."""
        return self._counted()["unfollowed_bytes"]

    def _counted(self) -> dict[str, int]:
        values = (ctypes.c_uint64 * contract.number("COUNTERS"))()
        self._c.harness_counters(values)
        return {name.removeprefix("COUNTER_").lower(): values[contract.number(name)] for name in COUNTERS}

    @property
    def in_flight(self) -> int:
        """How many exchanges have a place in the table."""
        return int(self._c.harness_in_flight())

    @property
    def off(self) -> bool:
        """Whether the connection is no longer looked at."""
        return bool(self._c.harness_is_off())


def text(record: np.void, name: str) -> bytes:
    """Return a text of a record as its reader does: bounded by its count, without the blanks around its members."""
    kept = bytes(record[name])[: int(record[f"{name}_bytes"])]
    if name in ("traceparent", "tracestate"):
        return b",".join(member.strip() for member in kept.split(b","))
    return kept.strip()
