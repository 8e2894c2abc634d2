"""More than one ringspan on a host, and one that does not get to run for a while."""

from __future__ import annotations

import os
import re
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from ringspan import contract
from unit.receiver import Reply, receiver

from .numbered import exchanges, number_of
from .stage import Ports
from .tracer import Row, trace

pytestmark = pytest.mark.root
COUNT = 200
AFTER, FIT = 75, 15
SIDES = ("client", "server")
LINGER_S = 0.2  # an instance sends spans no more often


def by_side(rows: list[Row]) -> Counter[tuple[str, int]]:
    assert all(row["response_body_bytes"] == number_of(row) for row in rows)
    return Counter((row["kind"], number_of(row)) for row in rows)


def each_once(numbers: range) -> Counter[tuple[str, int]]:
    return Counter((side, number) for side in SIDES for number in numbers)


@pytest.mark.parametrize("same", [True, False], ids=["one port", "two ports"])
def test_two_instances_each_see_all_that_is_theirs(ports: Ports, same: bool) -> None:
    one = ports.take()
    two = one if same else ports.take()
    with receiver(lambda _: Reply()) as collector:
        flags = ["--otlp", collector.url, "--protocol", "http/protobuf"]
        with trace("--port", str(one), *flags) as first, trace("--port", str(two), *flags) as second:
            exchanges(one, range(COUNT))
            if not same:
                exchanges(two, range(COUNT, 2 * COUNT))
            rows = first.rows(2 * COUNT), second.rows(2 * COUNT)
            ended = first.stop(), second.stop()
    assert by_side(rows[0]) == each_once(range(COUNT))
    assert by_side(rows[1]) == each_once(range(COUNT) if same else range(COUNT, 2 * COUNT))
    assert all("off by" not in one.ledger and f"acknowledged {2 * COUNT}" in one.ledger for one in ended)


def test_instances_that_trace_each_others_exports_do_not_run_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans of exports are exported, which is seen: at the pace of the exports, with two spans for each, and no more."""
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    with receiver(lambda _: Reply()) as collector:
        port = collector.url.rpartition(":")[2]
        flags = ["--port", port, "--otlp", collector.url, "--protocol", "http/protobuf"]
        with trace(*flags) as first, trace(*flags) as second:
            time.sleep(1)
            assert collector.requests == []  # nothing sets it off by itself
            post(collector.url)
            time.sleep(2)
            before, spans, began = len(collector.requests), collector.spans(), time.monotonic()
            time.sleep(6)
            seconds = time.monotonic() - began
            sent, told = len(collector.requests) - before, collector.spans() - spans
            own = {first.pid, second.pid}
            for tracer in (first, second):
                clients = {row["attributes"]["process.pid"] for row in tracer.all_rows() if row["kind"] == "client"}
                assert tracer.pid not in clients
                assert clients & own
    print(f"{sent / seconds:.1f} exports and {told / seconds:.1f} spans a second")
    assert 0 < sent <= 2 * seconds / LINGER_S + 2
    assert told <= 2 * sent + 4


def post(url: str) -> None:
    """One request that is no instance's own."""
    import urllib.request  # noqa: PLC0415

    urllib.request.urlopen(urllib.request.Request(f"{url}/v1/traces", data=b"")).read()


def test_stopped_for_a_while(ports: Ports, tmp_path: Path) -> None:
    """The ring fills, what does not fit is counted to the last record, and then all is seen again."""
    config, port = tmp_path / "ringspan.yaml", ports.take()
    config.write_text("ring_bytes: 65536\n")
    with trace("--port", str(port), "--config", str(config)) as tracer:
        exchanges(port, range(10))
        assert by_side(tracer.rows(20)) == each_once(range(10))
        os.kill(tracer.pid, signal.SIGSTOP)
        exchanges(port, range(10, 10 + COUNT))
        time.sleep(2)
        os.kill(tracer.pid, signal.SIGCONT)
        between = tracer.rows(21)[20:]
        after: list[Row] = []
        for number in range(1000, 1000 + AFTER, FIT):  # the ring is small: no more at once than it holds
            exchanges(port, range(number, number + FIT))
            after = tracer.rows(20 + len(between) + len(after) + 2 * FIT)[20 + len(between) :]
        ended = tracer.stop()
    assert by_side(after) == each_once(range(1000, 1000 + AFTER))
    fits = 65536 // (8 + contract.RECORD.itemsize)
    assert len(between) == fits
    assert by_side(between) <= each_once(range(10, 10 + COUNT))
    lost, total = 2 * COUNT - fits, 2 * (10 + COUNT + AFTER)
    assert re.search(
        rf"exchanges: seen {total} = recorded {total - lost} .*lost \(ring full\) {lost}\b", ended.ledger
    ), ended.ledger
    assert "off by" not in ended.ledger
