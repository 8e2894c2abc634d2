"""The ledger closes, and says what the servers' logs say, while everything that can fail does so at random.

Too small tables, a consumer and a collector that are stopped, servers and clients that are killed in mid-request,
connections reset in heads and bodies, slow readers. What is true of such a run, exactly:

- every equation of the ledger closes, and nothing is in flight once all is over;
- a row with a status is a request that the server logged with that method, target and status;
- no request ended well more often than it was logged, but for a server killed between its answer and its log line:
  one at the most for each kill;
- of what was logged, each end that has no row is among the lost; or, where connections found no place, among the calls
  that were counted for that. Losses may be more than that: requests that were cut leave no log line;
- the collector has every span that it acknowledged and none that was not recorded; it has others only as far as they
  failed with their fate unknown; and it has spans twice only by batches whose acknowledgement was lost.
"""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from peers.access_log import LoggedRequest
from peers.process import stop
from peers.servers import start
from peers.test_peers import available

from . import faults, reckoning
from .reckoning import Reported
from .rude import RawClients, Tags

pytestmark = [pytest.mark.root, pytest.mark.peers, pytest.mark.backend, pytest.mark.timeout(3600)]
REQUESTS = int(os.environ.get("RINGSPAN_FAULT_REQUESTS", "50000"))
SEED = int(os.environ.get("RINGSPAN_FAULT_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
BATCH, EXPORT_SECONDS = 512, 1.0
SETTLE_SECONDS = 6.0  # longer than a batch waits after the longest outage of the schedule
SMALL = {
    "ring and exchanges": "ring_bytes: 262144\nexchanges: 64\n",
    "connections": "connections: 64\n",
}
REST = "queue_spans: 500\nspans_per_second: 300\nretry_s: 600\n"


@dataclass(frozen=True)
class Outcome:
    """One run: what ringspan said, what servers logged, and what happened meanwhile."""

    ledger: str
    reported: Reported
    logged: dict[str, list[LoggedRequest]]
    scene: faults.Scene


def played(folder: Path, settings: str, requests: int, *, polite: bool = False) -> Outcome:
    for peer in ("nginx", "http.server", "vegeta", "wrk", "otelcol"):
        available(peer)
    print(f"RINGSPAN_FAULT_SEED={SEED}")
    tags, chance = Tags(), random.Random(SEED)
    config = folder / "ringspan.yaml"
    config.write_text(settings + REST)
    with ExitStack() as stack:
        nginx, threaded = (stack.enter_context(start(name)) for name in ("nginx", "http.server"))
        stack.callback(lambda: stop(threaded.processes[-1]))
        collector = faults.Lives(folder)
        stack.callback(collector.end)
        flags = ["--port", str(nginx.port), "--port", str(threaded.port), "--config", str(config)]
        tracer = stack.enter_context(faults.tracing([*flags, "--show", "json", "--otlp", collector.url], folder))
        clients, raw = faults.Clients(tags, folder, chance), RawClients(tags, SEED, polite=polite)
        scene = faults.Scene(nginx, threaded, collector, clients, raw, tracer.pid, chance, polite)
        faults.play(scene, tags, requests)
        time.sleep(SETTLE_SECONDS)
        tracer.send_signal(signal.SIGINT)
        assert tracer.wait(20) == 0
        logged = reckoning.by_tag([*nginx.access_log(), *threaded.access_log()])
    ledger = (folder / "stderr").read_text()
    print(ledger)
    return Outcome(ledger, Reported.read(folder / "rows"), logged, scene)


@pytest.mark.parametrize("small", SMALL)
def test_the_ledger_closes_under_random_faults(small: str, tmp_path: Path) -> None:
    run = played(tmp_path, SMALL[small], REQUESTS // len(SMALL))
    check_ledger(run.ledger, run.reported)
    lost, unfollowed, absent = check_requests(run)
    assert len(reckoning.surplus(run.reported, run.logged)) <= run.scene.server_kills
    assert sum(absent.values()) <= lost + unfollowed
    check_spans(run)


def test_what_is_lost_is_what_is_missing(tmp_path: Path) -> None:
    """Where every request is answered and logged, the two numbers are the same."""
    run = played(tmp_path, SMALL["ring and exchanges"], 10_000, polite=True)
    check_ledger(run.ledger, run.reported)
    lost, unfollowed, absent = check_requests(run)
    assert reckoning.surplus(run.reported, run.logged) == []
    assert unfollowed == 0
    assert sum(absent.values()) == lost > 0
    check_spans(run)


def check_ledger(ledger: str, reported: Reported) -> None:
    exchanges, connects = reckoning.parts(ledger, "exchanges"), reckoning.parts(ledger, "failed connects")
    assert "Traceback" not in ledger
    assert "off by" not in ledger
    assert exchanges["in flight"] == 0
    assert exchanges["recorded"] + connects["recorded"] == reported.rows
    assert len(reported.span_ids) == reported.rows


def check_requests(run: Outcome) -> tuple[int, int, dict[str, int]]:
    """What was reported is as it was logged; returns how many were lost, not followed, and missing by end."""
    lost = reckoning.total(reckoning.parts(run.ledger, "exchanges"), "lost")
    unfollowed = reckoning.not_followed(run.ledger, reckoning.FULL)
    absent = reckoning.missing(run.reported, run.logged)
    scene = run.scene
    print(f"logged {sum(map(len, run.logged.values()))}, missing {absent}, lost {lost}, not followed {unfollowed}")
    print(f"{scene.server_kills} servers and {scene.clients.killed} clients killed, {scene.tracer_stops} stops")
    assert reckoning.differing(run.reported, run.logged) == []
    return lost, unfollowed, absent


def check_spans(run: Outcome) -> None:
    spans, arrived = reckoning.parts(run.ledger, "spans"), run.scene.collector.span_ids()
    unknown = reckoning.total(spans, "failed") - spans.get("failed (queue full)", 0)
    again = reckoning.twice(arrived)
    interruptions = run.scene.collector.interrupted_seconds
    tries = sum(seconds / EXPORT_SECONDS + 2 for seconds in interruptions) + run.scene.tracer_stops
    print(f"arrived {len(arrived)}, {again} of them again; fate unknown {unknown}; {len(interruptions)} interruptions")
    assert arrived.keys() <= run.reported.span_ids
    assert spans["acknowledged"] <= len(arrived) <= spans["acknowledged"] + unknown
    assert again <= BATCH * tries
