"""HTTPS between real peers: each exchange in the server's log is one row of the server and one of the client."""

from __future__ import annotations

import shutil
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from . import tls_peers
from .kernel_objects import children
from .tls_peers import (
    BIG_BYTES,
    HttpsServer,
    ask_many,
    assert_nothing_lost,
    assert_told_once,
    curl,
    https_server,
    run_python,
    seen,
)
from .tracer import How, Tracer, for_ports, in_guest, trace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .stage import Ports

pytestmark = pytest.mark.root
if not shutil.which("nginx"):
    pytest.skip("needs nginx", allow_module_level=True)

REQUESTS = """
import ssl, sys, requests
from requests.adapters import HTTPAdapter
url, ca, version, *paths = sys.argv[1:]
class Adapter(HTTPAdapter):
    def init_poolmanager(self, *args, **more):
        context = ssl.create_default_context(cafile=ca)
        context.minimum_version = context.maximum_version = ssl.TLSVersion[version.replace(".", "_")]
        super().init_poolmanager(*args, ssl_context=context, **more)
with requests.Session() as session:
    session.mount("https://", Adapter())
    for path in paths:
        session.get(url + path, verify=ca)
"""
URLLIB = """
import ssl, sys, urllib.request
url, ca, version, *paths = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
context.minimum_version = context.maximum_version = ssl.TLSVersion[version.replace(".", "_")]
for path in paths:
    urllib.request.urlopen(url + path, context=context).read()
"""


def by_curl(server: HttpsServer, version: str, paths: list[str]) -> None:
    number = version.removeprefix("TLSv")
    curl(server, paths, f"--tlsv{number}", "--tls-max", number)


def by_wget(server: HttpsServer, version: str, paths: list[str]) -> None:
    ciphers = {"TLSv1.2": "NORMAL:-VERS-ALL:+VERS-TLS1.2", "TLSv1.3": "NORMAL:-VERS-ALL:+VERS-TLS1.3"}[version]
    urls = [server.url(path) for path in paths]
    command = ["wget", "-q", f"--ca-certificate={server.ca}", f"--ciphers={ciphers}", "-O", "/dev/null", *urls]
    subprocess.run(command, check=True, timeout=60)


def by_python(source: str) -> Callable[[HttpsServer, str, list[str]], None]:
    return lambda server, version, paths: run_python(source, server.url(""), server.ca, version, *paths) and None


CLIENTS = {"curl": by_curl, "requests": by_python(REQUESTS), "urllib": by_python(URLLIB), "wget": by_wget}
INSTALLED = [name for name in CLIENTS if name in ("requests", "urllib") or shutil.which(name)]


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, ports: Ports, request: pytest.FixtureRequest
) -> Iterator[tuple[Tracer, dict[str, HttpsServer]]]:
    """Two servers, begun before the tracer, which looks at their ports alone; in a guest of the lab one sees it all."""
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in ("nginx", "python")}
    with (
        https_server("nginx", ports.take(), folders["nginx"]) as nginx,
        https_server("python", ports.take(), folders["python"]) as python,
    ):
        servers = {"nginx": nginx, "python": python}
        if in_guest():
            yield request.getfixturevalue("stage").tcp, servers
            return
        with trace("--tls", "auto", *for_ports([nginx.port, python.port])) as tracer:
            yield tracer, servers


def rows_of(tracer: Tracer, mark: str, expect: int) -> list[Any]:
    """The rows whose target holds a mark; and none whose status was cut off."""
    return tracer.rows(expect, timeout=10, where=lambda row: mark in str(row["attributes"]))


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
@pytest.mark.parametrize("client", INSTALLED)
@pytest.mark.parametrize("kind", ["nginx", "python"])
def test_each_exchange_is_told_once_by_each_side(
    place: tuple[Tracer, dict[str, HttpsServer]], kind: str, client: str, version: str
) -> None:
    tracer, servers = place
    server, mark = servers[kind], f"{kind}-{client}-{version}"
    paths = [f"/small?{mark}-{n}" for n in range(4)]
    CLIENTS[client](server, version, paths)
    rows = rows_of(tracer, mark, 2 * len(paths))
    logged = [line for line in server.logged(4) if mark in line[1]]
    assert len(logged) == len(paths)
    assert_told_once(rows, logged, server.port)
    for row in rows:
        attributes = row["attributes"]
        assert attributes["server.address"] == "localhost"
        assert attributes["network.transport"] == "tcp"
        if row["kind"] == "client":
            assert attributes["url.full"].startswith(f"https://localhost:{server.port}/small?")
        assert row["response_body_bytes"] == len("small\n")
        assert row["status"] == "unset"


