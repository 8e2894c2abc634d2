"""Clients and servers of HTTPS by library, linkage and language, and whether ringspan sees what they say."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from peers import build

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SEEN, COUNTED, NO_TEXT = "seen", "not seen, counted", "not seen, counted as without plain text"
HOW = {  # words of a command line
    "openssl": {"client": "{program} client {port} plain {paths}", "server": "{program} server {port} {folder}/server.pem plain"},
    "rust": {"client": "client {port} {folder} {paths}", "server": "server {port} {folder}"},
}  # fmt: skip


class Kind(NamedTuple):
    """A row of the table."""

    library: str
    linkage: str
    language: str


@dataclass(frozen=True)
class Peer:
    """A program that is a client or a server: what it is built from, how it is begun, and what is expected of it."""

    name: str
    kind: Kind
    role: str
    command: str
    needs: str = ""
    expected: str = SEEN
    flags: tuple[str, ...] = ()  # of ringspan
    beside: str = ""  # run on a port of its own, so that the program is known before its client begins
    in_memory: bool = False  # it moves the ciphertext itself: no filter by port can tell what is its

    def words(self, port: int, folder: Path, paths: tuple[str, ...] = ()) -> list[str]:
        """The command line; raises PeerUnavailable."""
        return self._filled(self.command, port, folder, paths)

    def words_beside(self, port: int, folder: Path) -> list[str]:
        """The command line of what is run beside it."""
        return self._filled(self.beside, port, folder, ())

    def _filled(self, command: str, port: int, folder: Path, paths: tuple[str, ...]) -> list[str]:
        program = str(build.ensure(self.needs)) if self.needs else ""
        out = []
        for word in command.split():
            if word == "{paths}":
                out += paths
            elif word == "{urls}":
                out += [f"https://localhost:{port}{path}" for path in paths]
            elif word.startswith("@"):
                out.append(SOURCES[word[1:]])
            else:
                out.append(word.format(program=program, port=port, folder=folder, python=sys.executable))
        return out


NSS = """
import ctypes, sys
port, *paths = sys.argv[1:]
curl = ctypes.CDLL("libcurl-nss.so.4")
curl.curl_easy_init.restype = ctypes.c_void_p
handle = ctypes.c_void_p(curl.curl_easy_init())
URL, WRITE_TO, VERIFY_PEER, HTTP_VERSION, HTTP_1_1 = 10002, 10001, 64, 84, 2
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
curl.curl_easy_setopt(handle, WRITE_TO, ctypes.c_void_p(libc.fopen(b"/dev/null", b"w")))
curl.curl_easy_setopt(handle, VERIFY_PEER, ctypes.c_long(0))
curl.curl_easy_setopt(handle, HTTP_VERSION, ctypes.c_long(HTTP_1_1))
for path in paths:
    curl.curl_easy_setopt(handle, URL, f"https://localhost:{port}{path}".encode())
    assert curl.curl_easy_perform(handle) == 0
"""
REQUESTS = """
import sys, requests
ca, *urls = sys.argv[1:]
with requests.Session() as session:
    for url in urls:
        session.get(url, verify=ca).raise_for_status()
"""
ASYNCIO_CLIENT = """
import asyncio, ssl, sys
port, ca, *paths = sys.argv[1:]
async def main():
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", int(port), ssl=ssl.create_default_context(cafile=ca), server_hostname="localhost")
    for path in paths:
        writer.write(f"GET {path} HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n".encode())
        await reader.readuntil(b"small\\n")
asyncio.run(main())
"""
ASYNCIO_SERVER = """
import asyncio, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2])
async def answer(reader, writer):
    while await reader.readuntil(b"\\r\\n\\r\\n"):
        writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 6\\r\\n\\r\\nsmall\\n")
async def main():
    async with await asyncio.start_server(answer, "127.0.0.1", int(sys.argv[1]), ssl=context) as server:
        await server.serve_forever()
asyncio.run(main())
"""
AIOHTTP_CLIENT = """
import aiohttp, asyncio, ssl, sys
ca, *urls = sys.argv[1:]
async def main():
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=ca))
    async with aiohttp.ClientSession(connector=connector, raise_for_status=True) as session:
        for url in urls:
            async with session.get(url) as answer:
                await answer.read()
