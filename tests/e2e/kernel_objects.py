"""BPF programs, maps and links that a process holds, by their ids; and which of these the kernel still has."""

from __future__ import annotations

import ctypes as ct
import time
from collections.abc import Callable
from pathlib import Path

LIBBPF = ct.CDLL("libbpf.so.1", use_errno=True)
NEXT = {"prog": LIBBPF.bpf_prog_get_next_id, "map": LIBBPF.bpf_map_get_next_id, "link": LIBBPF.bpf_link_get_next_id}
Ids = set[tuple[str, int]]


def fdinfo(pid: int) -> list[dict[str, str]]:
    """What the kernel says of each descriptor of a process."""
    out = []
    for file in Path(f"/proc/{pid}/fdinfo").iterdir():
        try:
            lines = file.read_text().splitlines()
        except OSError:  # it has just been closed
            continue
        out.append({key: value.strip() for key, _, value in (line.partition(":") for line in lines)})
    return out


def held(pid: int) -> Ids:
    """The ids of what a process holds; none if it has ended. (A link names its program, too.)"""
    try:
        infos = fdinfo(pid)
    except OSError:
        return set()
    return {(kind, int(info[f"{kind}_id"])) for info in infos for kind in NEXT if f"{kind}_id" in info}


def still_there(ids: Ids) -> Ids:
    """Which of these the kernel still has.

    None is opened: of a map of programs whose last descriptor has just been closed, that would keep the kernel from
    ever freeing it (prog_array_map_clear takes a reference each time, but its work runs once).
    """
    return {(kind, number) for kind, number in ids if _exists(kind, number)}


def _exists(kind: str, number: int) -> bool:
    found = ct.c_uint32()
    return NEXT[kind](ct.c_uint32(number - 1), ct.byref(found)) == 0 and found.value == number


def locked_bytes(pid: int) -> int:
    """How much memory the maps of a process take in the kernel, as it says itself."""
    return sum({info["map_id"]: int(info["memlock"]) for info in fdinfo(pid) if "map_id" in info}.values())


def resident_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def children(pid: int, module: str = "") -> list[int]:
    """The children of a process; those that run a module."""
    try:
        found = [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return [n for n in found if module in Path(f"/proc/{n}/cmdline").read_text()]
    except OSError:
        return []


def lives(pid: int) -> bool:
    """Whether a process runs: one that is only not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def eventually(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
