"""Secrets: those given to ringspan and those in the traffic it sees are in nothing that leaves it."""

from __future__ import annotations

import http.client
import http.server
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme

from unit.receiver import Receiver, Reply, receiver

from .collector import free_port
from .test_hostile import RINGSPAN, Answering, serving

pytestmark = pytest.mark.root
HEADER, PASSWORD, KEY = "hdrS3cretAAA", "pwdS3cretBBB", "keyS3cretCCC"
GIVEN = (HEADER, PASSWORD, KEY)
SEEN = "wireS3cretDDD"
TRAFFIC = [
    f"GET /login?token={SEEN}&a=1 HTTP/1.1\r\nHost: a\r\nAuthorization: Basic {SEEN}\r\nCookie: sid={SEEN}\r\n\r\n",
    f"GET /cb?next=http%3A%2F%2Fu%3A{SEEN}%40h%2F HTTP/1.1\r\nHost: a\r\nProxy-Authorization: {SEEN}\r\n\r\n",
    f"GET http://user:{SEEN}@a.example/x HTTP/1.1\r\nHost: a.example\r\nX-Api-Key: {SEEN}\r\nReferer: http://h/?{SEEN}\r\n\r\n",
    f"GET /basket;jsessionid={SEEN}/x HTTP/1.1\r\nHost: user:{SEEN}@a\r\n\r\n",
    f"GET /reset-password/{SEEN}77 HTTP/1.1\r\nHost: a\r\n\r\n",
    f"GET /x/eyJhbGciOiJIUzI1NiJ9.{SEEN}.{SEEN}?a=ghp_{SEEN}{SEEN} HTTP/1.1\r\nHost: a\r\n\r\n",
    f"GET /door/{SEEN}?shoesize={SEEN} HTTP/1.1\r\nHost: a\r\n\r\n",
    f"POST /form HTTP/1.1\r\nHost: a\r\nContent-Length: {len(SEEN)}\r\n\r\n{SEEN}",
]
SETTINGS = "redact_keys: [shoe*]\nredact_paths: ['/door/{code}']\nlearn_routes: true\nactive_requests: true\n"


class Telling(Answering):
    """Answers with secrets in headers and body."""

    def do_GET(self) -> None:  # noqa: N802
        self.send_response(200)
        self.send_header("Set-Cookie", f"session={SEEN}")
        self.send_header("Content-Length", str(len(SEEN)))
        self.end_headers()
        self.wfile.write(SEEN.encode())

    def do_POST(self) -> None:  # noqa: N802
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()


@dataclass
class Run:
    """One run of ringspan: all it said, and what others could see of its processes meanwhile."""

    status: int = 0
    out: bytes = b""
    err: bytes = b""
    command_lines: list[bytes] = field(default_factory=list)
    child_environments: list[bytes] = field(default_factory=list)
    folders: dict[str, int] = field(default_factory=dict)

    def holds(self, secret: str) -> bool:
        return any(
            secret.encode() in text for text in (self.out, self.err, *self.command_lines, *self.child_environments)
        )


def _look(process: subprocess.Popen[bytes], scratch: Path, run: Run) -> None:
    with suppress(OSError):
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        run.command_lines.append(Path(f"/proc/{process.pid}/cmdline").read_bytes())
        for child in children:
            command_line = Path(f"/proc/{child}/cmdline").read_bytes()
            if b"ringspan.probe.child" in command_line:  # it has been executed by then
                run.command_lines.append(command_line)
                run.child_environments.append(Path(f"/proc/{child}/environ").read_bytes())
        for folder in scratch.iterdir():
            run.folders[folder.name] = folder.stat().st_mode