asyncio.run(main())
"""
AIOHTTP_SERVER = """
import ssl, sys
from aiohttp import web
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2])
async def answer(request):
    return web.Response(text="small\\n")
app = web.Application()
app.router.add_get("/small", answer)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), ssl_context=context, print=None)
"""
UVICORN = """
import sys, uvicorn
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"6")]})
    await send({"type": "http.response.body", "body": b"small\\n"})
port, pem = sys.argv[1:]
uvicorn.run(app, port=int(port), ssl_certfile=pem, ssl_keyfile=pem, lifespan="off", log_level="warning")
"""
CURL_CFFI = """
import sys
from curl_cffi import requests
ca, *urls = sys.argv[1:]
with requests.Session(verify=ca, http_version="v1") as session:
    for url in urls:
        session.get(url).raise_for_status()
"""
NODE_CLIENT = """
const https = require("https"), fs = require("fs"), [port, ca, ...paths] = process.argv.slice(1);
const agent = new https.Agent({keepAlive: true, maxSockets: 1, ca: fs.readFileSync(ca)});
const ask = (path) => new Promise((done) => https.get({host: "localhost", port, path, agent}, (answer) => {
  answer.resume(); answer.on("end", done);
}));
(async () => { for (const path of paths) await ask(path); agent.destroy(); })();
"""
NODE_SERVER = """
const https = require("https"), fs = require("fs"), [port, pem] = process.argv.slice(1), key = fs.readFileSync(pem);
https.createServer({key, cert: key}, (_, answer) => answer.end("small\\n")).listen(port, "127.0.0.1");
"""
HTTP_SERVER = """
import http.server, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "6"); self.end_headers(); self.wfile.write(b"small\\n")
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2])
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""
SOURCES = {
    "nss": NSS,
    "requests": REQUESTS,
    "asyncio-client": ASYNCIO_CLIENT,
    "asyncio-server": ASYNCIO_SERVER,
    "aiohttp-client": AIOHTTP_CLIENT,
    "aiohttp-server": AIOHTTP_SERVER,
    "uvicorn": UVICORN,
    "curl-cffi": CURL_CFFI,
    "node-client": NODE_CLIENT,
    "node-server": NODE_SERVER,
    "http-server": HTTP_SERVER,
}
OPENSSL3 = Kind("OpenSSL 3", "shared", "C, C++")
PYTHON = Kind("OpenSSL 3", "shared", "Python (ssl)")
PYTHON_MEMORY = Kind("OpenSSL 3", "shared", "Python (asyncio)")
BIO = Kind("OpenSSL 3, by BIO_read and BIO_write", "shared", "C, C++")
STATIC = Kind("OpenSSL 3", "static, with symbols", "C, C++")
STRIPPED = Kind("OpenSSL 3", "static, stripped", "C, C++")
NODE = Kind("OpenSSL 3", "static, with symbols", "Node")
NATIVE = Kind("OpenSSL 3", "shared", "Rust (native-tls)")
OPENSSL11 = Kind("OpenSSL 1.1", "shared", "C, C++")
NODE16 = Kind("OpenSSL 1.1", "static, with symbols", "Node 16")
BORINGSSL = Kind("BoringSSL", "static, with symbols", "C, C++")
BORING_MODULE = Kind("BoringSSL", "in a Python module, by `--tls-include`", "Python (curl_cffi)")
GNUTLS = Kind("GnuTLS", "shared", "C, C++")
GO = Kind("Go's crypto/tls", "static, stripped", "Go")
RUSTLS = Kind("rustls", "static", "Rust")
JSSE = Kind("JSSE", "of the virtual machine", "Java")
OF_NSS = Kind("NSS", "shared", "C, C++")
NOT_RUN = [
    (
        Kind("LibreSSL", "shared, or static with symbols", "C, C++"),
        "looked for by the names that it shares with OpenSSL; there is no package of it to test with",
    )
]

