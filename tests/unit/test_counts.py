"""Counting by column."""

from __future__ import annotations

from ringspan import contract
from ringspan.counts import ENDPOINTS_MAX, OVERFLOW, Counts, Key, quantile_ms
from ringspan.view import lines

from .rows import CLIENT, batch


def printed(counts: Counts) -> list[str]:
    return lines.text(counts).splitlines()


def test_most_used_first() -> None:
    counts = Counts()
    counts.add(
        batch(
            *[{"target": b"/a", "endpoint_hash": 1, "status": 404}] * 12, *[{"target": b"/b", "endpoint_hash": 2}] * 3
        ),
        0,
    )
    assert printed(counts) == ["Endpoint: /a, Status Code: 404, Count: 12", "Endpoint: /b, Status Code: 200, Count: 3"]


def test_an_exchange_seen_from_both_ends_counts_once() -> None:
    for together in (True, False):
        counts = Counts()
        ends = [{"tcp_seq": 5}, {"tcp_seq": 5, **CLIENT}]
        for group in [ends] if together else [[end] for end in ends]:
            counts.add(batch(*group), 0)
        assert printed(counts) == ["Endpoint: /, Status Code: 200, Count: 1"]
        assert counts.records == 2


def test_two_requests_of_one_connection_are_two() -> None:
    counts = Counts()
    counts.add(batch({"tcp_seq": 5}, {"tcp_seq": 50}), 0)
    assert printed(counts) == ["Endpoint: /, Status Code: 200, Count: 2"]


def test_failed_connects_stand_by_their_reason() -> None:
    kind = {"kind": contract.number("RECORD_CONNECT_FAILURE"), "status": 0, **CLIENT}
    counts = Counts()
    timeout, by_errno = contract.number("FAILURE_TIMEOUT"), contract.number("FAILURE_ERRNO")
    counts.add(batch(*[{**kind, "failure": timeout}] * 3, {**kind, "failure": by_errno, "error_number": 113}), 0)
    assert printed(counts) == [
        "Endpoint: timeout, Status Code: 0, Count: 3",
        "Endpoint: unreachable, Status Code: 0, Count: 1",
    ]


def test_endpoints_are_bounded() -> None:
    counts = Counts()
    for start in range(0, ENDPOINTS_MAX + 500, 500):
        counts.add(batch(*({"target": b"/%d" % i, "endpoint_hash": i + 1} for i in range(start, start + 500))), 0)
    assert len(counts.tallies) == ENDPOINTS_MAX + 1
    assert counts.tallies[Key(OVERFLOW, "GET", 200, "tester")].count == 500


def test_quantiles_are_within_a_bucket() -> None:
    counts = Counts()
    counts.add(
        batch(*({"start_ktime_ns": 0, "end_ktime_ns": i * 1_000_000, "endpoint_hash": 1} for i in range(1, 101))), 0
    )
    (tally,) = counts.tallies.values()
    assert 50 <= quantile_ms(tally.buckets, 0.5) <= 60
    assert 99 <= tally.quantile_ms(0.99) <= 119
