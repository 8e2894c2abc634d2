"""Texts that a peer chooses do not pass for others by their hashes."""

from __future__ import annotations

from ringspan import fingerprints
from ringspan.metrics.columns import Grouping, fixed

from .rows import CLIENT, batch


def cancelling(path: bytes, word: int = 0) -> bytes:
    """Another path: highest bits go through a multiplication as they are, whatever by, and what follows cancels them."""
    out = bytearray(path)
    for at, bit in ((8 * word + 7, 0x80), (8 * word + 15, 0x80), (8 * word + 12, 0x04)):
        out[at] ^= bit
    return bytes(out)


def record(path: bytes) -> dict[str, object]:
    return {"target": path, "target_bytes": len(path)}


def test_differences_do_not_cancel() -> None:
    path = b"/health/aaaaaa/../../admin"
    for word in (0, 1):
        two = batch(record(path), record(cancelling(path, word)))
        for _ in range(20):
            one, other = fingerprints.Mixer().mix(2, fingerprints.paths(two))
            assert one != other


def test_clients_targets_that_are_no_paths_are_told_apart_by_what_they_are() -> None:
    evil, target = b"http://a/xxxxxxxxxxxxxxx", b"http://b/yyyyyyyyyyyyyyy"
    two = batch(*({"target": one, "target_bytes": len(one)} | CLIENT for one in (evil, target)))
    assert len(Grouping().groups(two, fixed(two)).hashes) == 2


def test_there_are_multipliers_for_the_longest_texts() -> None:
    longest = {"host": b"h" * 256, "host_bytes": 256, "target": b"*" * 640, "target_bytes": 640}
    one = batch(longest | CLIENT)
    one["family"] = 1
    assert len(Grouping().groups(one, fixed(one)).hashes) == 1
