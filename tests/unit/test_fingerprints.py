"""Texts that a peer chooses do not pass for others by their hashes."""

from __future__ import annotations

import struct

from ringspan import fingerprints
from ringspan.counts import Counts
from ringspan.metrics.columns import Grouping, fixed
from ringspan.view import lines

from .rows import CLIENT, batch

M64 = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


def cancelling(path: bytes, word: int = 0) -> bytes:
    """Another path: highest bits go through a multiplication as they are, whatever by, and what follows cancels them."""
    out = bytearray(path)
    for at, bit in ((8 * word + 7, 0x80), (8 * word + 15, 0x80), (8 * word + 12, 0x04)):
        out[at] ^= bit
    return bytes(out)


def kernel_hash(method: bytes, path: bytes) -> int:
    """hash_endpoint of bpf/http1.h."""
    state = int.from_bytes(method, "little")
    for at in range(0, len(path), 8):
        state = ((state ^ struct.unpack("<Q", path[at : at + 8].ljust(8, b"\0"))[0]) * GOLDEN) & M64
        state ^= state >> 29
    return state


def record(path: bytes) -> dict[str, object]:
    return {"target": path, "target_bytes": len(path), "endpoint_hash": kernel_hash(b"GET", path)}


def test_differences_do_not_cancel() -> None:
    path = b"/health/aaaaaa/../../admin"
    for word in (0, 1):
        two = batch(record(path), record(cancelling(path, word)))
        for _ in range(20):
            one, other = fingerprints.Mixer().mix(2, fingerprints.paths(two))
            assert one != other


def test_a_path_that_the_kernel_hashes_like_another_is_no_other() -> None:
    evil, path = b"/wp-login.phpf2j3119hguu*1kP]}(D", b"/admin"
    assert kernel_hash(b"GET", evil) == kernel_hash(b"GET", path)
    for together in (True, False):
        counts = Counts()
        for part in [[record(evil), record(path)]] if together else [[record(evil)], [record(path)]]:
            counts.add(batch(*part))
        assert len(lines.text(counts).splitlines()) == 2


def test_clients_targets_that_are_no_paths_are_told_apart_by_what_they_are() -> None:
    evil, target = b"http://a/xxxxxxxxxxxxxxx", b"http://b/yyyyyyyyyyyyyyy"
    two = batch(*({"target": one, "target_bytes": len(one), "endpoint_hash": 7} | CLIENT for one in (evil, target)))
    assert len(Grouping().groups(two, fixed(two)).hashes) == 2


def test_there_are_multipliers_for_the_longest_texts() -> None:
    longest = {"host": b"h" * 256, "host_bytes": 256, "target": b"*" * 640, "target_bytes": 640, "endpoint_hash": 1}
    one = batch(longest | CLIENT)
    one["family"] = 1
    assert len(Grouping().groups(one, fixed(one)).hashes) == 1