@pytest.mark.parametrize("kind", ["nginx", "python"])
def test_large_bodies_have_their_sizes(place: tuple[Tracer, dict[str, HttpsServer]], kind: str, tmp_path: Path) -> None:
    tracer, servers = place
    server, sent = servers[kind], tmp_path / "sent"
    sent.write_bytes(b"y" * 1_234_567)
    curl(server, ["/big?down-" + kind])
    curl(server, [f"/upload/up-{kind}"], "-T", str(sent))
    down, up = rows_of(tracer, f"down-{kind}", 2), rows_of(tracer, f"up-{kind}", 2)
    assert [row["response_body_bytes"] for row in down] == [BIG_BYTES] * 2
    assert [row["request_body_bytes"] for row in up] == [1_234_567] * 2
    assert {row["attributes"]["http.response.status_code"] for row in up} == {201}


@pytest.mark.parametrize("kind", ["nginx", "python"])
def test_fifty_connections_at_once(place: tuple[Tracer, dict[str, HttpsServer]], kind: str) -> None:
    tracer, servers = place
    server = servers[kind]
    before = len(server.logged(0))
    ask_many(server.port, server.ca, 50, 6)
    rows = tracer.rows(600, timeout=20, where=lambda row: is_numbered(row) and of_port(row, server.port))
    logged = [
        line for line in server.logged(before + 300) if "?" in line[1] and line[1].partition("?")[2][:1].isdigit()
    ]
    assert len(logged) == 300
    assert seen(rows, "server") == logged
    assert seen(rows, "client") == logged


def of_port(row: Any, port: int) -> bool:
    return bool(row["attributes"].get("server.port") == port)


def is_numbered(row: Any) -> bool:
    attributes = row["attributes"]
    query = attributes.get("url.query") or attributes.get("url.full", "").partition("?")[2]
    return query[:1].isdigit() and "." in query


def test_two_hundred_short_curls(place: tuple[Tracer, dict[str, HttpsServer]]) -> None:
    tracer, servers = place
    server = servers["nginx"]
    paths = [f"/small?short-{n}" for n in range(200)]
    for path in paths:
        curl(server, [path])
    rows = rows_of(tracer, "short-", 400)
    expected = sorted(("GET", path, 200) for path in paths)
    assert seen(rows, "server") == expected
    assert seen(rows, "client") == expected
    assert {row["resource"]["service.name"] for row in rows if row["kind"] == "client"} == {"curl"}


def test_client_certificates(tmp_path: Path, ports: Ports) -> None:
    more = "ssl_client_certificate {folder}/ca.pem; ssl_verify_client on;"
    with (
        https_server("nginx", ports.take(), tmp_path, more) as server,
        trace("--tls", "auto", "--port", str(server.port)) as tracer,
    ):
        curl(server, ["/small?known"], "--cert", str(tmp_path / "client.pem"))
        curl(server, ["/small?unknown"])
        rows = tracer.rows(4)
        expected = sorted([("GET", "/small?known", 200), ("GET", "/small?unknown", 400)])
        assert server.logged(2) == expected
    assert seen(rows, "server") == seen(rows, "client") == expected


CLOSING_SERVER = """
import os, socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2])
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listening:
    print("listening", flush=True)
    for how in sys.argv[3:]:
        tls = context.wrap_socket(listening.accept()[0], server_side=True)
        tls.recv(4096)
        if how == "silent":
            tls.close()
            continue
        tls.sendall(b"HTTP/1.0 200 OK\\r\\n" + (b"Content-Length: 9\\r\\n" if how == "short" else b"") + b"\\r\\nbody")
        if how == "notify":
            tls = tls.unwrap()
        tls.close()
"""
ONE_AFTER_ANOTHER = """
import ssl, sys, urllib.request
context = ssl.create_default_context(cafile=sys.argv[2])
for how in sys.argv[3:]:
    try:
        urllib.request.urlopen(f"https://localhost:{sys.argv[1]}/{how}", context=context).read()
    except Exception as error:
        print(type(error).__name__)
"""


