"""OTLP over TLS verifies whom it talks to: by the certificate that is named, else by the authorities there are."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
import trustme
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse

from ringspan.clock import Clock
from ringspan.deliver import Delivery, Limits
from ringspan.model import Identity
from ringspan.otlp import endpoint, send
from ringspan.spans import SpanMaker

from .receiver import Reply, receiver
from .rows import row

PROTOCOLS = ("grpc", "http/protobuf")


class Running(NamedTuple):
    """A receiver: where it is, and how many requests have reached it."""

    url: str
    requests: list[Any]


class Trust(NamedTuple):
    """An authority, as a file that can be named."""

    authority: trustme.CA
    certificate: Path


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    authority = trustme.CA()
    path = tmp_path_factory.mktemp("tls") / "authority.pem"
    authority.cert_pem.write_to_path(path)
    return Trust(authority, path)


@contextmanager
def _http(issued: trustme.LeafCert) -> Iterator[Running]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(context)
    with receiver(lambda _n: Reply(), context) as running:
        yield Running(running.url, running.requests)


@contextmanager
def _grpc(issued: trustme.LeafCert) -> Iterator[Running]:
    requests: list[Any] = []

    class Anything(grpc.GenericRpcHandler):
        def service(self, _details: Any) -> Any:
            def answer(request: bytes, _context: grpc.ServicerContext) -> bytes:
                requests.append(request)
                return ExportMetricsServiceResponse().SerializeToString()

            return grpc.unary_unary_rpc_method_handler(answer)

    chain = b"".join(part.bytes() for part in issued.cert_chain_pems)
    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=(Anything(),))
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(issued.private_key_pem.bytes(), chain)]))
    server.start()
    try:
        yield Running(f"https://127.0.0.1:{port}", requests)
    finally:
        server.stop(0)


def serving(protocol: str, trust: Trust, name: str) -> Any:
    """A receiver whose certificate is for a name."""
    return (_grpc if protocol == "grpc" else _http)(trust.authority.issue_cert(name))


def delivered(running: Running, protocol: str) -> tuple[int, dict[str, int]]:
    """What became of one span: acknowledged, and failed by reason."""
    delivery = Delivery(send.sender(endpoint.resolve("traces", running.url, protocol)), Limits(retry_s=0, timeout_s=5))
    delivery.put([SpanMaker(Clock(), lambda _row: Identity("svc")).span(row())])
    delivery.close(10)
    counts = delivery.counts()
    return counts.acknowledged, counts.failed


def exported(running: Running, protocol: str) -> tuple[bool, str]:
    """Whether a request of metrics was taken, and why not."""
    answer = send.sender(endpoint.resolve("metrics", running.url, protocol)).send(b"", 5)
    return answer.taken, answer.reason


def _pump(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while some := one.recv(1 << 16):
            other.sendall(some)
        other.shutdown(socket.SHUT_WR)


@contextmanager
def tunnel() -> Iterator[tuple[str, list[bytes]]]:
    """A proxy that takes one CONNECT, and what it was asked."""
    asked: list[bytes] = []

    def serve() -> None:
        client, _ = listening.accept()
        asked.append(client.recv(1 << 16))
        host, _, port = asked[0].split()[1].decode().partition(":")
        with client, socket.create_connection((host, int(port))) as server:
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            threading.Thread(target=_pump, args=(server, client), daemon=True).start()
            _pump(client, server)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", asked


@pytest.mark.parametrize("signal", ["traces", "metrics"])
def test_a_proxy_is_asked_for_a_tunnel(signal: endpoint.Signal, trust: Trust, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(trust.certificate))
    with serving("http/protobuf", trust, "127.0.0.1") as running, tunnel() as (url, asked):
        monkeypatch.setenv("https_proxy", url)
        assert send.sender(endpoint.resolve(signal, running.url, "http/protobuf")).send(b"", 5).taken
        assert len(running.requests) == 1
    assert asked[0].startswith(f"CONNECT {running.url.removeprefix('https://')} ".encode())


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("signal", ["spans", "metrics"])
def test_an_unknown_authority_is_refused(protocol: str, signal: str, trust: Trust) -> None:
    with serving(protocol, trust, "127.0.0.1") as running:
        if signal == "spans":
            assert delivered(running, protocol) == (0, {"TLS error": 1})
        else:
            assert exported(running, protocol) == (False, "TLS error")
        assert running.requests == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("signal", ["spans", "metrics"])
def test_the_authority_that_is_named_is_trusted(
    protocol: str, signal: str, trust: Trust, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(trust.certificate))
    with serving(protocol, trust, "127.0.0.1") as running:
        if signal == "spans":
            assert delivered(running, protocol) == (1, {})
        else:
            assert exported(running, protocol) == (True, "")
        assert len(running.requests) == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("signal", ["spans", "metrics"])
def test_a_certificate_of_another_host_is_refused(
    protocol: str, signal: str, trust: Trust, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(trust.certificate))
    with serving(protocol, trust, "other.example") as running:
        if signal == "spans":
            assert delivered(running, protocol) == (0, {"TLS error": 1})
        else:
            assert exported(running, protocol) == (False, "TLS error")
        assert running.requests == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_receiver_that_speaks_no_tls_gets_nothing(protocol: str) -> None:
    with receiver(lambda _n: Reply()) as running:
        secure = Running(running.url.replace("http:", "https:"), running.requests)
        assert delivered(secure, protocol) == (0, {"TLS error": 1})
        assert running.requests == []


@pytest.mark.parametrize("signal", ["traces", "metrics"])
def test_requests_own_variable_names_authorities_where_no_certificate_is_named(
    signal: endpoint.Signal, trust: Trust, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    with serving("http/protobuf", trust, "127.0.0.1") as running:
        for bundle, named, taken in ((trust.certificate, None, True), (other, None, False), (other, trust, True)):
            monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
            if named:
                monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(named.certificate))
            answer = send.sender(endpoint.resolve(signal, running.url, "http/protobuf")).send(b"", 5)
            assert answer.taken is taken
