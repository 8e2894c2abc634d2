"""From bytes to records: every case whole, split in two anywhere, byte by byte, and in iovecs of one byte."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from unit import cases
from unit.harness import CLIENT, CLOSE, EGRESS, INGRESS, PEER_FIN, SERVER, SHUTDOWN, UNKNOWN, Connection, text

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from unit.cases import Case, Step

TEXTS = ("method", "target", "host", "user_agent", "traceparent", "tracestate")
SPLITS_MAX = 400
PIECES_MAX = 400  # more of one byte would overrun a call
LOST = ("filtered", "lost_ring_full", "lost_pipeline_full", "lost_table_full", "lost_desync")


class Player:
    """Plays steps on one connection, seen from one side."""

    def __init__(self, case: Case, side: str) -> None:
        self.side = side
        role = (SERVER if side == cases.SERVER_SIDE else CLIENT) if case.born else UNKNOWN
        self.connection = Connection(role, born=case.born)
        self.begun: list[tuple[int, int]] = []  # of each call that moved request bytes: where they begin, and when
        self.requested = b""

    def direction(self, what: str) -> int:
        return INGRESS if (what == "request") == (self.side == cases.SERVER_SIDE) else EGRESS

    def play(self, step: Step, pieces: tuple[int, ...] = ()) -> None:
        if step.what in ("request", "response"):
            if step.what == "request":
                self.begun.append((len(self.requested), self.connection.now + 10))
                self.requested += step.data
            self.connection.call(self.direction(step.what), step.data, pieces, opaque=step.opaque)
        elif step.what == "eof":
            self.connection.end_of_stream()
        elif step.what == "error":
            self.connection.end_of_stream(error=step.number)
        else:
            self.connection.end({"fin": PEER_FIN, "shutdown": SHUTDOWN, "close": CLOSE}[step.what])

    def start_of(self, offset: int) -> int:
        return max(now for at, now in self.begun if at <= offset)


def described(record: np.void) -> dict[str, Any]:
    """Describe a record as cases.exchange does."""
    names = [name for name in cases.exchange() if name not in TEXTS]
    return {name: text(record, name) for name in TEXTS} | {name: int(record[name]) for name in names}


def pairs(step: Step) -> Iterator[tuple[Step, Step]]:
    size = len(step.data)
    for at in range(1, size, -(-size // SPLITS_MAX) or 1):
        yield step._replace(data=step.data[:at]), step._replace(data=step.data[at:])


def byte_by_byte(step: Step) -> list[Step]:
    """Cut a step into calls of one byte; of a long one, only the beginning and the end."""
    data = step.data
    if len(data) <= 20_000:
        return [step._replace(data=data[i : i + 1]) for i in range(len(data))] or [step]
    parts = (
        [data[i : i + 1] for i in range(500)]
        + [data[500:-500]]
        + [data[i : i + 1] for i in range(len(data) - 500, len(data))]
    )
    return [step._replace(data=part) for part in parts]


def blocks(step: Step) -> list[Step]:
    """Cut a step into calls of as many bytes as are looked at in iovecs of one byte."""
    limit = PIECES_MAX if len(step.data) <= 20_000 else len(step.data)
    return [step._replace(data=step.data[i : i + limit]) for i in range(0, len(step.data), limit)] or [step]


def check(case: Case, player: Player) -> None:
    """Compare what was emitted with what the case expects, before and after the connection's end."""
    connection = player.connection
    found = connection.records()
    assert [described(record) for record in found] == list(case.records)
    assert connection.off == case.off
    for record in found:
        at = int(record["tcp_seq"])
        assert player.requested[at:].startswith(text(record, "method"))
        assert record["start_ktime_ns"] == player.start_of(at)
        assert (
            record["start_ktime_ns"] <= record["first_byte_ktime_ns"] <= record["end_ktime_ns"] or not record["status"]
        )
        assert record["role"] == (SERVER if player.side == cases.SERVER_SIDE else CLIENT)
    connection.end(CLOSE)
    assert len(connection.records()) == len(found)
    counters = connection.counters()
    assert connection.in_flight == 0
    assert counters.pop("seen", 0) == counters.get("recorded", 0) + sum(counters.get(name, 0) for name in LOST)
    assert counters.pop("recorded", 0) == len(found)
    assert counters == case.counters


def variants() -> list[Any]:
    return [
        pytest.param(
            case,
            side,
            id=f"{case.name}-{side}",
        )
        for case in cases.CASES
        for side in case.sides
    ]


def variants_that_may_be_cut() -> list[Any]:
    return [variant for variant in variants() if variant.values[0].split]


@pytest.mark.parametrize(("case", "side"), variants())
def test_whole(case: Case, side: str) -> None:
    player = Player(case, side)
    for step in case.steps:
        player.play(step)
    check(case, player)


@pytest.mark.parametrize(("case", "side"), variants_that_may_be_cut())
def test_split_in_two_calls(case: Case, side: str) -> None:
    for i, step in enumerate(case.steps):
        for pair in pairs(step):
            player = Player(case, side)
            for part in (*case.steps[:i], *pair, *case.steps[i + 1 :]):
                player.play(part)
            try:
                check(case, player)
            except AssertionError as wrong:
                raise AssertionError(f"split after {pair[0].data[-30:]!r} of step {i}: {wrong}") from wrong


@pytest.mark.parametrize(("case", "side"), variants_that_may_be_cut())
def test_one_byte_per_call(case: Case, side: str) -> None:
    player = Player(case, side)
    for step in case.steps:
        for part in byte_by_byte(step):
            player.play(part)
    check(case, player)


@pytest.mark.parametrize(("case", "side"), [variant for variant in variants() if variant.values[0].pieced])
def test_one_byte_per_iovec(case: Case, side: str) -> None:
    player = Player(case, side)
    for step in case.steps:
        for part in blocks(step) if case.split else [step]:
            player.play(part, (1,) * len(part.data) if len(part.data) <= PIECES_MAX else ())
    check(case, player)
