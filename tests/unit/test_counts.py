"""Counting by column."""

from __future__ import annotations

from ringspan import contract
from ringspan.counts import ENDPOINTS_MAX, OVERFLOW, Counts, Key
from ringspan.view import lines

from .rows import CLIENT, batch


def printed(counts: Counts) -> list[str]:
    return lines.text(counts).splitlines()


def test_most_used_first() -> None:
    counts = Counts()
    counts.add(batch(*[{"target": b"/a", "status": 404}] * 12, *[{"target": b"/b"}] * 3))
    assert printed(counts) == ["Endpoint: /a, Status Code: 404, Count: 12", "Endpoint: /b, Status Code: 200, Count: 3"]


def test_an_exchange_seen_from_both_ends_counts_once() -> None:
    for together in (True, False):
        counts = Counts()
        ends = [{"tcp_seq": 5}, {"tcp_seq": 5, **CLIENT}]
        for group in [ends] if together else [[end] for end in ends]:
            counts.add(batch(*group))
        assert printed(counts) == ["Endpoint: /, Status Code: 200, Count: 1"]
        assert counts.records == 2


def test_two_requests_of_one_connection_are_two() -> None:
    counts = Counts()
    counts.add(batch({"tcp_seq": 5}, {"tcp_seq": 50}))
    assert printed(counts) == ["Endpoint: /, Status Code: 200, Count: 2"]


def test_failed_connects_stand_by_their_reason() -> None:
    kind = {"kind": contract.number("RECORD_CONNECT_FAILURE"), "status": 0, **CLIENT}
    counts = Counts()
    timeout, by_errno = contract.number("FAILURE_TIMEOUT"), contract.number("FAILURE_ERRNO")
    counts.add(batch(*[{**kind, "failure": timeout}] * 3, {**kind, "failure": by_errno, "error_number": 113}))
    assert printed(counts) == [
        "Endpoint: timeout, Status Code: 0, Count: 3",
        "Endpoint: unreachable, Status Code: 0, Count: 1",
    ]


def test_endpoints_are_bounded() -> None:
    counts = Counts()
    for start in range(0, ENDPOINTS_MAX + 500, 500):
        counts.add(batch(*({"target": b"/%d" % i} for i in range(start, start + 500))))
    assert len(counts) == ENDPOINTS_MAX + 1
    assert dict(counts.totals())[Key(OVERFLOW, "GET", 200, "tester")] == 500


def test_quantiles_are_within_a_bucket() -> None:
    counts = Counts()
    counts.add(batch(*({"start_ktime_ns": 0, "end_ktime_ns": i * 1_000_000} for i in range(1, 101))))
    (line,) = counts.top(5, "count")
    assert 0.050 <= line.p50 <= 0.060
    assert 0.095 <= line.p95 <= 0.113
    assert 0.099 <= line.p99 <= 0.119


def test_lines_come_in_the_order_asked_for() -> None:
    counts = Counts()
    slow = {"target": b"/slow", "end_ktime_ns": 10**9}
    counts.add(
        batch(
            *[slow] * 2,
            *[{"target": b"/bad", "status": 500}] * 3,
            *[{"target": b"/hot"}] * 9,
        )
    )
    first = {order: counts.top(1, order)[0].key.endpoint for order in ("count", "errors", "latency", "name")}
    assert first == {"count": "/hot", "errors": "/bad", "latency": "/slow", "name": "/bad"}


def test_failed_connects_are_summed_by_reason() -> None:
    kind = {"kind": contract.number("RECORD_CONNECT_FAILURE"), "status": 0, **CLIENT, "failure": 1, "error_number": 111}
    counts = Counts()
    counts.add(batch(kind, kind, {}))
    counts.add(batch(kind))
    assert counts.failed_connects == {"refused": 3}
