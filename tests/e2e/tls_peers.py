"""Real peers that speak HTTPS, with certificates made for the day."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from cryptography.x509 import load_pem_x509_certificate

from peers import access_log
from peers.process import wait_until

from .tracer import SLOWNESS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .tracer import Row

BIG_BYTES = 3_000_000
SCALE = int(os.environ.get("RINGSPAN_TLS_SCALE", "1"))  # how many times as many requests as in the short form
NGINX = """
{user} daemon off; worker_processes 2; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{}}
http {{
  log_format sizes '"$request" $status $body_bytes_sent $content_length';
  access_log {folder}/access.log sizes; client_body_temp_path {folder}/body; client_max_body_size 64m;
  keepalive_requests 100000; {more}
  server {{
    listen 127.0.0.1:{port} ssl; ssl_protocols TLSv1.2 TLSv1.3;
    ssl_certificate {folder}/server.pem; ssl_certificate_key {folder}/server.pem;
    root {folder}/www; location /upload {{ dav_methods PUT; create_full_put_path on; }}
  }}
}}
"""
PYTHON_SERVER = """
import http.server, os, ssl, sys
port, folder = int(sys.argv[1]), sys.argv[2]
class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def __init__(self, *args):
        super().__init__(*args, directory=folder + "/www")
    def log_request(self, code="-", size="-"):
        os.write(1, f'"{self.requestline}" {int(code)}\\n'.encode())  # whole, whoever else writes
    def do_PUT(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(201); self.send_header("Content-Length", "0"); self.end_headers()
class Server(http.server.ThreadingHTTPServer):
    def get_request(self):  # the handshake is the thread's
        connection, address = super().get_request()
        return context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address
    request_queue_size = 100
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(folder + "/server.pem")
Server(("127.0.0.1", port), Handler).serve_forever()
"""
# A client: port, authorities, connections, requests of each, paths.
MANY = """
import http.client, ssl, sys
from concurrent.futures import ThreadPoolExecutor
port, connections, each, paths = int(sys.argv[1]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5:]
context = ssl.create_default_context(cafile=sys.argv[2])
def use(number):
    connection = http.client.HTTPSConnection("localhost", port, context=context, timeout=480)
    for turn in range(each):
        connection.request("GET", f"/{paths[turn % len(paths)]}?{number}.{turn}")
        print(f"{number}.{turn} {connection.sock.getsockname()[1]}\\n", end="")
        connection.getresponse().read()
    connection.close()
with ThreadPoolExecutor(connections) as pool:
    list(pool.map(use, range(connections)))
"""


OF_OTHERS = re.compile(
    r"\d+ HTTPS sessions \(each end\) whose port is not known \(--port\)"
    r"|\d+ times a file with a TLS library was let go of|to be changed"
)


@dataclass(frozen=True)
class HttpsServer:
    """A server, where it is and what it has logged."""

    port: int
    folder: Path
    process: subprocess.Popen[bytes]

    def url(self, path: str) -> str:
        return f"https://localhost:{self.port}{path}"

    @property
    def ca(self) -> str:
        return str(self.folder / "ca.pem")

    def logged(self, expect: int) -> list[tuple[str, str, int]]:
        lines = access_log.read(self.folder / "access.log", expect)
        return sorted((line.method, line.target, line.status) for line in lines)


def make_certificates(folder: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    for name, of in (("server", "localhost"), ("client", "someone@example.org")):
        issued = authority.issue_cert(of)
        issued.private_key_and_cert_chain_pem.write_to_path(str(folder / f"{name}.pem"))
        key = load_pem_private_key(issued.private_key_pem.bytes(), None)
        certificate = load_pem_x509_certificate(issued.cert_chain_pems[0].bytes())
        (folder / f"{name}.p8").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        secret = BestAvailableEncryption(b"secret")
        (folder / f"{name}.p12").write_bytes(serialize_key_and_certificates(b"key", key, certificate, None, secret))  # type: ignore[arg-type]


def make_files(folder: Path) -> None:
    (folder / "www").mkdir()
    (folder / "www" / "small").write_text("small\n")
    (folder / "www" / "big").write_bytes(b"x" * BIG_BYTES)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def https_server(kind: str, port: int, folder: Path, more: str = "") -> Iterator[HttpsServer]:
    """A server of HTTPS: `nginx` (with more of its configuration) or `python`."""
    make_certificates(folder)
    make_files(folder)
    command = [sys.executable, "-c", PYTHON_SERVER, str(port), str(folder)]
    if kind == "nginx":
        user = "user root;" if os.geteuid() == 0 else ""
        more = more.replace("{folder}", str(folder))
        (folder / "nginx.conf").write_text(NGINX.format(user=user, folder=folder, port=port, more=more))
        command = ["nginx", "-e", str(folder / "error.log"), "-p", str(folder), "-c", "nginx.conf"]
    out = folder / ("output.log" if kind == "nginx" else "access.log")
    with out.open("wb") as log, (folder / "stderr.log").open("wb") as errors:
        process = subprocess.Popen(command, stdout=log, stderr=errors)
    try:
        assert wait_until(lambda: answers(port), 10 * SLOWNESS), (folder / "stderr.log").read_text()
        yield HttpsServer(port, folder, process)
    finally:
        process.terminate()
        process.wait(10)


def run_python(source: str, *words: str, **environment: str) -> str:
    """Run a client of ours in a process of its own; returns what it printed."""
    command = [sys.executable, "-c", textwrap.dedent(source), *words]
    return subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=60 * SCALE, env=os.environ | environment
    ).stdout


def ask_many(
    port: int, authorities: str, connections: int, each: int, paths: Sequence[str] = ("small",)
) -> dict[str, int]:
    """Ask over many connections at once, on each for these paths in turn: ?CONNECTION.TURN; returns whose port was which."""
    said = run_python(MANY, str(port), authorities, str(connections), str(each), *paths)
    return {query: int(own) for query, own in map(str.split, said.splitlines())}


def curl(server: HttpsServer, paths: Sequence[str], *flags: str) -> None:
    urls = [word for path in paths for word in ("-o", "/dev/null", server.url(path))]
    subprocess.run(
        ["curl", "-sS", "--http1.1", "--cacert", server.ca, *flags, *urls], check=True, timeout=60 * SLOWNESS
    )


def curl_urls(folder: Path, port: int, paths: Sequence[str]) -> None:
    """Ask whoever serves at a port, on one connection."""
    urls = [word for path in paths for word in ("-o", "/dev/null", f"https://localhost:{port}{path}")]
    command = ["curl", "-sS", "--fail", "--http1.1", "--cacert", str(folder / "ca.pem"), *urls]
    subprocess.run(command, check=True, timeout=60 * SLOWNESS)


def seen(rows: Sequence[Row], kind: str) -> list[tuple[str, str, int]]:
    """What rows of a kind say, as a log would."""
    return sorted(_line(row["attributes"]) for row in rows if row["kind"] == kind)


def assert_told_once(rows: Sequence[Row], logged: list[tuple[str, str, int]], port: int) -> None:
    """Each logged exchange is told once by each side, as HTTPS, with the addresses of the socket below."""
    assert seen(rows, "server") == logged
    assert seen(rows, "client") == logged
    for row in rows:
        attributes = row["attributes"]
        assert attributes["server.port"] == port
        assert attributes["network.peer.address"] == "127.0.0.1"
        if row["kind"] == "client":
            assert attributes["network.peer.port"] == port
            assert attributes["url.full"].startswith("https://localhost:")
        else:
            assert attributes["url.scheme"] == "https"


def assert_nothing_lost(ledger: str, count: int) -> None:
    """So many were told, none lost, and what was not followed is of others: of the whole host that is counted."""
    told = re.search(
        r"^ledger exchanges: seen (\d+) = recorded (\d+) \+ in flight 0 \+ filtered (\d+)$", ledger, re.MULTILINE
    )
    assert told, ledger
    seen_, recorded, filtered = map(int, told.groups())
    assert (recorded, seen_) == (count, count + filtered)
    found = ledger.partition("ledger not followed: ")[2].splitlines()[0]
    assert [one for one in found.split(", ") if one != "nothing" and not OF_OTHERS.fullmatch(one)] == []


def _line(attributes: Row) -> tuple[str, str, int]:
    if "url.full" in attributes:
        parts = urlsplit(attributes["url.full"])
        path, query = parts.path, parts.query
    else:
        path, query = attributes["url.path"], attributes.get("url.query", "")
    target = f"{path}?{query}" if query else path
    return attributes["http.request.method"], target, attributes.get("http.response.status_code", 0)
