"""One tracer for the whole session, on a block of ports; and a visible reason where it cannot run."""

from __future__ import annotations

import importlib.util
import os
import random
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from .tracer import Tracer, for_ports, trace

PORTS = 400
FIRST_PORTS = range(12000, 19000, 500)  # below those that outgoing connections get; five digits each


def missing() -> str:
    """What this machine lacks for tracing; empty if nothing."""
    if os.geteuid():
        return "needs root"
    if not Path("/sys/kernel/btf/vmlinux").exists():
        return "needs a kernel with BTF (/sys/kernel/btf/vmlinux)"
    if importlib.util.find_spec("bcc") is None:
        return "needs BCC for this Python (Debian: python3-bpfcc)"
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = missing()
    for item in items:
        if reason and item.path.parent == Path(__file__).parent and item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason=reason))


def is_free(port: int) -> bool:
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.socket(family) as probe, suppress(OSError):
            probe.bind((address, port))
            continue
        return False
    return True


class Ports:
    """Hands out each port once, so that no case sees the rows of another."""

    def __init__(self) -> None:
        first = random.choice(FIRST_PORTS)
        self.all = list(range(first, first + PORTS))
        self._left = iter(self.all)

    def take(self) -> int:
        return next(port for port in self._left if is_free(port))


@pytest.fixture(scope="session")
def ports() -> Ports:
    return Ports()


@pytest.fixture(scope="session")
def tracer(ports: Ports) -> Iterator[Tracer]:
    """Sees all of the ports, and nothing else."""
    with trace(*for_ports(ports.all)) as running:
        yield running


@pytest.fixture(scope="session")
def unix_tracer() -> Iterator[Tracer]:
    """Sees all that the process of the tests does, Unix sockets too, which have no port to ask for."""
    with trace("--pid", str(os.getpid())) as running:
        yield running
