"""Real servers: ``with start("nginx") as server: ...``."""

from __future__ import annotations

import os
import pwd
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from . import access_log, process
from .access_log import LoggedRequest
from .build import SOURCES, PeerUnavailable, artifact, ensure
from .plan import BIG_BYTES, ROUTES, Route, routes_of

__all__ = ["ROUTES", "SERVERS", "LoggedRequest", "PeerUnavailable", "Route", "Server"]
__all__ += ["routes_of", "start"]

HOST = "127.0.0.1"
PYTHON_SOURCES = SOURCES / "python"
USERS = b'[{"id": 1, "name": "Ada"}, {"id": 2, "name": "Grace"}]\n'
FILE_IDS = 1000
NO_DELAY = "-Dsun.net.httpserver.nodelay=true"


@dataclass(frozen=True)
class Place:
    """Where one server runs."""

    program: Path
    port: int
    dir: Path

    @property
    def www(self) -> Path:
        return self.dir / "www"

    @property
    def socket(self) -> Path:
        return self.dir / "app.sock"


@dataclass(frozen=True)
class Spec:
    """How to run a server; its log is what it prints, or a file that it writes itself."""

    argv: Callable[[Place], list[str]]
    prepare: Callable[[Place], None] = lambda _place: None
    log: str = "output.log"
    processes: int = 1
    upstream: Callable[[Place], list[str]] | None = None


@dataclass
class Server:
    """A running server."""

    name: str
    host: str
    port: int
    socket_path: Path | None
    dir: Path
    spec: Spec
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def pids(self) -> list[int]:
        """Every live process of the server, as of now."""
        return [pid for one in self.processes for pid in process.session_pids(one.pid)]

    def access_log(self, expect: int | None = None) -> list[LoggedRequest]:
        """The server's own log once it is quiet; waits a while for ``expect`` lines."""
        return access_log.read(self.dir / self.spec.log, expect)

    def upstream_log(self, expect: int | None = None) -> list[LoggedRequest]:
        """The log of the server behind this one."""
        if self.spec.upstream is None:
            raise ValueError(f"{self.name} has no upstream")
        return access_log.read(self.dir / "upstream.log", expect)


def _nginx(site: str) -> Callable[[Place], None]:
    def prepare(place: Place) -> None:
        user = f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""
        for source, target in (("nginx.conf", "nginx.conf"), (site, "site.conf")):
            text = (SOURCES / "nginx" / source).read_text()
            text = text.replace("{user}", user).replace("{dir}", str(place.dir))
            (place.dir / target).write_text(text.replace("{port}", str(place.port)))
        _files(place)
        parts = "".join(f'<!--# include virtual="/part/{n}" wait="yes" -->' for n in range(3))
        (place.www / "chunked.ssi").write_text(parts)

    return prepare


def _files(place: Place) -> None:
    """The routes that can be plain files."""
    (place.www / "api").mkdir(parents=True)
    (place.www / "api" / "users").write_bytes(USERS)
    (place.www / "big").write_bytes(b"x" * BIG_BYTES)


def _files_and_ids(place: Place) -> None:
    _files(place)
    (place.www / "id").mkdir()
    for number in range(FILE_IDS):
        (place.www / "id" / str(number)).write_text(f"/id/{number}\n")


def _nginx_argv(place: Place) -> list[str]:
    log = str(place.dir / "error.log")
    return [str(place.program), "-e", log, "-p", str(place.dir), "-c", "nginx.conf"]


def _gunicorn(python: Path, bind: str) -> list[str]:
    sizes = "%(s)s %(B)s %({content-length}i)s - %({transfer-encoding}i)s"
    flags = "--workers 2 --threads 4 --keep-alive 60 --graceful-timeout 1 --no-control-socket"
    command = [str(python), "-m", "gunicorn", *flags.split(), "--bind", bind]
    command += ["--pythonpath", str(PYTHON_SOURCES), "--access-logfile", "-"]
    return [*command, "--access-logformat", f'"%(r)s" {sizes}', "wsgi_app:app"]


def _uvicorn(place: Place) -> list[str]:
    flags = "--loop asyncio --http h11 --timeout-keep-alive 60 --timeout-graceful-shutdown 1"
    command = [str(place.program), "-m", "uvicorn", *flags.split(), "--port", str(place.port)]
    return [*command, "--app-dir", str(PYTHON_SOURCES), "asgi_app:app"]


def _plain_http_server(place: Place) -> list[str]:
    folder = ["--bind", HOST, "--directory", str(place.www)]
    return [str(place.program), "-m", "http.server", *folder, str(place.port)]


def _program(*words: str) -> Callable[[Place], list[str]]:
    """A command line in which {program}, {src}, {port} and {dir} are filled in."""

    def argv(place: Place) -> list[str]:
        known = {"program": place.program, "src": SOURCES, "port": place.port, "dir": place.dir}
        return [word.format(**known) for word in words]

    return argv


SERVERS: dict[str, Spec] = {
    "nginx": Spec(_nginx_argv, _nginx("plain.conf"), log="access.log", processes=3),
    "nginx-gunicorn": Spec(
        _nginx_argv,
        _nginx("proxy.conf"),
        log="access.log",
        processes=6,
        upstream=lambda place: _gunicorn(artifact("venv"), f"unix:{place.socket}"),
    ),
    "http.server": Spec(_program("{program}", "{src}/python/threading_server.py", "{port}")),
    "http.server-1.0": Spec(_plain_http_server, _files_and_ids),
    "uvicorn": Spec(_uvicorn),
    "gunicorn": Spec(lambda place: _gunicorn(place.program, f"{HOST}:{place.port}"), processes=3),
    "go": Spec(_program("{program}/go-server", "{port}")),
    "node": Spec(_program("{program}", "{src}/node/server.js", "{port}")),
    "java": Spec(_program("java", NO_DELAY, "-cp", "{program}", "Server", "{port}")),
    "java-jetty": Spec(_program("java", "-cp", "{program}:{program}/lib/*", "JettyServer", "{port}")),
    "rust": Spec(_program("{program}", "{port}")),
}


@contextmanager
def start(name: str, port: int = 0) -> Iterator[Server]:
    """Runs a server on loopback until the block ends; port 0 picks a free one."""
    spec, program = SERVERS[name], ensure(name)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ringspan-peer-")))
        place = Place(program, port or process.free_port(), folder)
        spec.prepare(place)
        unix = place.socket if spec.upstream else None
        server = Server(name, HOST, place.port, unix, folder, spec)
        if spec.upstream:
            _run(server, stack, spec.upstream(place), "upstream.log", str(place.socket))
        _run(server, stack, spec.argv(place), "output.log", (HOST, place.port))
        process.wait_until(lambda: len(server.pids) >= spec.processes, process.START_SECONDS)
        yield server


def _run(
    server: Server,
    stack: ExitStack,
    argv: list[str],
    log: str,
    address: tuple[str, int] | str,
) -> None:
    """Starts one process, has it stopped with the stack, and waits until it accepts."""
    child = process.spawn(argv, server.dir, server.dir / log)
    stack.callback(process.stop, child)
    server.processes.append(child)

    def settled() -> bool:
        return child.poll() is not None or process.connectable(address)

    in_time = process.wait_until(settled, process.START_SECONDS)
    if not in_time or child.poll() is not None:
        logs = [server.dir / log, server.dir / "error.log"]
        tail = "".join(one.read_text(errors="replace")[-2000:] for one in logs if one.exists())
        raise RuntimeError(f"{server.name} did not start: {argv}\n{tail}")
