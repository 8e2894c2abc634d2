"""What ringspan exports as metrics, in small: every name, unit and attribute, sent by the SDK's own OTLP exporter."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.metrics import Histogram
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

HOST = "host-1"
BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]


@dataclass(frozen=True)
class Call:
    """One kind of exchange; it ends with a status, an error, or (cut short) both."""

    method: str
    status: int | None = None
    error: str | None = None
    route: str | None = None
    server: tuple[str, int] | None = None
    seconds: float = 0.02

    def attributes(self) -> dict[str, Any]:
        host, port = self.server or (None, None)
        given = {
            "http.request.method": self.method,
            "url.scheme": "http",
            "http.response.status_code": self.status,
            "error.type": self.error,
            "network.protocol.version": "1.1",
            "http.route": self.route,
            "server.address": host,
            "server.port": port,
        }
        return {key: value for key, value in given.items() if value is not None}


@dataclass(frozen=True)
class Service:
    name: str
    served: tuple[Call, ...] = ()
    made: tuple[Call, ...] = ()
    refused: tuple[tuple[str, str, int, str], ...] = ()  # error.type, address, port, transport


API, BASE = ("10.0.0.5", 8080), ("db.internal", 9000)
SERVICES = (
    Service(
        "shop",
        served=(
            Call("GET", 200, route="/cart/{id}"),
            Call("POST", 201, route="/orders", seconds=0.12),
            Call("GET", 404),
            Call("POST", 503, "503", "/orders", seconds=1.4),
            Call("GET", error="client_closed"),
        ),
        made=(
            Call("GET", 200, server=API),
            Call("PUT", 409, "409", server=API),
            Call("GET", error="connection_closed", server=BASE, seconds=3),
        ),
        refused=(
            ("ECONNREFUSED", *BASE, "tcp"),
            ("timeout", "10.0.0.9", 80, "tcp"),
            ("ENOENT", "/run/x.sock", 0, "unix"),
        ),
    ),
    Service("stock", served=(Call("GET", 200, route="/items", seconds=0.004), Call("GET", 302))),
)


def meters(url: str, name: str) -> MeterProvider:
    attributes = {
        "service.name": name,
        "service.instance.id": f"{name}-1",
        "host.name": HOST,
        "os.type": "linux",
        "telemetry.distro.name": "ringspan",
        "telemetry.distro.version": "0",
    }
    # Never by itself: it is flushed by hand.
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(endpoint=url, insecure=True), math.inf)
    return MeterProvider([reader], Resource(attributes), shutdown_on_exit=False)


@dataclass
class Traced:
    """One service's instruments."""

    service: Service
    provider: MeterProvider
    chance: random.Random = field(default_factory=lambda: random.Random(1))

    def __post_init__(self) -> None:
        meter = self.provider.get_meter("ringspan")
        self.server, self.client = (
            meter.create_histogram(f"http.{role}.request.duration", "s", explicit_bucket_boundaries_advisory=BUCKETS)
            for role in ("server", "client")
        )
        self.failures = meter.create_counter("ringspan.connect.failures", "{connect}")

    def work(self) -> None:
        self._record(self.server, self.service.served)
        self._record(self.client, self.service.made)
        for error, address, port, transport in self.service.refused:
            place = {"server.address": address, "network.transport": transport} | (
                {"server.port": port} if port else {}
            )
            self.failures.add(1, {"error.type": error, **place})
        self.provider.force_flush()

    def _record(self, histogram: Histogram, calls: tuple[Call, ...]) -> None:
        for call in calls:
            for _ in range(self.chance.randint(2, 9)):
                histogram.record(call.seconds * self.chance.uniform(0.5, 2), call.attributes())


@dataclass
class Own:
    """What ringspan says of itself."""

    provider: MeterProvider

    def __post_init__(self) -> None:
        meter = self.provider.get_meter("ringspan")
        self.exchanges = meter.create_counter("ringspan.exchanges", "{exchange}")
        self.in_flight = meter.create_up_down_counter("ringspan.exchanges.in_flight", "{exchange}")
        self.spans = meter.create_counter("ringspan.spans", "{span}")
        self.queued = meter.create_gauge("ringspan.spans.queued", "{span}")
        self.series = meter.create_gauge("ringspan.series", "{series}")
        self.overflowed = meter.create_counter("ringspan.series.overflowed")
        self.cpu = meter.create_counter("process.cpu.time", "s")
        self.memory = meter.create_up_down_counter("process.memory.usage", "By")
        self.kernel = meter.create_counter("ringspan.kernel.time", "s")
        self.memory.add(90_000_000)
        self.in_flight.add(3)

    def work(self) -> None:
        for outcome, reason, count in (
            ("recorded", None, 60),
            ("filtered", None, 5),
            ("lost", "ring full", 2),
            ("lost", "desync", 1),
        ):
            self.exchanges.add(count, _fate(outcome, reason))
        for outcome, reason, count in (
            ("acknowledged", None, 50),
            ("unsampled", None, 6),
            ("failed", "refused or unreachable", 3),
            ("failed", "queue full", 1),
        ):
            self.spans.add(count, _fate(outcome, reason))
        self.queued.set(12)
        self.series.set(17)
        self.overflowed.add(1)
        self.cpu.add(0.03, {"cpu.mode": "user"})
        self.cpu.add(0.01, {"cpu.mode": "system"})
        self.kernel.add(0.002)
        self.provider.force_flush()


def _fate(outcome: str, reason: str | None) -> dict[str, str]:
    return {"ringspan.outcome": outcome} | ({"ringspan.reason": reason} if reason else {})


@contextmanager
def sources(url: str) -> Iterator[list[Traced | Own]]:
    """Instruments on one resource per service, and ringspan's own."""
    with ExitStack() as stack:
        providers = [meters(url, name) for name in (*(one.name for one in SERVICES), "ringspan")]
        for provider in providers:
            stack.callback(provider.shutdown)
        yield [*map(Traced, SERVICES, providers), Own(providers[-1])]


def feed(url: str, rounds: int = 8, every: float = 1.0) -> None:
    """Sends some rounds of metrics to an OTLP/gRPC endpoint, for rates want more than one value."""
    with sources(url) as feeding:
        for _ in range(rounds):
            for source in feeding:
                source.work()
            time.sleep(every)
