"""ringspan in a pid namespace of its own, as in a container without the host's."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest

from .collector import free_port
from .tracer import SLOWNESS, How, Tracer, trace

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root
WITHIN = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
SERVED = 3
# An application, and what ringspan exports to, at one port.
SERVER = """
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(204)
        self.end_headers()
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Answers).serve_forever()
"""


@contextmanager
def _tracing(port: int, *flags: str) -> Iterator[Tracer]:
    """A tracer that is process 1 of a namespace, beside a server that is process 2, to which it exports."""
    script = f'{sys.executable} -c "$0" {port} & exec "$@"'
    run = How(launcher=[*WITHIN, "sh", "-c", script, SERVER])
    with trace(
        *flags, "--otlp", f"http://127.0.0.1:{port}", "--protocol", "http/protobuf", "--interval", "1", run=run
    ) as tracer:
        yield tracer


@pytest.mark.parametrize(("flag", "roles"), [("--port", ["client", "server"]), ("--pid", ["server"])])
def test_its_own_exports_are_not_traced(flag: str, roles: list[str]) -> None:
    port = free_port()
    with _tracing(port, flag, str(port if flag == "--port" else 2)) as tracer, ExitStack() as stack:
        for i in range(SERVED):
            stack.enter_context(urlopen(f"http://127.0.0.1:{port}/asked/{i}"))
        tracer.rows(SERVED * len(roles))
        time.sleep(4 * SLOWNESS)  # some exports
        rows, errors = tracer.all_rows(), "".join(tracer.errors())
    asked = Counter((row["kind"], row["attributes"]["http.request.method"]) for row in rows)
    assert asked == {(role, "GET"): SERVED for role in roles}
    assert "in a pid namespace of its own" in errors
    assert "--pid host" in errors


def test_doctor_says_so() -> None:
    command = [sys.executable, "-m", "ringspan.cli", "doctor"]
    lines = [
        subprocess.run([*where, *command], capture_output=True, text=True, check=False).stdout for where in ([], WITHIN)
    ]
    assert "ok  pid namespace: the host's\n" in lines[0]
    assert "no  pid namespace: ringspan is in a pid namespace of its own: " in lines[1]
