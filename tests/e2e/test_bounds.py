"""Whatever peers do, memory stays bounded, no record is wrong, what is lost is named, and afterwards all is seen again.

RINGSPAN_BOUNDS_SCALE=25 is the long form: 50,000 slow connections, 10,000 processes, a million descriptors.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from . import hasty
from .collector import free_port
from .kernel_objects import locked_bytes, resident_kib
from .numbered import answering, exchange, get, in_thread, number_of, ok, pair_maker, read
from .stage import Ports
from .tracer import Row, Tracer, for_ports, trace

pytestmark = pytest.mark.root
SCALE = int(os.environ.get("RINGSPAN_BOUNDS_SCALE", "1"))
SLOW, PROCESSES, CHURN, PIPELINED, CHUNKS, DISTINCT = (n * SCALE for n in (2000, 400, 40_000, 1000, 20_000, 3000))
# Small tables, so that the short form passes the same bounds as the long one does with the usual ones.
TABLES = "" if SCALE > 1 else "connections: 512\nexchanges: 256\n"
CONFIG = f"{TABLES}series: 64\nqueue_spans: 1000\nspans_per_second: 0\n"
RESIDENT_MIB = 48  # allowed beyond what it was at the start: caches that fill up once
CROWD = 8000  # slow connections in one process, which has two descriptors for each
PATIENCE_S = 60.0
ON_THE_WAY = 3000
LOOKS_S = 3.0  # in so many seconds crowded tables have been looked at
CONNECTIONS_AFTER = 100


@dataclass
class Ground:
    """A tracer under attack, and what it took before."""

    tracer: Tracer
    ports: Ports
    resident: int = 0
    locked: int = 0
    failures: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.resident, self.locked = resident_kib(self.tracer.pid), locked_bytes(self.tracer.pid)

    def rows(self, port: int, expect: int = 0) -> list[Row]:
        return self.rows_where(lambda row: row["attributes"]["server.port"] == port, expect)

    def rows_where(self, where: Callable[[Row], bool], expect: int) -> list[Row]:
        """Waits for so many rows; looks now and then, for a look at each new one would take longer than the attack."""
        end = time.monotonic() + PATIENCE_S
        while len([row for row in self.tracer.all_rows() if where(row)]) < expect and time.monotonic() < end:
            time.sleep(0.2)
        return self.tracer.rows(where=where)

    def keep_up(self, before: int, made: int) -> None:
        """Waits while much of what was made is on its way: a full ring is not what is tried here."""
        end = time.monotonic() + PATIENCE_S
        while self.tracer.count() - before < made - ON_THE_WAY and time.monotonic() < end:
            time.sleep(0.02)

    def check(self, rows: list[Row]) -> None:
        """No record is wrong or there twice, and memory is where it was."""
        wrong = [row for row in rows if "error.type" not in row["attributes"] and row["response_body_bytes"] != number_of(row)]  # fmt: skip
        assert wrong == []
        twice = [one for one, count in Counter((row["kind"], number_of(row)) for row in rows).items() if count > 1]
        assert twice == []
        assert locked_bytes(self.tracer.pid) == self.locked
        grown = (resident_kib(self.tracer.pid) - self.resident) / 1024
        print(f"resident {self.resident / 1024:.0f} MiB + {grown:.0f} MiB, maps {self.locked / 1e6:.1f} MB")
        assert grown < RESIDENT_MIB

    def check_after(self) -> None:
        """New connections are seen whole."""
        port = self.ports.take()
        with pair_maker(port) as connected:
            for number in range(CONNECTIONS_AFTER):
                client, server = connected()
                with client, server:
                    exchange(client, server, number)
        rows = self.rows(port, 2 * CONNECTIONS_AFTER)
        expected = Counter((kind, number) for kind in ("client", "server") for number in range(CONNECTIONS_AFTER))
        assert Counter((row["kind"], number_of(row)) for row in rows) == expected
        self.check(rows)


@pytest.fixture(scope="module")
def ground(ports: Ports, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    config = tmp_path_factory.mktemp("bounds") / "ringspan.yaml"
    config.write_text(CONFIG)
    flags = ["--config", str(config), "--otlp", f"http://127.0.0.1:{free_port()}"]
    with trace(*for_ports(ports.all), *flags) as tracer:
        ground = Ground(tracer, ports)
        ground.check_after()
        yield ground


@contextmanager
def crowd(port: int) -> Iterator[Callable[[str], str]]:
    """Both ends of slow connections, in a process of its own (crowd.py)."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("crowd.py")), str(port)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
    )  # fmt: skip
    assert process.stdin
    assert process.stdout

    def tell(what: str) -> str:
        process.stdin.write(f"{what}\n")
        return process.stdout.readline().strip()

    assert process.stdout.readline() == "ready\n"
    yield tell
    tell("leave")
    process.stdin.close()
    assert process.wait(60) == 0


