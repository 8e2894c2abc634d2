"""Ring memory: what is ready is taken once; what cannot be is refused, not followed."""

from __future__ import annotations

import struct

import pytest

from fuzz.python.records import RING_BYTES, FakeRing
from ringspan.ring import ForeignRecord

ENTRY, BUSY, DISCARD = 32, 1 << 31, 1 << 30


def entry(number: int, flags: int = 0, length: int = 24) -> bytes:
    return struct.pack("<IIQQQ", length | flags, 0, number, 0, 0)


def filled(position: int, entries: list[bytes], ready: int | None = None) -> FakeRing:
    fake = FakeRing()
    at = position % RING_BYTES
    whole = bytearray(RING_BYTES)
    for one in entries:
        whole[at : at + ENTRY] = one
        at = (at + ENTRY) % RING_BYTES
    fake.fill(position, position + (len(entries) if ready is None else ready) * ENTRY, bytes(whole))
    return fake


def taken(fake: FakeRing) -> list[int]:
    return [int(one["a"]) for one in fake.ring.drain()]


@pytest.mark.parametrize("position", [0, 10 * RING_BYTES, RING_BYTES - 2 * ENTRY, 5 * RING_BYTES - ENTRY])
def test_what_is_ready_is_taken_once_in_order_over_the_end(position: int) -> None:
    fake = filled(position, [entry(1), entry(2, DISCARD), entry(3), entry(4, BUSY), entry(5)])
    assert taken(fake) == [1, 3]
    assert taken(fake) == []
    assert fake.consumer == position + 3 * ENTRY


def test_a_full_ring_is_taken_whole() -> None:
    fake = filled(ENTRY, [entry(i) for i in range(RING_BYTES // ENTRY)])
    assert taken(fake) == list(range(RING_BYTES // ENTRY))


@pytest.mark.parametrize("ready", [-1, RING_BYTES // ENTRY + 1, 1 << 50])
def test_positions_that_cannot_be_are_refused(ready: int) -> None:
    fake = filled(1 << 20, [], ready)
    with pytest.raises(ForeignRecord, match="bytes apart"):
        fake.ring.drain()


def test_a_record_of_another_size_is_refused() -> None:
    with pytest.raises(ForeignRecord, match="a record of 16 bytes, not 24"):
        filled(0, [entry(1), entry(2, length=16)]).ring.drain()
