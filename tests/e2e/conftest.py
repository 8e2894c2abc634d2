"""One tracer for the whole session, on a block of ports; and a visible reason where it cannot run."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .stage import Ports, Stage
from .tracer import CAPTURE, for_ports, in_guest, trace

if TYPE_CHECKING:
    from collections.abc import Iterator


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


@pytest.fixture(scope="session")
def ports() -> Ports:
    return Ports()


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One tracer sees the stage's own ports and nothing else; one sees Python, for Unix sockets have no port.

    In a guest of the kernel lab, where nothing else runs, one sees it all, and leaves its ledger; what TLS libraries are
    called for takes a minute there to begin: the guest says with which capture.
    """
    own = Ports()
    if job := in_guest():
        with trace("--tls", os.environ.get("RINGSPAN_TEST_TLS", "off")) as all_of_it:
            yield Stage(all_of_it, all_of_it, own, tmp_path_factory.mktemp("sockets"))
            ledger = all_of_it.stop().ledger
        Path(job, f"{CAPTURE}.ledger").write_text(ledger)
        return
    with trace(*for_ports(own.all)) as tcp, trace("--exe", os.path.realpath(sys.executable)) as unix:
        yield Stage(tcp, unix, own, tmp_path_factory.mktemp("sockets"))