def test_slow_connections_do_not_blind(ground: Ground) -> None:
    ports = [ground.ports.take() for _ in range(-(-SLOW // CROWD))]
    with ExitStack() as stack:
        crowds = [stack.enter_context(crowd(port)) for port in ports]
        for _ in range(4):
            for tell in crowds:
                tell(f"open {SLOW // 4 // len(crowds)}")
            time.sleep(LOOKS_S)
            ground.check_after()
            for tell in crowds:
                tell("drip")
        time.sleep(LOOKS_S)
        ground.check_after()
        assert sum(int(tell("finish")) for tell in crowds) == 4 * len(crowds) * (SLOW // 4 // len(crowds))
    for port in ports:
        rows = ground.rows(port)
        print(f"{len(rows)} slow exchanges seen")
        ground.check(rows)
    ground.check_after()


def test_descriptors_that_come_and_go(ground: Ground) -> None:
    port = ground.ports.take()
    every = 100
    with pair_maker(port) as connected:
        client, server = connected()
        spare = os.open("/dev/null", os.O_RDONLY)
        for turn in range(CHURN):
            other = os.dup(client.fileno())
            os.dup2(spare, other)
            os.dup2(client.fileno(), other)
            if turn % every == 0:
                with socket.socket(fileno=other) as same:
                    exchange(same, server, turn // every)
                if turn % (every * 10) == 0:
                    client.close()
                    server.close()
                    client, server = connected()
            else:
                os.close(other)
        os.close(spare)
        client.close()
        server.close()
    rows = ground.rows(port, 2 * CHURN // every)
    assert len(rows) == 2 * CHURN // every
    ground.check(rows)
    ground.check_after()


def test_heads_of_a_megabyte(ground: Ground) -> None:
    """In calls such as clients and servers make both are seen whole; in one call they may be lost, and nothing else."""
    port, junk = ground.ports.take(), b"X-Junk: " + (1 << 20) * b"j"
    with pair_maker(port) as connected:
        client, server = connected()
        for number, piece in ((0, 16384), (1, 1000), (2, 4 << 20), (3, 16384)):
            for sender, receiver, message in ((client, server, get(number, junk)), (server, client, ok(number, junk))):
                with in_thread(read, receiver, len(message), max(piece, 1 << 16)):
                    for at in range(0, len(message), piece):
                        sender.sendall(message[at : at + piece])
        for number in range(4, 10):
            exchange(client, server, number)
            time.sleep(0.05)
        client.close()
        server.close()
    rows = ground.rows(port, 14)
    seen = {number_of(row) for row in rows}
    assert seen - {2} >= {0, 1, *range(5, 10)}, seen
    ground.check(rows)
    ground.check_after()


@pytest.mark.parametrize("window", [50, PIPELINED], ids=["a few at a time", "all at once"])
def test_pipelined_requests(ground: Ground, window: int) -> None:
    """Within the bounds all are seen; beyond, none is paired with another's answer, and what passes uncounted is measured."""
    port = ground.ports.take()
    requests = [get(number) for number in range(PIPELINED)]
    answers = [ok(number) for number in range(PIPELINED)]
    before = ground.tracer.count()
    with pair_maker(port) as connected:
        client, server = connected()
        for at in range(0, PIPELINED, window):
            for sender, receiver, messages in ((client, server, requests), (server, client, answers)):
                part = b"".join(messages[at : at + window])
                with in_thread(read, receiver, len(part)):
                    sender.sendall(part)
            ground.keep_up(before, 2 * at)
        client.close()
        server.close()
    rows = ground.rows(port, 2 * PIPELINED if window == 50 else 0)
    if window == 50:
        assert len(rows) == 2 * PIPELINED
    ground.check(rows)
    ground.check_after()


@pytest.mark.parametrize("at_once", [1, 100])
def test_a_list_of_chunks_that_does_not_end(ground: Ground, at_once: int) -> None:
    port = ground.ports.take()
    with pair_maker(port) as connected:
        client, server = connected()
        client.sendall(get(CHUNKS))
        read(server, len(get(CHUNKS)))
        head, last = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0\r\n\r\n"
        with in_thread(
            read, client, len(head) + 6 * CHUNKS + len(last), 1000
        ):  # of which a call holds what can be followed
            server.sendall(head)
            for _ in range(CHUNKS // at_once):
                server.sendall(at_once * b"1\r\nx\r\n")
            server.sendall(last)
        exchange(client, server, 7)
        client.close()
        server.close()
    rows = ground.rows(port, 4)
    assert sorted((row["kind"], row["response_body_bytes"]) for row in rows) == [
        (kind, size) for kind in ("client", "server") for size in (7, CHUNKS)
    ]
    ground.check(rows)
    ground.check_after()


def test_no_two_requests_alike(ground: Ground) -> None:
    """Paths, hosts, methods and clients' names without end: caches and series have bounds."""
    port, before = ground.ports.take(), ground.tracer.count()
    with pair_maker(port) as connected:
        client, server = connected()
        for number in range(DISTINCT):
            ground.keep_up(before, 2 * number)
            lines = (b"Host: h%d.example" % number, b"User-Agent: agent-%d" % number, b"X-A: b")
            request = get(number % 1000, *lines, method=b"M%d" % number).replace(b"/n/", b"/p%d/" % number)
            client.sendall(request)
            read(server, len(request))
            server.sendall(ok(number % 1000))
            read(client, len(ok(number % 1000)))
        client.close()
        server.close()
    rows = ground.rows_where(
        lambda row: row["attributes"].get("user_agent.original", "").startswith("agent-"), 2 * DISTINCT
    )
    assert len(rows) == 2 * DISTINCT
    assert {row["attributes"]["http.request.method_original"] for row in rows} == {f"M{n}" for n in range(DISTINCT)}
    for row in rows:
        assert row["response_body_bytes"] == number_of(row)
        assert row["attributes"]["user_agent.original"][6:] == row["attributes"]["http.request.method_original"][1:]
    ground.check([])
    ground.check_after()


# --- processes ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same program under two names."""
    return hasty.programs(tmp_path_factory.mktemp("programs"))


def test_processes_that_make_one_request_each(ground: Ground, programs: list[Path]) -> None:
    port, at_once = ground.ports.take(), 8
    with answering(port):
        for first in range(0, PROCESSES, at_once):
            running = [subprocess.Popen([programs[n % 2], str(port), str(n)]) for n in range(first, first + at_once)]
            assert [process.wait(60) for process in running] == at_once * [0]
        rows = ground.rows(port, 2 * PROCESSES)
    named = {number_of(row): row["resource"]["service.name"] for row in rows if row["kind"] == "client"}
    assert named == {n: programs[n % 2].name for n in range(PROCESSES)}
    ground.check(rows)
    ground.check_after()


def test_one_pid_after_the_other_program(ground: Ground, programs: list[Path]) -> None:
    """A pid that is given to another program at once: each request is its own program's."""
    port, rounds = ground.ports.take(), 40
    gone = subprocess.Popen(["true"])
    gone.wait()
    with answering(port):
        for number in range(rounds):
            assert hasty.run_as(gone.pid, [str(programs[number % 2]), str(port), str(number)]) == 0
            time.sleep(0.03 * (number % 3))
        rows = ground.rows(port, 2 * rounds)
    clients = [row for row in rows if row["kind"] == "client"]
    assert {row["attributes"].get("process.pid") for row in clients} == {gone.pid}
    named = {number_of(row): row["resource"]["service.name"] for row in clients}
    assert named == {n: programs[n % 2].name for n in range(rounds)}
    ground.check(rows)


def test_in_the_end_all_is_accounted_for(ground: Ground) -> None:
    ended = ground.tracer.stop()
    print(ended.ledger)
    assert ended.status == 0
    assert "off by" not in ended.ledger
    assert "lost (evicted)" in ended.ledger
    assert "bytes of HTTP that passed out of sync" in ended.ledger
    assert "connections given up (table full)" in ended.ledger
