"""The BPF maps that a running ringspan holds, looked into from outside."""

from __future__ import annotations

import ctypes as ct
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ringspan.probe import maps
from ringspan.probe.btf import load_libbpf


class MapInfo(ct.Structure):
    """struct bpf_map_info, as far as it is needed."""

    _fields_ = (
        ("type", ct.c_uint32),
        ("id", ct.c_uint32),
        ("key_size", ct.c_uint32),
        ("value_size", ct.c_uint32),
        ("max_entries", ct.c_uint32),
        ("map_flags", ct.c_uint32),
        ("name", ct.c_char * 16),
    )


class ProgramInfo(ct.Structure):
    """struct bpf_prog_info, as far as it is needed."""

    _fields_ = (
        ("before", ct.c_uint8 * 48),
        ("created_by_uid", ct.c_uint32),
        ("nr_map_ids", ct.c_uint32),
        ("map_ids", ct.c_uint64),
    )


def fdinfos(pid: int) -> Iterator[dict[str, str]]:
    """Read what /proc says of each of a process' descriptors."""
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        with suppress(OSError):
            yield dict(line.split(":\t", 1) for line in path.read_text().splitlines() if ":\t" in line)


@dataclass
class Table:
    """A BPF map that another process holds."""

    fd: int
    name: str
    key_bytes: int
    value_bytes: int
    room: int

    def entries(self) -> int:
        """Count them, while they change."""
        return sum(len(keys) for keys, _ in maps.entries(self.fd, self.key_bytes, self.value_bytes))


def described(fd: int, info: ct.Structure) -> None:
    """Ask the kernel about a program or a map."""
    length = ct.c_uint32(ct.sizeof(info))
    if fd < 0 or load_libbpf().bpf_obj_get_info_by_fd(fd, ct.byref(info), ct.byref(length)) < 0:
        raise OSError(ct.get_errno(), "a BPF program or map cannot be opened")


def map_numbers(pid: int) -> set[int]:
    """Find the maps that a process' programs use: the process itself holds but some of them."""
    found: set[int] = set()
    for number in {int(info["prog_id"]) for info in fdinfos(pid) if "prog_id" in info}:
        numbers = (ct.c_uint32 * 64)()
        info = ProgramInfo(nr_map_ids=len(numbers), map_ids=ct.addressof(numbers))
        fd = load_libbpf().bpf_prog_get_fd_by_id(number)
        described(fd, info)
        os.close(fd)
        found.update(numbers[: info.nr_map_ids])
    return found


def open_tables(pid: int) -> dict[str, Table]:
    """Open the BPF maps of a process, by name."""
    found = {}
    for number in sorted(map_numbers(pid)):
        fd, info = load_libbpf().bpf_map_get_fd_by_id(number), MapInfo()
        described(fd, info)
        name = info.name.decode()
        found[name] = Table(fd, name, info.key_size, info.value_size, info.max_entries)
    return found