def run_ringspan(flags: list[str], given: dict[str, str], scratch: Path, work: Callable[[], None]) -> Run:
    """Runs it until work is done; looks at its processes and temporary files while it starts."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    environment |= {"TMPDIR": str(scratch), "RINGSPAN_DEBUG": "1"} | given
    run, err = Run(), scratch.parent / "stderr"
    with err.open("wb") as file:
        process = subprocess.Popen([*RINGSPAN, *flags], env=environment, stdout=subprocess.PIPE, stderr=file)
    deadline = time.monotonic() + 60
    while process.poll() is None and b"ready:" not in err.read_bytes() and time.monotonic() < deadline:
        _look(process, scratch, run)
        time.sleep(0.01)
    if process.poll() is None:
        work()
        process.send_signal(signal.SIGINT)
    run.out = process.communicate(timeout=20)[0]
    run.err, run.status = err.read_bytes(), process.returncode
    assert not list(scratch.iterdir()), "a temporary file was left"
    return run


def talk(port: int) -> None:
    for request in TRAFFIC:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(request.encode())
            response = http.client.HTTPResponse(client)
            response.begin()
            assert response.read() == SEEN.encode()
    time.sleep(0.5)


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.fixture
def server() -> Iterator[int]:
    with serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Telling)) as port:
        yield port


def given(url: str, protocol: str = "http/protobuf") -> dict[str, str]:
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": url,
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer {HEADER},api-key={HEADER}",
        "OTEL_METRIC_EXPORT_INTERVAL": "200",
        "COLUMNS": "200",
    }


def with_password(url: str) -> str:
    return url.replace("://", f"://user:{PASSWORD}@")


@pytest.mark.parametrize("show", ["json", "lines", "table"])
def test_secrets_of_the_traffic_are_in_nothing_that_leaves(show: str, server: int, scratch: Path) -> None:
    config = scratch.parent / "ringspan.yaml"
    config.write_text(SETTINGS)
    with receiver(lambda _n: Reply()) as running:
        flags = ["--port", str(server), "--show", show, "--interval", "0.2", "--config", str(config)]
        run = run_ringspan(flags, given(with_password(running.url)), scratch, lambda: talk(server))
    assert run.status == 0, run.err
    assert b"REDACTED" in run.out
    assert not run.holds(SEEN), run.out
    bodies = b"".join(body for _, body in running.requests)
    assert b"REDACTED" in bodies
    for route in (b"/door/REDACTED", b"/reset-password/REDACTED", b"/x/REDACTED"):
        assert route in bodies
        assert route in run.out
    assert b"http.route" in bodies  # and learned routes are among what was looked at
    assert bodies.count(b"/basket;jsessionid=REDACTED/x") >= 2  # both ends
    assert SEEN.encode() not in bodies
    assert not any(run.holds(secret) for secret in GIVEN)
    assert all(secret.encode() not in bodies for secret in GIVEN)
    sent = [headers for headers, _ in running.requests]
    assert sent
    assert all(headers["api-key"] == HEADER for headers in sent)  # they are sent where they belong
    assert len(run.child_environments) > 0
    modes = [mode for name, mode in run.folders.items() if name.startswith("ringspan-")]  # none, where it may mount
    assert all(stat.S_IMODE(mode) == 0o700 for mode in modes)


def _refusing(_scratch: Path) -> Iterator[str]:
    yield f"http://127.0.0.1:{free_port()}"


def _echoing(_scratch: Path) -> Iterator[str]:
    holder: list[Receiver] = []

    def reply(n: int) -> Reply:
        said = repr(holder[0].requests[n][0])
        return Reply(401, {"WWW-Authenticate": said, "Retry-After": HEADER}, said.encode())

    with receiver(reply) as running:
        holder.append(running)
        yield running.url
        assert running.requests


def _distrusted(_scratch: Path) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with receiver(lambda _n: Reply(), context) as running:
        yield running.url


@pytest.mark.parametrize(
    ("failing", "said"),
    [(_refusing, b"failed (unreachable)"), (_echoing, b"failed (HTTP 401)"), (_distrusted, b"failed (TLS error)")],
)
def test_given_secrets_are_in_nothing_that_is_said_of_a_failure(
    failing: Callable[[Path], Iterator[str]], said: bytes, server: int, scratch: Path
) -> None:
    places = failing(scratch)
    url = next(places)
    flags = ["--port", str(server), "--show", "json"]
    run = run_ringspan(flags, given(with_password(url)), scratch, lambda: talk(server))
    next(places, None)
    assert run.status == 0, run.err
    assert said in run.err, run.err
    assert not any(run.holds(secret) for secret in GIVEN), run.err


MISTAKES = {
    "bad URL": {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://user:{PASSWORD}@[bad"},
    "no scheme": {"OTEL_EXPORTER_OTLP_ENDPOINT": f"user:{PASSWORD}@h:4318"},
    "password for gRPC": {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://user:{PASSWORD}@h:4317",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
    },
    "bad headers": {"OTEL_EXPORTER_OTLP_HEADERS": f"Bearer {HEADER}=="},
    "control in a header": {"OTEL_EXPORTER_OTLP_HEADERS": f"a={HEADER}\x01"},
    "no key": {"OTEL_EXPORTER_OTLP_CLIENT_KEY": "FILE"},
    "a key for a path": {"OTEL_EXPORTER_OTLP_CLIENT_KEY": f"-----BEGIN PRIVATE KEY-----\n{KEY}\n"},
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_given_secrets_are_not_in_what_is_said_of_a_mistake(mistake: str, scratch: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(KEY)
    wrong = {name: value if value != "FILE" else str(key) for name, value in MISTAKES[mistake].items()}
    run = run_ringspan(["--port", "1"], given("http://127.0.0.1:1") | wrong, scratch, lambda: None)
    assert run.status == 2, run.err
    (name,) = [name for name in wrong if name != "OTEL_EXPORTER_OTLP_PROTOCOL"]
    assert name.encode() in run.err
    assert not any(run.holds(secret) for secret in GIVEN), run.err


def test_a_password_on_the_command_line_is_not_repeated(scratch: Path) -> None:
    for url in (f"htp://user:{PASSWORD}@h", f"http://user:{PASSWORD}@[bad", f"http://user:{PASSWORD}@h:4317"):
        run = run_ringspan(["--otlp", url], {}, scratch, lambda: None)
        assert run.status == 2
        assert b"--otlp" in run.err or b"otlp:" in run.err
        assert PASSWORD.encode() not in run.out + run.err


def test_the_doctor_knows_no_secrets() -> None:
    environment = os.environ | given(f"http://user:{PASSWORD}@h") | {"OTEL_EXPORTER_OTLP_CLIENT_KEY": KEY}
    command = [sys.executable, "-m", "ringspan.cli", "doctor"]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode in (0, 3)
    assert done.stdout
    assert not any(secret.encode() in done.stdout + done.stderr for secret in GIVEN)


def test_the_merged_settings_show_no_secrets(tmp_path: Path) -> None:
    config = tmp_path / "ringspan.yaml"
    config.write_text(f"otlp: https://user:{PASSWORD}@h/v1?token={KEY}\n")
    environment = os.environ | given(f"http://user:{PASSWORD}@h") | {"OTEL_EXPORTER_OTLP_CLIENT_KEY": KEY}
    command = [sys.executable, "-m", "ringspan.cli", "config", "--config", str(config)]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == 0
    assert b"otlp: https://REDACTED:REDACTED@h/v1?token=REDACTED" in done.stdout
    assert not any(secret.encode() in done.stdout + done.stderr for secret in GIVEN)
