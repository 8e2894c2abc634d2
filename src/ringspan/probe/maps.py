"""BPF maps by file descriptor, through libbpf's plain calls: no BCC, so no LLVM, in the consumer."""

from __future__ import annotations

import ctypes as ct
import os
import struct
from functools import cache

from ringspan.probe.btf import load_libbpf


@cache
def _libbpf() -> ct.CDLL:
    library = load_libbpf()
    for name in ("bpf_map_lookup_elem", "bpf_map_get_next_key"):
        getattr(library, name).argtypes = [ct.c_int, ct.c_char_p, ct.c_char_p]
    library.bpf_map_update_elem.argtypes = [ct.c_int, ct.c_char_p, ct.c_char_p, ct.c_uint64]
    library.bpf_map_delete_elem.argtypes = [ct.c_int, ct.c_char_p]
    return library


def update(fd: int, key: bytes, value: bytes) -> None:
    """Set one element; raises OSError."""
    if _libbpf().bpf_map_update_elem(fd, key, value, 0) < 0:
        error = ct.get_errno()
        raise OSError(error, f"BPF map update: {os.strerror(error)}")


def lookup(fd: int, key: bytes, value_bytes: int) -> bytes | None:
    """Return one element, or None if it is not there."""
    value = ct.create_string_buffer(value_bytes)
    return value.raw if _libbpf().bpf_map_lookup_elem(fd, key, value) >= 0 else None


def keys(fd: int, key_bytes: int) -> list[bytes]:
    """Return all keys of a map that may change meanwhile: each key once at the most."""
    found: dict[bytes, None] = {}
    key: bytes | None = None
    following = ct.create_string_buffer(key_bytes)
    while _libbpf().bpf_map_get_next_key(fd, key, following) >= 0:
        key = following.raw
        if key in found:
            break
        found[key] = None
    return list(found)


def possible_cpus() -> int:
    """Return how many values a per-CPU map holds for each key."""
    with open("/sys/devices/system/cpu/possible", encoding="ascii") as file:  # noqa: PTH123
        return max(int(part.split("-")[-1]) for part in file.read().strip().split(",")) + 1


def sum_counters(fd: int, count: int) -> list[int]:
    """Return a per-CPU array of u64 counters, summed over the CPUs."""
    cpus = possible_cpus()
    raws = (lookup(fd, i.to_bytes(4, "little"), 8 * cpus) for i in range(count))
    return [sum(struct.unpack(f"<{cpus}Q", raw)) if raw else 0 for raw in raws]


def delete(fd: int, key: bytes) -> bool:
    """Remove one element; returns whether it was there."""
    return bool(_libbpf().bpf_map_delete_elem(fd, key) >= 0)
