"""Which TLS libraries are followed: a client or a server of each, against a peer that is; what is not seen is counted.

`scripts/https --write` makes the README's table of what these tests have found.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from peers import build
from peers.process import wait_until

from .https_peers import COUNTED, NO_TEXT, PEERS, SEEN, Peer, begun, go
from .tls_peers import answers, curl_urls, https_server, make_certificates, make_files, seen
from .tracer import SLOWNESS, Tracer, trace

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from .stage import Ports
    from .tracer import Row

pytestmark = pytest.mark.root
if not shutil.which("nginx"):
    pytest.skip("needs nginx", allow_module_level=True)
FOUND_S = 1.0 * SLOWNESS  # within which a new program is attached to, on a busy machine too
PATHS = ("/small?0.0", "/small?0.1", "/small?0.2")
EXPECTED = sorted(("GET", path, 200) for path in PATHS)
LEDGERS = {  # of each connection: seen, shown, without plain text, in memory or not followed; sessions in memory
    (2, 2, 0, 0, 0): SEEN,
    (1, 0, 0, 1, 1): SEEN,
    (2, 1, 1, 0, 0): NO_TEXT,
    (2, 1, 0, 1, 0): COUNTED,
}


def watch(peer: Peer, process: subprocess.Popen[bytes], port: int) -> AbstractContextManager[Tracer]:
    """Trace both sides by their port; of a peer that moves ciphertext itself, its own side alone."""
    asked = ["--pid", str(process.pid)] if peer.in_memory else ["--port", str(port)]
    return trace("--tls", "auto", *asked, *peer.flags)


@contextmanager
def beside(peer: Peer, folder: Path, port: int) -> Iterator[None]:
    """What is to run before a client of the row begins."""
    if not peer.beside:
        yield
        return
    with begun(peer.words_beside(port, folder), folder) as process:
        go(process)
        assert wait_until(lambda: answers(port), 20 * SLOWNESS)
        yield


def ask(peer: Peer, folder: Path, port: int) -> str:
    """Have a client of the row ask nginx; returns whether it was seen."""
    with (
        https_server("nginx", port, folder),
        beside(peer, folder, port + 1),
        begun(peer.words(port, folder, PATHS), folder) as process,
        watch(peer, process, port) as tracer,
    ):
        go(process)
        assert process.wait(60 * SLOWNESS) == 0, (folder / "output.log").read_text()
        return outcome(tracer, peer)


def serve(peer: Peer, folder: Path, port: int) -> str:
    """Have curl ask a server of the row."""
    make_certificates(folder)
    make_files(folder)
    with begun(peer.words(port, folder), folder) as process, watch(peer, process, port) as tracer:
        go(process)
        assert wait_until(lambda: answers(port), 20 * SLOWNESS), (folder / "output.log").read_text()
        time.sleep(FOUND_S)
        curl_urls(folder, port, PATHS)
        return outcome(tracer, peer)


def serve_by_nginx(peer: Peer, folder: Path, port: int) -> str:
    with https_server("nginx", port, folder) as server, watch(peer, server.process, port) as tracer:
        curl_urls(folder, port, PATHS)
        return outcome(tracer, peer)


def is_exchange(row: Row) -> bool:
    """Not one of our looks whether a server listens yet."""
    return bool(row["name"] == "GET")


def outcome(tracer: Tracer, peer: Peer) -> str:
    """Whether the peer was seen, by the rows and by the ledger; what is neither is said as it is."""
    other = "server" if peer.role == "client" else "client"
    rows = tracer.rows(3 if peer.in_memory or peer.expected != SEEN else 6, timeout=3 * SLOWNESS, where=is_exchange)
    line = next(line for line in tracer.stop().ledger.splitlines() if "TLS connections" in line)
    numbers = [int(number) for number in re.findall(r" (\d+)", line)]
    connections = numbers[0] if peer.in_memory else numbers[0] // 2  # both ends are seen
    told, found = seen(rows, peer.role), LEDGERS.get(tuple(one // connections for one in numbers), "")
    if told == (EXPECTED if found == SEEN else []) and seen(rows, other) == ([] if peer.in_memory else EXPECTED):
        return found
    return f"wrong: {told}, {line}"


@pytest.mark.parametrize("peer", PEERS, ids=lambda one: f"{one.name}-{one.kind.library}-{one.role}".replace(" ", "_"))
def test_support(peer: Peer, tmp_path: Path, ports: Ports, record_property: Callable[[str, object], None]) -> None:
    way = serve_by_nginx if peer.name == "nginx" else ask if peer.role == "client" else serve
    try:
        found = way(peer, tmp_path, ports.take())
    except build.PeerUnavailable as error:
        pytest.skip(str(error))
    record_property("https", json.dumps([*peer.kind, peer.role, peer.name, found]))
    assert found == peer.expected
