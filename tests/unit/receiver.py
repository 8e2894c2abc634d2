"""An OTLP/HTTP receiver that answers as it is told, on a real socket."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True)
class Reply:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


def rejecting(count: int) -> Reply:
    response = ExportTraceServiceResponse()
    response.partial_success.rejected_spans = count
    return Reply(body=response.SerializeToString())


def rejecting_points(count: int, why: str = "") -> Reply:
    response = ExportMetricsServiceResponse()
    response.partial_success.rejected_data_points = count
    response.partial_success.error_message = why
    return Reply(body=response.SerializeToString())


@dataclass
class Receiver:
    url: str
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    def spans(self) -> int:
        groups = (ExportTraceServiceRequest.FromString(body).resource_spans for _, body in self.requests)
        return sum(len(scope.spans) for group in groups for one in group for scope in one.scope_spans)


@contextmanager
def receiver(reply: Callable[[int], Reply], tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """Runs a receiver; reply(n) answers the nth request."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            running.requests.append(({key.lower(): value for key, value in self.headers.items()}, body))
            answer = reply(len(running.requests) - 1)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # a sender that has left
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    running = Receiver(f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield running
    finally:
        server.shutdown()
        server.server_close()
