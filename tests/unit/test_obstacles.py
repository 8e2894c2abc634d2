"""Why a kernel does not allow a capture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ringspan.probe import attach, btf, captures, preemption, switches

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@pytest.fixture
def switch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "ftrace_enabled"
    path.write_text("1\n")
    by_means = {means: (path, *paths[1:]) for means, paths in switches.BY_MEANS.items()}
    monkeypatch.setattr(switches, "BY_MEANS", by_means)
    return path


@pytest.mark.parametrize("capture", [captures.FENTRY, captures.KPROBE])
def test_a_capture_that_is_switched_off_is_none(capture: captures.Capture, switch: Path) -> None:
    switch.write_text("0\n")
    assert attach.obstacle(capture) == f"{switch} is 0: what is attached there does not run"
    assert attach.obstacle(captures.SYSCALL) == ""


def test_one_that_is_switched_off_while_it_runs_is_said_and_counted(
    switch: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watch, others = switches.Watch("kprobe", 10.0), switches.Watch("raw tracepoints", 10.0)
    for now, state in ((11.0, "1"), (12.0, "0"), (13.5, "0"), (14.5, "1"), (15.5, "1")):
        switch.write_text(state)
        watch.look(now)
        others.look(now)
    assert (watch.seconds, others.seconds) == (3, 0)
    assert caplog.messages == [f"{switch} is 0: nothing is seen until it is 1 again", "what is attached runs again"]


def kernel(names: Iterable[str], without: str) -> btf.KernelTypes:
    """Return a kernel's types: of these functions it has all but one, and nothing that is new."""
    return btf.KernelTypes(b"", [], {name: btf.Function(1, ()) for name in names if name != without})


@pytest.mark.parametrize("capture", [captures.FENTRY, captures.KPROBE])
def test_a_capture_whose_functions_are_not_all_there_is_none(
    capture: captures.Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without CONFIG_SECURITY_NETWORK, say."""
    monkeypatch.setattr(btf, "read_types", lambda names: kernel(names, without="security_sock_graft"))
    assert attach.obstacle(capture) == "security_sock_graft is not among the kernel's types"
    monkeypatch.setattr(btf, "read_types", lambda names: kernel(names, without="tcp_push"))
    assert "kernel's types" not in attach.obstacle(capture)


def test_fentry_is_none_where_threads_put_aside_cannot_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux 5.11: it preempts within programs, and has no compare-and-exchange for them."""
    monkeypatch.setattr(btf, "read_types", lambda names: kernel(names, without=""))
    monkeypatch.setattr(preemption, "preempts", lambda: "full")
    assert "no atomic instructions" in attach.obstacle(captures.FENTRY)
    assert "no atomic instructions" not in attach.obstacle(captures.KPROBE)
