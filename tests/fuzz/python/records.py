"""Records, births and ring memory of any content: decoded, counted, encoded, and never a surprise."""

from __future__ import annotations

import io
import json
import mmap
import os
import re
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics.export import AggregationTemporality
from rich.console import Console

from ringspan import contract, counts, sampling
from ringspan.cgroups import Cgroups
from ringspan.clock import Clock
from ringspan.deliver import Delivery, Limits
from ringspan.identify import Identifier
from ringspan.metrics import report
from ringspan.metrics.active import ActiveRequests
from ringspan.metrics.exchanges import ExchangeMetrics
from ringspan.metrics.exchanges import Limits as SeriesLimits
from ringspan.model import rows
from ringspan.otlp.send import Answer
from ringspan.ring import ForeignRecord, Ring
from ringspan.spans import SpanMaker
from ringspan.view import json_rows, lines
from ringspan.view.table import Snapshot, render
from unit.rows import CLIENT, batch

from .source import Source

BATCH_MAX = 32
NO_PROC = Path("/nonexistent")
UNIX = {"family": 1, "unix_path": b"/run/a.sock", "local_port": 0, "remote_port": 0}
REFUSED = {"kind": contract.number("RECORD_CONNECT_FAILURE"), "failure": 1, "error_number": 111, "status": 0}
PARENT = {"traceparent": b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "traceparent_bytes": 55}
TEMPLATES = batch(
    {}, CLIENT, CLIENT | REFUSED, UNIX, CLIENT | UNIX, PARENT | {"tracestate": b"a=1,b=2", "tracestate_bytes": 7}
)
OPT_IN = ("client.port", "network.local.address", "network.local.port", "url.scheme")
EVERYTHING = 0xFF
CLOCK = Clock()
OURS = re.compile(r"\x1b\[[0-9;]*m")


class Small:
    """Bounds so small that each input reaches them."""

    tallies, endpoints, series = 6, 3, 3


SMALL_COUNTS = mock.patch.multiple(counts, TALLIES_MAX=Small.tallies, ENDPOINTS_MAX=Small.endpoints, WAITING_MAX=4)


def overlaid(source: Source, templates: np.ndarray[Any, Any], count: int) -> np.ndarray[Any, Any]:
    """So many copies of a template, with fuzzed values in fuzzed fields: at their start, or all through."""
    out = np.repeat(templates[[source.byte() % len(templates)]], count)
    bytes_of = out.view(np.uint8).reshape(count, -1)
    places = [(offset, kind.itemsize) for kind, offset, *_ in (out.dtype.fields or {}).values()]
    while source:
        record, (offset, size), length = source.byte() % count, source.choice(places), source.byte()
        value = source.take((length & 0x7F) + 1)
        if length & 0x80:
            value *= size // max(1, len(value)) + 1
        value = value[:size]
        bytes_of[record, offset : offset + len(value)] = np.frombuffer(value, np.uint8)
    return out