def test_how_connections_end(tmp_path: Path, ports: Ports) -> None:
    """A body that the end of the connection ends is whole; one that is cut short is not; nor is no answer one."""
    tls_peers.make_certificates(tmp_path)
    port, ways = ports.take(), ["notify", "plain", "short", "silent"]
    command = [sys.executable, "-c", CLOSING_SERVER, str(port), str(tmp_path / "server.pem"), *ways]
    with (
        trace("--tls", "auto", "--port", str(port)) as tracer,
        subprocess.Popen(command, stdout=subprocess.PIPE) as server,
    ):
        assert server.stdout
        assert server.stdout.readline() == b"listening\n"
        run_python(ONE_AFTER_ANOTHER, str(port), str(tmp_path / "ca.pem"), *ways)
        rows = tracer.rows(8)
        ended = tracer.stop()
    told = {(row["kind"], seen([row], row["kind"])[0][1]): row["attributes"].get("error.type") for row in rows}
    assert told == {
        ("server", "/notify"): None,
        ("client", "/notify"): None,
        ("server", "/plain"): None,
        ("client", "/plain"): None,
        ("server", "/short"): "incomplete",
        ("client", "/short"): "incomplete",
        ("server", "/silent"): "connection_closed",
        ("client", "/silent"): "connection_closed",
    }
    assert_nothing_lost(ended.ledger, 8)


IN_MEMORY = """
import asyncio, ssl, sys
port, folder = int(sys.argv[1]), sys.argv[2]
async def answer(reader, writer):
    while await reader.readuntil(b"\\r\\n\\r\\n"):
        writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 4\\r\\n\\r\\nbody")
async def ask(writer, reader, number):
    writer.write(f"GET /{number} HTTP/1.1\\r\\nHost: there.example\\r\\n\\r\\n".encode())
    await reader.readuntil(b"body")
async def main():
    server_context, client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile=folder + "/ca.pem")
    server_context.load_cert_chain(folder + "/server.pem")
    print("ready", flush=True)
    sys.stdin.readline()
    server = await asyncio.start_server(answer, "127.0.0.1", port, ssl=server_context)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_context, server_hostname="localhost")
    for number in range(3):
        await ask(writer, reader, number)
    print("done", flush=True)
    sys.stdin.readline()
asyncio.run(main())
"""