PEERS = [
    Peer("curl", OPENSSL3, "client", "curl -sS --http1.1 --cacert {folder}/ca.pem {urls}"),
    Peer("nginx", OPENSSL3, "server", "nginx"),
    Peer("requests", PYTHON, "client", "{python} -c @requests {folder}/ca.pem {urls}"),
    Peer("http.server", PYTHON, "server", "{python} -c @http-server {port} {folder}/server.pem"),
    Peer("asyncio", PYTHON_MEMORY, "client", "{python} -c @asyncio-client {port} {folder}/ca.pem {paths}",
         in_memory=True),
    Peer("asyncio", PYTHON_MEMORY, "server", "{python} -c @asyncio-server {port} {folder}/server.pem", in_memory=True),
    Peer("aiohttp", PYTHON_MEMORY, "client", "{program} -c @aiohttp-client {folder}/ca.pem {urls}", "aiohttp", in_memory=True),
    Peer("aiohttp", PYTHON_MEMORY, "server", "{program} -c @aiohttp-server {port} {folder}/server.pem", "aiohttp",
         in_memory=True),
    Peer("uvicorn", PYTHON_MEMORY, "server", "{program} -c @uvicorn {port} {folder}/server.pem", "uvicorn", in_memory=True),
    *(
        Peer(f"a C program ({need.removeprefix('tls-')})", kind, role, HOW["openssl"][role], need)
        for need, kind in (("tls-static", STATIC), ("tls-openssl11", OPENSSL11), ("tls-boringssl", BORINGSSL))
        for role in ("client", "server")
    ),
    *(
        Peer("a C program, stripped", STRIPPED, role, HOW["openssl"][role],
             "tls-stripped", COUNTED)
        for role in ("client", "server")
    ),
    *(
        Peer("a C program", BIO, role, HOW["openssl"][role].replace("plain", "bio"), "tls-openssl", NO_TEXT)
        for role in ("client", "server")
    ),
    Peer("node", NODE, "client", "{program} -e @node-client {port} {folder}/ca.pem {paths}", "node", in_memory=True),
    Peer("node", NODE, "server", "{program} -e @node-server {port} {folder}/server.pem", "node", in_memory=True),
    Peer("node 16", NODE16, "client", "{program} -e @node-client {port} {folder}/ca.pem {paths}", "tls-node16", in_memory=True),
    Peer("node 16", NODE16, "server", "{program} -e @node-server {port} {folder}/server.pem", "tls-node16", in_memory=True),
    Peer("curl_cffi", BORING_MODULE, "client", "{program} -c @curl-cffi {folder}/ca.pem {urls}", "tls-curl-cffi",
         flags=("--tls-include", "*/curl_cffi/*")),
    Peer("wget", GNUTLS, "client", "wget -q --ca-certificate={folder}/ca.pem -O /dev/null {urls}"),
    Peer("gnutls-serv", GNUTLS, "server",
         "{program} --quiet --http --port {port} --x509certfile {folder}/server.pem --x509keyfile {folder}/server.pem",
         "gnutls-serv"),
    Peer("net/http", GO, "client", "{program} client -address localhost:{port} -folder {folder} -each 3", "tls-go",
         beside="{program} serve -address 127.0.0.1:{port} -folder {folder}"),
    Peer("net/http", GO, "server", "{program} serve -address 127.0.0.1:{port} -folder {folder}", "tls-go"),
    *(Peer("a Rust program", NATIVE, role, f"{{program}} native {HOW['rust'][role]}", "tls-rust")
      for role in ("client", "server")),
    *(Peer("a Rust program", RUSTLS, role, f"{{program}} rustls {HOW['rust'][role]}", "tls-rust", COUNTED)
      for role in ("client", "server")),
    Peer("HttpsURLConnection", JSSE, "client", "java -cp {program} Tls client {port} {folder} {paths}", "tls-java", COUNTED),
    Peer("HttpsServer", JSSE, "server", "java -cp {program} Tls server {port} {folder}", "tls-java", COUNTED),
    Peer("libcurl-nss", OF_NSS, "client", "{python} -c @nss {port} {paths}", expected=COUNTED),
]  # fmt: skip


WAITING = ("sh", "-c", 'read go && exec "$@"', "sh")


@contextmanager
def begun(words: list[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that becomes the program once a line is written to it."""
    with (folder / "output.log").open("wb") as log:
        process = subprocess.Popen([*WAITING, *words], stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment())
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def go(process: subprocess.Popen[bytes]) -> None:
    """Let it become the program."""
    assert process.stdin
    process.stdin.write(b"\n")
    process.stdin.flush()


def environment() -> dict[str, str]:
    return os.environ | {"PATH": build.search_path()}
