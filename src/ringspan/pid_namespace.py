"""A pid namespace of its own, as a container has without the host's: its numbers of processes are not the kernel's."""

from __future__ import annotations

import os
from pathlib import Path

HOSTS = 0xEFFFFFFC  # PROC_PID_INIT_INO of include/linux/proc_ns.h
OWN = Path("/proc/self/ns/pid")
COSTS = (
    "ringspan is in a pid namespace of its own: those processes that began before it are named by their threads' names "
    "alone, --exe knows those that run in here already, --tls looks for libraries in here, --pid takes numbers in here"
)
REMEDY = "give it the host's: --pid host (Docker, Podman), hostPID: true (Kubernetes)"


def hidden_from() -> tuple[int, int] | None:
    """Return (device, inode) of a pid namespace in which the numbers of records are none of /proc's; None elsewhere.

    In a namespace of its own with another's /proc, which is the host's, the numbers are those.
    """
    try:
        own = OWN.stat()
        foreign = own.st_ino != HOSTS and Path("/proc/self").readlink().name == str(os.getpid())
    except OSError:
        return None
    return (own.st_dev, own.st_ino) if foreign else None


def own_number() -> int:
    """Return this process's number as /proc has it."""
    try:
        return int(Path("/proc/self").readlink().name)
    except (OSError, ValueError):
        return os.getpid()