@pytest.mark.parametrize("how", ["pid", "port"])
def test_a_session_in_memory_has_no_address(tmp_path: Path, ports: Ports, how: str) -> None:
    """An application that moves the ciphertext itself: which socket carries it cannot be told, so no filter by port can."""
    tls_peers.make_certificates(tmp_path)
    port = ports.take()
    command = [sys.executable, "-c", IN_MEMORY, str(port), str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        assert process.stdin and process.stdout
        assert process.stdout.readline() == "ready\n"
        asked = ["--pid", str(process.pid)] + (["--port", str(port)] if how == "port" else [])
        with trace("--tls", "auto", *asked) as tracer:
            process.stdin.write("\n")
            assert process.stdout.readline() == "done\n"
            rows = tracer.rows(6 if how == "pid" else 0)
            ended = tracer.stop()
        process.kill()
    if how == "port":
        assert rows == []
        assert "seen 2 = recorded 0 + in flight 0 + filtered 2" in ended.ledger
        assert "2 HTTPS sessions (each end) whose port is not known (--port)" in ended.ledger
        return
    expected = [("GET", f"/{n}", 200) for n in range(3)]
    assert seen(rows, "server") == seen(rows, "client") == expected
    for row in rows:
        attributes = row["attributes"]
        assert (attributes["server.address"], attributes["server.port"]) == ("there.example", 443)
        assert not [name for name in attributes if name.startswith(("network.peer", "client.", "network.transport"))]


LATE = """
import ctypes, socket, sys, time
sys.stdin.readline()
import ssl
begun = time.time()
context = ssl.create_default_context(cafile=sys.argv[2])
number = 0
while (now := time.time()) < begun + 0.6:
    with context.wrap_socket(socket.create_connection(("127.0.0.1", int(sys.argv[1]))), server_hostname="localhost") as tls:
        tls.sendall(f"GET /small?late-{int((now - begun) * 1000)}.{number} HTTP/1.0\\r\\n\\r\\n".encode())
        while tls.recv(65536):
            pass
    number += 1
"""


def library_folder(folder: Path) -> Path:
    """A folder with a TLS library that no one has used before: a copy of the system's."""
    paths = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    folder.mkdir()
    for name in ("libssl.so.3", "libcrypto.so.3"):
        line = next(line for line in paths.splitlines() if line.strip().startswith(f"{name} "))
        shutil.copyfile(line.split("=> ")[1], folder / name)
    return folder


@pytest.mark.skipif(not ssl.OPENSSL_VERSION.startswith("OpenSSL 3"), reason="this Python's OpenSSL has another name")
def test_a_library_that_appears_later_is_followed_within_a_tenth_of_a_second(tmp_path: Path, ports: Ports) -> None:
    libraries = library_folder(tmp_path / "lib")
    (tmp_path / "place").mkdir()
    with (
        https_server("nginx", ports.take(), tmp_path / "place") as server,
        trace("--tls", "auto", "--port", str(server.port)) as tracer,
    ):
        command = [sys.executable, "-c", LATE, str(server.port), server.ca]
        environment = {"LD_LIBRARY_PATH": str(libraries)}
        with subprocess.Popen(command, stdin=subprocess.PIPE, env=environment) as process:
            time.sleep(0.3)
            process.communicate(b"\n")
        logged = [line[1] for line in server.logged(3)]
        rows = tracer.rows(len(logged))
    late = sorted(target for target in logged if int(target.partition("late-")[2].partition(".")[0]) >= 100)
    told = {target for _, target, _ in seen(rows, "client")}
    assert len(late) > 3
    assert [target for target in late if target not in told] == []


def test_off_and_excluded(tmp_path: Path, ports: Ports) -> None:
    with https_server("nginx", ports.take(), tmp_path) as server:
        for flags in (["--tls", "off"], ["--tls-exclude", "*/libssl.so*"]):
            with trace("--tls", "auto", "--port", str(server.port), *flags) as tracer:
                curl(server, ["/small?unseen"])
                assert tracer.rows() == []


def test_a_session_that_was_there_before(tmp_path: Path, ports: Ports) -> None:
    """Its first request is not taken up, since an answer to an earlier one may be on its way; the next ones are."""
    source = """
import http.client, ssl, sys
connection = http.client.HTTPSConnection("localhost", int(sys.argv[1]), context=ssl.create_default_context(cafile=sys.argv[2]))
for number in range(4):
    connection.request("GET", f"/small?{number}")
    connection.getresponse().read()
    if not number:
        print("asked", flush=True)
        sys.stdin.readline()
"""
    with https_server("nginx", ports.take(), tmp_path) as server:
        command = [sys.executable, "-c", source, str(server.port), server.ca]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout
            assert process.stdout.readline() == b"asked\n"
            with trace("--tls", "auto", "--port", str(server.port)) as tracer:
                process.communicate(b"\n")
                rows = tracer.rows(4)
    expected = [("GET", f"/small?{n}", 200) for n in (2, 3)]
    assert seen(rows, "server") == seen(rows, "client") == expected


WITHOUT_MULTI = """
import sys
try:
    from ringspan.probe import btf
except ImportError:
    pass
else:
    del btf.FUNCTIONS["bpf_uprobe_multi_link_attach"]
"""


def test_where_one_link_cannot_hold_many_functions(tmp_path: Path, ports: Ports) -> None:
    """As before Linux 6.6: a program and a perf event for each function."""
    (tmp_path / "old").mkdir()
    (tmp_path / "place").mkdir()
    (tmp_path / "old" / "sitecustomize.py").write_text(WITHOUT_MULTI)
    paths = [str(tmp_path / "old")]
    with (
        https_server("nginx", ports.take(), tmp_path / "place") as server,
        trace("--tls", "auto", "--port", str(server.port), run=How(paths=paths)) as tracer,
    ):
        (attacher,) = children(tracer.pid, "ringspan.tls.attacher")
        links = [str(fd.readlink()) for fd in Path(f"/proc/{attacher}/fd").iterdir()]
        run_python(REQUESTS, server.url(""), server.ca, "TLSv1.3", "/small?1", "/small?2")
        by_wget(server, "TLSv1.3", ["/small?3"])
        rows = tracer.rows(6)
        ended = tracer.stop()
        logged = server.logged(3)
    assert "anon_inode:bpf_link" not in links
    assert links.count("anon_inode:[perf_event]") > 20
    assert seen(rows, "server") == seen(rows, "client") == logged
    assert ended.seconds < 2


PROXY = """
import socket, sys, threading
def carry(one, other):
    while data := one.recv(65536):
        other.sendall(data)
    other.shutdown(socket.SHUT_WR)
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listening:
    print("listening", flush=True)
    client, _ = listening.accept()
    head = client.recv(4096).decode()
    server = socket.create_connection(("127.0.0.1", int(head.split()[1].split(":")[1])))
    client.sendall(b"HTTP/1.1 200 OK\\r\\n\\r\\n")
    back = threading.Thread(target=carry, args=(server, client))
    back.start()
    carry(client, server)
    back.join()
"""


def test_https_through_a_proxy(tmp_path: Path, ports: Ports) -> None:
    """A connection that was plain HTTP carries a session next; the proxy, which moves ciphertext, tells nothing of it."""
    with https_server("nginx", ports.take(), tmp_path) as server:
        port = ports.take()
        command = [sys.executable, "-c", PROXY, str(port)]
        with (
            trace("--tls", "auto", *for_ports([server.port, port])) as tracer,
            subprocess.Popen(command, stdout=subprocess.PIPE) as proxy,
        ):
            assert proxy.stdout
            assert proxy.stdout.readline() == b"listening\n"
            curl(server, ["/small?1", "/small?2"], "-x", f"http://127.0.0.1:{port}")
            rows = tracer.rows(6)
    inner = [row for row in rows if row["name"] == "GET"]
    expected = [("GET", "/small?1", 200), ("GET", "/small?2", 200)]
    assert seen(inner, "server") == seen(inner, "client") == expected
    assert sorted(row["kind"] for row in rows if row["name"] == "CONNECT") == ["client", "server"]
    assert len(rows) == 6
    for row in inner:
        if row["kind"] == "client":
            assert row["attributes"]["server.port"] == server.port
            assert row["attributes"]["network.peer.port"] == port


def test_http2_is_counted_not_followed(tmp_path: Path, ports: Ports) -> None:
    with https_server("nginx", ports.take(), tmp_path) as server:
        conf = tmp_path / "nginx.conf"
        conf.write_text(conf.read_text().replace(" ssl;", " ssl http2;", 1))
        server.process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        with trace("--tls", "auto", "--port", str(server.port)) as tracer:
            url = server.url("/small")
            command = ["curl", "-sS", "--http2", "--cacert", server.ca, "-w", "%{http_version}", "-o", "/dev/null", url]
            assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "2"
            assert tracer.rows() == []
            ended = tracer.stop()
    assert "seen 0 = recorded 0" in ended.ledger
    assert "2 HTTP/2 connections (each end)" in ended.ledger


NODE = """
const https = require("https"), fs = require("fs"), [port, folder] = process.argv.slice(1);
const read = (name) => fs.readFileSync(folder + "/" + name);
const agent = new https.Agent({keepAlive: true, maxSockets: 2, ca: read("ca.pem")});
const ask = (n) => new Promise((done) => https.get({host: "localhost", port, path: "/small?" + n, agent}, (answer) => {
  answer.resume(); answer.on("end", done);
}));
const server = https.createServer({key: read("server.pem"), cert: read("server.pem")}, (_, answer) => answer.end("node\\n"));
process.stdin.once("data", () => server.listen(0, "127.0.0.1", async () => {
  await Promise.all([1, 2, 3, 4].map(ask));
  await new Promise((done) => https.get({host: "localhost", port: server.address().port, path: "/own", agent}, (answer) => {
    answer.resume(); answer.on("end", done);
  }));
  console.log("done");
}));
console.log("ready");
"""


@pytest.mark.skipif(not shutil.which("node"), reason="needs node")
def test_a_library_inside_an_executable(tmp_path: Path, ports: Ports) -> None:
    """Node: OpenSSL is a part of it; ciphertext goes by memory, and requests are written from within its callbacks."""
    with https_server("nginx", ports.take(), tmp_path) as server:
        command = ["node", "-e", NODE, str(server.port), str(tmp_path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
            assert process.stdin
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            with trace("--tls", "auto", "--pid", str(process.pid)) as tracer:
                process.stdin.write("\n")
                assert process.stdout.readline() == "done\n"
                rows = tracer.rows(6, where=lambda row: row["name"] == "GET")
            process.kill()
        assert server.logged(4) == [("GET", f"/small?{n}", 200) for n in range(1, 5)]
    assert seen(rows, "client") == sorted([("GET", "/own", 200), *(("GET", f"/small?{n}", 200) for n in range(1, 5))])
    assert seen(rows, "server") == [("GET", "/own", 200)]
    assert not [row for row in rows if "network.peer.address" in row["attributes"]]
