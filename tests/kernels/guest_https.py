"""Runs in a guest, where nothing else does: clients and servers of each TLS library, all under one tracer without a filter.

Each against nginx's log, or curl; what is not followed is counted.
"""

from __future__ import annotations

import re
import time
from contextlib import ExitStack
from itertools import count
from typing import TYPE_CHECKING

import pytest

from e2e.https_peers import COUNTED, PEERS, SEEN, Peer, begun, go
from e2e.tls_peers import answers, curl_urls, https_server, seen
from e2e.tracer import CAPTURE, SLOWNESS, trace
from peers.process import wait_until

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from e2e.tracer import Row, Tracer

NAMES = ("curl", "requests", "http.server", "aiohttp", "uvicorn", "node", "wget", "gnutls-serv", "net/http", "a Rust program",
         "HttpsURLConnection")  # fmt: skip
CLIENTS = [peer for peer in PEERS if peer.name in NAMES and peer.role == "client"]
SERVERS = [peer for peer in PEERS if peer.name in NAMES and peer.role == "server"]
ASKED = len(CLIENTS + SERVERS)
CONNECTIONS = ASKED + 2  # gnutls-serv ends each of its three
PORT = 15000
PATHS = ("/small?0.0", "/small?0.1", "/small?0.2")
EXPECTED = sorted(("GET", path, 200) for path in PATHS)
Held = list[tuple[Peer, "subprocess.Popen[bytes]", int]]


def ask(server: Peer, process: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    go(process)
    assert wait_until(lambda: answers(port), 20 * SLOWNESS), f"{server}: {(folder / 'output.log').read_text()}"
    time.sleep(SLOWNESS)  # within which a new program is attached to
    curl_urls(folder, port, PATHS)


def use(client: Peer, process: subprocess.Popen[bytes], folder: Path) -> None:
    go(process)
    assert process.wait(60 * SLOWNESS) == 0, f"{client}: {(folder / 'output.log').read_text()}"


def told(rows: list[Row], kind: str, **attributes: int) -> list[tuple[str, str, int]]:
    wanted = {name.replace("_", "."): value for name, value in attributes.items()}
    return seen([row for row in rows if wanted.items() <= row["attributes"].items()], kind)


def is_exchange(row: Row) -> bool:
    """Not a failed connect: of name services, say."""
    return bool(row["name"] == "GET")


def assert_each_is_told(rows: list[Row], clients: Held, servers: Held) -> None:
    for peer, process, _ in clients:
        expected = EXPECTED if peer.expected == SEEN else []
        assert told(rows, "client", process_pid=process.pid) == expected, peer
    for peer, _, port in servers:
        assert told(rows, "client", server_port=port) == EXPECTED, f"curl, of {peer}"
        assert told(rows, "server", server_port=port) == (EXPECTED if peer.expected == SEEN else []), peer


def assert_ledger(tracer: Tracer) -> None:
    """Of each connection both ends are accounted for; nothing was lost."""
    ledger = tracer.stop().ledger
    line = next(line for line in ledger.splitlines() if "TLS connections" in line)
    connections, shown, without, others, in_memory = (int(number) for number in re.findall(r" (\d+)", line))
    peers = CLIENTS + SERVERS
    hidden = sum(peer.expected == COUNTED for peer in peers)
    assert in_memory == sum(peer.in_memory for peer in peers), line
    assert (connections, without, others) == (2 * CONNECTIONS, 0, in_memory + hidden), line
    assert shown == connections - in_memory - hidden, line
    assert re.search(r"^ledger exchanges: seen (\d+) = recorded \1 ", ledger, re.MULTILINE), ledger


@pytest.mark.timeout(1000)  # a dozen programs that start
def test_tls_libraries_under_one_tracer(tmp_path: Path) -> None:
    ports = count(PORT)
    with ExitStack() as stack:
        nginx = stack.enter_context(https_server("nginx", next(ports), tmp_path))

        def hold(peers: list[Peer], *, at: int = 0) -> Held:
            out = []
            for peer in peers:
                port = at or next(ports)
                process = stack.enter_context(begun(peer.words(port, tmp_path, PATHS), tmp_path))
                out.append((peer, process, port))
            return out

        servers, clients = hold(SERVERS), hold(CLIENTS, at=nginx.port)
        tracer = stack.enter_context(trace("--tls", "auto"))
        assert f"({CAPTURE})" in tracer.ready_line()
        for server in servers:
            ask(*server, tmp_path)
        for client, process, _ in clients:
            use(client, process, tmp_path)
        rows = tracer.rows(2 * len(PATHS) * ASKED, timeout=2 * SLOWNESS, where=is_exchange)
        assert told(rows, "server", server_port=nginx.port) == nginx.logged(len(CLIENTS) * len(PATHS))
        assert_each_is_told(rows, clients, servers)
        assert_ledger(tracer)