def records_of(source: Source) -> np.ndarray[Any, Any]:
    """A batch: templates with fuzzed fields, or nothing but fuzzed bytes; ids as bpf/maps.h draws them."""
    first = source.byte()
    count = 1 + first % BATCH_MAX
    if first == EVERYTHING:
        size = count * contract.RECORD.itemsize
        value = source.rest() or b"\0"
        out = np.frombuffer((value * (size // len(value) + 1))[:size], contract.RECORD).copy()
    else:
        out = overlaid(source, TEMPLATES, count)
    for name in ("trace_id_low", "span_id"):
        out[name] |= np.uint64(1)
    return out


def identifier() -> Identifier:
    out = Identifier(NO_PROC)
    out._cgroups = Cgroups(roots=())
    return out


class Nowhere:
    """A sender that takes everything and keeps it."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    def send(self, body: bytes, _timeout_s: float) -> Answer:
        self.bodies.append(body)
        return Answer(taken=True)

    def cancel(self) -> None:
        pass


def check_records(data: bytes) -> int:
    """What comes of a batch, by every way out; returns how many records it held."""
    source = Source(data)
    also = source.byte()
    records = records_of(source)
    check_batch(records, table=also % 16 == 1, export=also % 16 == 0)
    return len(records)


def check_batch(records: np.ndarray[Any, Any], *, table: bool = True, export: bool = True) -> None:
    """What leaves by any way is valid, harmless, and adds up."""
    who = identifier()
    maker = SpanMaker(CLOCK, who, OPT_IN)
    made = [maker.span(row) for row in rows(records)]
    _check_live(records, table=table)
    _check_json(json_rows.text(made), len(records))
    _check_otlp(made, len(records))
    _check_metrics(records, made, who, export=export)


def _check_live(records: np.ndarray[Any, Any], *, table: bool) -> None:
    with SMALL_COUNTS:
        tally = counts.Counts()
        tally.add(records)
    assert tally.records == len(records)
    assert sum(count for _, count in tally.totals()) == tally.counted <= tally.records
    snapshot = Snapshot(tally.top(20, "latency"), len(tally), "latency", 1.0, dict(tally.failed_connects), 0)
    for text in (lines.text(tally), _printed(snapshot) if table else ""):
        text.encode()
        assert text.replace("\n", "").isprintable(), text


def _printed(snapshot: Snapshot) -> str:
    """The table as a terminal gets it, without the colours that are ours."""
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system="standard")
    console.print(render(snapshot, 100))
    return OURS.sub("", console.file.getvalue())


def _check_json(text: str, count: int) -> None:
    assert text.isascii()
    assert text.replace("\n", "").isprintable()
    objects = [json.loads(line) for line in text.splitlines()]
    assert len(objects) == count
    for one in objects:
        assert int(one["trace_id"], 16)
        assert int(one["span_id"], 16)
        assert one["parent_span_id"] is None or int(one["parent_span_id"], 16)
        assert one["duration_ns"] >= 0
        assert one["first_byte_ns"] is None or one["first_byte_ns"] >= 0


def _check_otlp(made: list[Any], count: int) -> None:
    sender = Nowhere()
    delivery = Delivery(sender, Limits(batch_spans=4, linger_s=0.001)) if count == BATCH_MAX else None
    if delivery:
        delivery.put(made)
        delivery.close(10)
        fate = delivery.counts()
        assert (fate.acknowledged, fate.failed) == (count, {})
        bodies = sender.bodies
    else:
        bodies = [encoded(made)]
    spans = [
        span
        for body in bodies
        for group in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    ]
    assert len(spans) == count
    for span in spans:
        assert (len(span.trace_id), len(span.span_id), len(span.parent_span_id) in (0, 8)) == (16, 8, True)
        assert any(span.trace_id)
        assert any(span.span_id)
        assert 0 < span.start_time_unix_nano <= span.end_time_unix_nano


def encoded(made: list[Any]) -> bytes:
    """Spans as a request, each with its resource."""
    from ringspan.otlp import encode  # noqa: PLC0415

    owners = {identity: encode.encode_resource(identity) for identity in {span.identity for span in made}}
    return encode.request([(owners[span.identity], encode.encode(span)) for span in made])


def _check_metrics(records: np.ndarray[Any, Any], made: list[Any], who: Identifier, *, export: bool) -> None:
    limits = SeriesLimits(Small.series, exponential=export, body_sizes=True)
    metrics = ExchangeMetrics(limits, who, 0.0, 1)
    slots = metrics.add(records, 1.0, 2)
    sampler = sampling.Sampler(sampling.Rule(0.5, parent_based=True), 1.0)
    kept = sampler.keep(records, metrics.slowness(records, slots), 1.0)
    assert int(kept.sum()) + sum(sampler.unsampled.values()) == len(records) == metrics.counted
    metrics.exemplify([span for span, keep in zip(made, kept, strict=True) if keep], slots[kept])
    snapshot = metrics.snapshot(3)
    assert int(snapshot.histograms["duration"].totals.sum()) == len(records)
    if not export:
        return
    active = ActiveRequests(who).count(records)
    assert sum(active.values()) == len(records)
    for preferred in (AggregationTemporality.CUMULATIVE, AggregationTemporality.DELTA):
        built = report.Builder(preferred).data(report.Report.of(snapshot, [], active, 1), None)
        points = sum(_points(part) for part in report.requests(built))
        assert points == len(records)


def _points(part: Any) -> int:
    """Encode as the SDK's exporter does; returns how many durations and failed connects it counts."""
    message = encode_metrics(part)
    read = type(message).FromString(message.SerializeToString())
    total = 0
    for group in read.resource_metrics:
        for metric in (one for scope in group.scope_metrics for one in scope.metrics):
            if metric.name.endswith("request.duration"):
                total += sum(point.count for point in metric.exponential_histogram.data_points)
            elif metric.name == "ringspan.connect.failures":
                total += sum(point.as_int for point in metric.sum.data_points)
    return total


RING_BYTES, PLAIN = 4096, np.dtype([("a", "<u8"), ("b", "<u8"), ("c", "<u8")])
PAGE = os.sysconf("SC_PAGESIZE")


class FakeRing:
    """The memory of a ring buffer, ours to write; made once, for a mapping costs more than a look."""

    def __init__(self) -> None:
        fd = os.memfd_create("ring")
        os.truncate(fd, 2 * PAGE + 2 * RING_BYTES)
        self.memory = mmap.mmap(fd, 2 * PAGE + 2 * RING_BYTES)
        self.ring = Ring(fd, RING_BYTES, PLAIN)
        os.close(fd)

    def fill(self, consumer: int, producer: int, data: bytes) -> None:
        """Write positions and data; the data twice, as the kernel maps it."""
        self.memory[:8], self.memory[PAGE : PAGE + 8] = struct.pack("<Q", consumer), struct.pack("<Q", producer)
        data = data.ljust(RING_BYTES, b"\0")[:RING_BYTES]
        self.memory[2 * PAGE :] = data + data

    @property
    def consumer(self) -> int:
        return int(struct.unpack("<Q", self.memory[:8])[0])


FAKE: list[FakeRing] = []


def check_ring(data: bytes) -> int:
    """A ring of any content is drained within its bounds, or refused: no loop, no read beyond, none twice."""
    fake = FAKE[0] if FAKE else FAKE.append(FakeRing()) or FAKE[0]  # type: ignore[func-returns-value]
    source = Source(data)
    consumer = int.from_bytes(source.take(source.byte() % 9), "little")
    producer = int.from_bytes(source.take(8), "little") if source.byte() & 1 else consumer + 32 * source.byte()
    tiled = source.rest() or b"\0"
    header = struct.pack("<IIQQQ", PLAIN.itemsize, 0, 1, 2, 3)
    fill = header * (RING_BYTES // 32) if tiled[0] & 1 else tiled * (RING_BYTES // len(tiled) + 1)
    fill = bytearray(fill[:RING_BYTES])
    fill[: len(tiled)] = tiled[:RING_BYTES]
    fake.fill(consumer, producer & (1 << 64) - 1, bytes(fill))
    taken, before = 0, fake.consumer
    with suppress(ForeignRecord):
        for _ in range(RING_BYTES // 32 + 1):
            got = fake.ring.drain()
            moved = fake.consumer - before
            assert moved >= 32 * len(got)
            before = fake.consumer
            taken += len(got)
            if not moved:
                break
        assert not len(fake.ring.drain())
    assert consumer <= fake.consumer <= max(consumer, producer & (1 << 64) - 1)
    assert taken * 32 <= RING_BYTES
    return 1


BIRTHS = np.zeros(2, contract.BIRTH)
for _i, (_arguments, _environment) in enumerate(
    [
        (b"python3\0-m\0app\0", b"OTEL_SERVICE_NAME=shop\0"),
        (b"java\0-jar\0x.jar\0", b"OTEL_RESOURCE_ATTRIBUTES=service.name=a%20b\0"),
    ]
):
    BIRTHS[_i]["arguments"], BIRTHS[_i]["arguments_bytes"] = _arguments, len(_arguments)
    BIRTHS[_i]["environment"], BIRTHS[_i]["environment_bytes"] = _environment, len(_environment)
    BIRTHS[_i]["filename"], BIRTHS[_i]["tgid"] = b"python3", 77


def check_births(data: bytes) -> int:
    """Whatever exec left, a process has a name that can be sent."""
    source = Source(data)
    births = overlaid(source, BIRTHS, 1 + source.byte() % 3)
    who = identifier()
    who.born(births)
    asked = batch(*({"tgid": birth["tgid"], "process_start_ns": birth["process_start_ns"]} for birth in births))
    for row in rows(asked):
        check_identity(who(row))
    return len(births)


def check_identity(identity: Any) -> None:
    """A service's name is short valid UTF-8, and there is one."""
    from ringspan.otlp import encode  # noqa: PLC0415

    assert 0 < len(identity.service_name) <= 255, identity
    assert len(identity.executable or "") <= 4096
    encode.encode_resource(identity)
