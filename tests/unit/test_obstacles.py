"""Why a kernel does not allow a capture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ringspan.probe import attach, captures

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("capture", [captures.FENTRY, captures.KPROBE])
def test_a_capture_that_is_switched_off_is_none(
    capture: captures.Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    switch = tmp_path / "ftrace_enabled"
    switch.write_text("0\n")
    monkeypatch.setattr(attach, "FTRACE", switch)
    assert attach.obstacle(capture) == f"{switch} is 0: what is attached there does not run"
    assert attach.obstacle(captures.SYSCALL) == ""
