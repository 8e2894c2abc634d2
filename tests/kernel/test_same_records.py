"""The same bytes by the same calls give the same records and counts in the kernel and in the user-space build."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from e2e.conftest import missing
from kernel.streams import Play, plays
from ringspan import contract
from ringspan.probe.settings import ProbeSettings
from ringspan.probe.start import Start
from ringspan.ring import Ring
from unit import cases
from unit.harness import CLIENT, CLOSE, EGRESS, INGRESS, PEER_FIN, SERVER, SHUTDOWN, UNKNOWN, Connection

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(missing()), reason=missing())]
TESTS = Path(__file__).parents[1]
SETTLE_S = 10.0
# Left out of the comparison, and why. All other fields must be equal, byte by byte.
LEFT_OUT = {
    "clock": ["start_ktime_ns", "first_byte_ktime_ns", "end_ktime_ns", "connect_ns"],
    "drawn at random": ["trace_id_high", "trace_id_low", "span_id"],
    "told by what surrounds the bytes": ["parent_span_id", "named_span_id", "joined", "sampling"],
    "who was traced": [
        "comm",
        "tgid",
        "tid",
        "process_start_ns",
        "parent_tgid",
        "parent_start_ns",
        "netns",
        "judged",
        "executed",
        "image",
    ],
    "which socket": ["socket_inode", "local_port", "remote_port", "local_address", "remote_address"],
    "from TCP's initial number on: its differences are compared": ["tcp_seq"],
}
LEFT_OUT_NAMES = [name for names in LEFT_OUT.values() for name in names]


def described(records: np.ndarray[Any, np.dtype[Any]]) -> list[dict[str, Any]]:
    """What is compared of the records of one connection."""
    names = [name for name in contract.RECORD.names or () if name not in LEFT_OUT_NAMES]
    return [
        {name: record[name].tobytes() if record[name].dtype.kind in "SV" else record[name].tolist() for name in names}
        | {
            "tcp_seq from the first record's": (int(record["tcp_seq"]) - int(records[0]["tcp_seq"])) % (1 << 32),
            "answered": bool(record["first_byte_ktime_ns"]),
            "in order": bool(record["start_ktime_ns"] <= record["end_ktime_ns"]),
        }
        for record in records
    ]


class Traced:
    """The traced process, told what to do."""

    def __init__(self) -> None:
        path = os.pathsep.join([str(TESTS), str(TESTS.parent / "src")])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kernel.observed"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": path},
        )

    def tell(self, *what: Any) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()

    def answer(self) -> int:
        assert self.process.stdout
        return int(self.process.stdout.readline())

    def do(self, *what: Any) -> int:
        self.tell(*what)
        return self.answer()

    def end(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(SETTLE_S)


class Stage:
    """Plays streams between the traced process and this one."""

    def __init__(self, traced: Traced) -> None:
        self.traced = traced
        self.listener = socket.create_server(("", 0))
        self.port = traced.do("listen")
        self.aside: dict[str, socket.socket] = {}

    def connect_early(self, play: Play, address: str) -> None:
        """Have a connection that is older than the trace, on which nothing is left to be answered."""
        peer = self._connect(play.side, address)
        self.traced.do("send", "x", 0, False, False)
        peer.recv(1)
        peer.send(b"y")
        self.traced.do("receive", 1, 0, False, False)
        self.traced.do("put_aside", play.name)
        self.aside[play.name] = peer

    def play(self, play: Play, address: str) -> None:
        """Play it with this side at an address of its own, by which its records can be told."""
        if play.born:
            peer = self._connect(play.side, address)
        else:
            peer = self.aside.pop(play.name)
            self.traced.do("take_back", play.name)
        peer.settimeout(SETTLE_S)
        for step in play.steps:
            self._take(play, peer, step)
        self.traced.do("close")
        peer.close()

    def _connect(self, side: str, address: str) -> socket.socket:
        if side == cases.SERVER_SIDE:
            peer = socket.create_connection(("127.0.0.1", self.port), source_address=(address, 0))
            self.traced.do("accept")
            return peer
        self.traced.do("connect", address, self.listener.getsockname()[1])
        return self.listener.accept()[0]

    def _take(self, play: Play, peer: socket.socket, step: cases.Step) -> None:
        manner = (play.piece, step.opaque, play.messages and not step.opaque)
        if step.what in ("request", "response"):
            if (step.what == "request") == (play.side == cases.CLIENT_SIDE):
                assert self.traced.do("send", step.data.decode("latin-1"), *manner) == len(step.data)
                self._drain(peer, len(step.data))
            else:
                peer.sendall(step.data)
                assert self.traced.do("receive", len(step.data), *manner) == len(step.data)
        elif step.what in ("eof", "fin"):
            peer.shutdown(socket.SHUT_WR)
            if step.what == "eof":
                assert self.traced.do("receive_end") == 0
        elif step.what == "error":
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
            assert self.traced.do("receive_error") == step.number
        else:
            self.traced.do(step.what)

    @staticmethod
    def _drain(peer: socket.socket, size: int) -> None:
        while size:
            size -= len(peer.recv(size))


def address_of(number: int) -> str:
    return f"127.1.{number >> 8}.{number & 255}"


class Played:
    """What came of all plays: of each its records, and all counts."""

    def __init__(self) -> None:
        self.in_kernel: dict[str, list[dict[str, Any]]] = {}
        self.in_user_space: dict[str, list[dict[str, Any]]] = {}
        self.counted: dict[str, dict[str, int]] = {"kernel": {}, "user space": {}}


def in_user_space(play: Play) -> Connection:
    role = SERVER if play.side == cases.SERVER_SIDE else CLIENT
    connection = Connection(role if play.born else UNKNOWN, born=play.born)
    for step in play.steps:
        if step.what in ("request", "response"):
            direction = INGRESS if (step.what == "request") == (play.side == cases.SERVER_SIDE) else EGRESS
            size = len(step.data)
            sizes = [min(play.piece, size - i) for i in range(0, size, play.piece)] if play.piece else []
            connection.call(
                direction, step.data, [] if step.opaque else sizes, opaque=step.opaque, as_messages=play.messages
            )
        elif step.what == "eof":
            connection.end_of_stream()
        elif step.what == "error":
            connection.end_of_stream(error=step.number)
        else:
            connection.end({"fin": PEER_FIN, "shutdown": SHUTDOWN, "close": CLOSE}[step.what])
    connection.end(CLOSE)
    return connection


@contextmanager
def probe_of(traced: Traced) -> Iterator[Any]:
    # Not this process' id: the far end of what is ringspan's own is not followed, and this is the far end.
    settings = ProbeSettings(own_tgid=1, pids=[traced.process.pid])
    probe = Start(settings).finish(lambda: False)
    assert probe
    try:
        yield probe, Ring(probe.maps["records"], settings.ring_bytes, contract.RECORD)
    finally:
        probe.close()


@pytest.fixture(scope="module")
def played() -> Played:
    out = Played()
    traced = Traced()
    all_plays = plays()
    stage = Stage(traced)
    for number, play in enumerate(all_plays):
        if not play.born:
            stage.connect_early(play, address_of(number))
    with probe_of(traced) as (probe, ring):
        for number, play in enumerate(all_plays):
            stage.play(play, address_of(number))
        records = _settled(probe, ring)
        out.counted["kernel"] = {name: number for name, number in probe.counters().items() if number}
    traced.end()
    numbers = np.array(
        [int.from_bytes(bytes(one).ljust(4, b"\0")[2:4], "big") for one in records["remote_address"]], np.int64
    )
    for number, play in enumerate(all_plays):
        out.in_kernel[play.name] = described(records[numbers == number])
        connection = in_user_space(play)
        out.in_user_space[play.name] = described(connection.records())
        for name, count in (connection.counters() | {"unfollowed_bytes": connection.unfollowed_bytes}).items():
            out.counted["user space"][name] = out.counted["user space"].get(name, 0) + count
    assert len(records) == sum(map(len, out.in_kernel.values()))
    return out


def _settled(probe: Any, ring: Ring) -> np.ndarray[Any, np.dtype[Any]]:
    """All records, once every socket is gone."""
    last = time.monotonic() + SETTLE_S
    while len(probe.in_flight()) and time.monotonic() < last:
        time.sleep(0.05)
    time.sleep(0.5)
    parts = [ring.drain()]
    while len(parts[-1]):
        parts.append(ring.drain())
    return np.concatenate(parts)


@pytest.mark.parametrize("name", [play.name for play in plays()])
def test_the_same_records(played: Played, name: str) -> None:
    assert played.in_kernel[name] == played.in_user_space[name]


def test_the_same_counts(played: Played) -> None:
    assert played.counted["kernel"] == played.counted["user space"]


def test_what_is_left_out_is_there() -> None:
    assert set(LEFT_OUT_NAMES) < set(contract.RECORD.names or ())
    assert len(plays()) > 500
