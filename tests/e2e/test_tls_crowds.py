"""Many HTTPS requests at once, and programs that bring a library of their own: each is seen once, or counted."""

from __future__ import annotations

import re
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from peers import access_log, build
from peers.process import wait_until

from .tls_peers import answers, ask_many, assert_nothing_lost, https_server, make_certificates, seen
from .tracer import trace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .stage import Ports
    from .tracer import Row

pytestmark = pytest.mark.root
if not shutil.which("nginx"):
    pytest.skip("needs nginx", allow_module_level=True)
CONNECTIONS, EACH = 50, 40
OPENED = {"nginx": 50, "python": 50 + 500}  # Python's server closes after each error
NODE = """
const https = require("https"), fs = require("fs"), [port, folder] = process.argv.slice(1);
const key = fs.readFileSync(folder + "/server.pem");
https.createServer({key, cert: key}, (request, answer) => {
  answer.statusCode = request.url.startsWith("/none") ? 404 : 200;
  fs.writeSync(1, `"GET ${request.url} HTTP/1.1" ${answer.statusCode}\\n`);
  answer.end("small\\n");
}).listen(port, "127.0.0.1");
"""


@dataclass
class Place:
    """A server: where it is, how a tracer is told of it, and what it has logged."""

    port: int
    folder: Path
    asked: list[str]
    in_memory: bool = False

    def logged(self, expect: int) -> list[tuple[str, str, int]]:
        lines = access_log.read(self.folder / "access.log", expect)
        return sorted((line.method, line.target, line.status) for line in lines)


@contextmanager
def node(port: int, folder: Path) -> Iterator[Place]:
    """Node moves the ciphertext itself: no port tells its sessions, so its process is asked for."""
    make_certificates(folder)
    with (folder / "access.log").open("wb") as log:
        command = [str(build.ensure("node")), "-e", NODE, str(port), str(folder)]
        process = subprocess.Popen(command, stdout=log)
    try:
        assert wait_until(lambda: answers(port), 20)
        yield Place(port, folder, ["--pid", str(process.pid)], in_memory=True)
    finally:
        process.kill()
        process.wait(10)


@contextmanager
def by_port(kind: str, port: int, folder: Path) -> Iterator[Place]:
    with https_server(kind, port, folder) as server:
        yield Place(server.port, folder, ["--port", str(port)])


def peer_port(row: Row) -> object:
    return row["attributes"].get("network.peer.port")


def is_exchange(row: Row) -> bool:
    return bool(row["name"] == "GET")


@pytest.mark.parametrize("kind", ["nginx", "python", "node"])
def test_two_thousand_requests_over_fifty_connections(tmp_path: Path, ports: Ports, kind: str) -> None:
    """All there, none twice, with the paths, statuses and peers that they had."""
    port, number = ports.take(), CONNECTIONS * EACH
    try:
        running = node(port, tmp_path) if kind == "node" else by_port(kind, port, tmp_path)
        with running as place, trace("--tls", "auto", *place.asked) as tracer:
            asked = ask_many(port, str(tmp_path / "ca.pem"), CONNECTIONS, EACH, ("none", "small", "small", "small"))
            rows = tracer.rows(number if place.in_memory else 2 * number, timeout=30, where=is_exchange)
            logged = place.logged(number)
            ledger = tracer.stop().ledger
    except build.PeerUnavailable as error:
        pytest.skip(str(error))
    assert len(logged) == number
    assert seen(rows, "server") == logged
    assert seen(rows, "client") == ([] if place.in_memory else logged)
    assert_nothing_lost(ledger, len(rows))
    if place.in_memory:
        assert {peer_port(row) for row in rows} == {None}
        return
    assert {peer_port(row) for row in rows if row["kind"] == "client"} == {port}
    told = {row["attributes"]["url.query"]: peer_port(row) for row in rows if row["kind"] == "server"}
    assert told == asked
    assert len(set(told.values())) == OPENED[kind]


def with_libraries(program: str, root: Path) -> None:
    """Copy a program into a folder that is to be a root, with all that it loads."""
    text = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    paths = [program, *(word for line in text.splitlines() for word in line.split() if word[:1] == "/")]
    for path in paths:
        (root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / path[1:])


def test_a_root_of_its_own_that_appears_later(tmp_path: Path, ports: Ports) -> None:
    """As of a container that is begun after ringspan: what its first request is missed by is counted."""
    program, root = shutil.which("curl"), tmp_path / "root"
    assert program
    with_libraries(program, root)
    (tmp_path / "place").mkdir()
    port = ports.take()
    turns = 4
    with (
        https_server("nginx", port, tmp_path / "place") as server,
        trace("--tls", "auto", "--port", str(port)) as tracer,
    ):
        for turn in range(turns):
            url = f"https://127.0.0.1:{port}/small?{turn}"
            subprocess.run(
                ["chroot", root, program, "-sSk", "--http1.1", url],
                check=True,
                stdout=subprocess.DEVNULL,
            )
        rows = tracer.rows(2 * turns)
        ledger = tracer.stop().ledger
        logged = server.logged(turns)
    assert seen(rows, "server") == logged
    told = seen(rows, "client")
    assert told in (logged, logged[1:])
    missed = re.search(r"or not followed (\d+) \(sessions in memory: 0\)", ledger)
    late = re.search(r"(\d+) HTTPS sessions \(each end\) taken up after", ledger)
    assert missed
    assert int(missed[1]) + (int(late[1]) if late else 0) >= turns - len(told)
