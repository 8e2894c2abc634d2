"""BPF maps by file descriptor, through libbpf's plain calls: no BCC, so no LLVM, in the consumer."""

from __future__ import annotations

import ctypes as ct
import errno
import os
import struct
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

from ringspan.probe.btf import load_libbpf

BATCH = 256
Array = np.ndarray[Any, np.dtype[Any]]


class RunOptions(ct.Structure):
    """struct bpf_test_run_opts of libbpf 1.x."""

    _fields_ = (
        ("sz", ct.c_size_t), ("data_in", ct.c_void_p), ("data_out", ct.c_void_p),
        ("data_size_in", ct.c_uint32), ("data_size_out", ct.c_uint32),
        ("ctx_in", ct.c_char_p), ("ctx_out", ct.c_void_p), ("ctx_size_in", ct.c_uint32), ("ctx_size_out", ct.c_uint32),
        ("retval", ct.c_uint32), ("repeat", ct.c_int), ("duration", ct.c_uint32), ("flags", ct.c_uint32),
        ("cpu", ct.c_uint32), ("batch_size", ct.c_uint32),
    )  # fmt: skip


@cache
def _libbpf() -> ct.CDLL:
    library = load_libbpf()
    for name in ("bpf_map_lookup_elem", "bpf_map_get_next_key"):
        getattr(library, name).argtypes = [ct.c_int, ct.c_char_p, ct.c_char_p]
    library.bpf_map_update_elem.argtypes = [ct.c_int, ct.c_char_p, ct.c_char_p, ct.c_uint64]
    library.bpf_map_delete_elem.argtypes = [ct.c_int, ct.c_char_p]
    library.bpf_map_lookup_batch.argtypes = [
        ct.c_int, ct.c_char_p, ct.c_char_p, ct.c_void_p, ct.c_void_p, ct.POINTER(ct.c_uint32), ct.c_void_p
    ]  # fmt: skip
    library.bpf_prog_test_run_opts.argtypes = [ct.c_int, ct.POINTER(RunOptions)]
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


def entries(fd: int, key_bytes: int, value_bytes: int) -> Iterator[tuple[Array, Array]]:
    """Read a hash map that may change meanwhile, some entries at a time: keys and values, one row each."""
    keys, values = np.empty((BATCH, key_bytes), np.uint8), np.empty((BATCH, value_bytes), np.uint8)
    place, count = ct.create_string_buffer(max(4, key_bytes)), ct.c_uint32()
    before = None
    while True:
        count.value = BATCH
        pointers = keys.ctypes.data, values.ctypes.data
        more = _libbpf().bpf_map_lookup_batch(fd, before, place, *pointers, ct.byref(count), None) >= 0
        error = ct.get_errno()
        if not more and error != errno.ENOENT:  # which ends the map
            raise OSError(error, f"BPF map lookup: {os.strerror(error)}")
        rows = count.value
        if rows:
            yield keys[:rows], values[:rows]
        if not more:
            return
        before = place


def clear(fd: int, key_bytes: int, value_bytes: int) -> None:
    """Remove all entries of a hash map."""
    for key in [key.tobytes() for some, _ in entries(fd, key_bytes, value_bytes) for key in some]:
        delete(fd, key)


def run(fd: int, context: bytes) -> int:
    """Run a program of type raw tracepoint once, here and now; returns what it returns; raises OSError."""
    options = RunOptions(sz=ct.sizeof(RunOptions), ctx_in=context, ctx_size_in=len(context))
    if _libbpf().bpf_prog_test_run_opts(fd, ct.byref(options)) < 0:
        error = ct.get_errno()
        raise OSError(error, f"BPF program run: {os.strerror(error)}")
    return int(options.retval)


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
