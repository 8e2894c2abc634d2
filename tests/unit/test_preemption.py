"""Which kernels put programs aside, told from what they say of themselves."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from ringspan.probe import preemption

DYNAMIC = "Linux version 6.1.0 (gcc) #1 SMP PREEMPT_DYNAMIC Debian 6.1.192-2 (2026-11-16)"
VOLUNTARY = "CONFIG_PREEMPT_BUILD=y\n# CONFIG_PREEMPT_NONE is not set\nCONFIG_PREEMPT_VOLUNTARY=y\n"
FULL = "CONFIG_PREEMPT_BUILD=y\n# CONFIG_PREEMPT_NONE is not set\nCONFIG_PREEMPT=y\n"
LAZY = "CONFIG_PREEMPT_BUILD=y\nCONFIG_ARCH_HAS_PREEMPT_LAZY=y\n# CONFIG_PREEMPT is not set\nCONFIG_PREEMPT_LAZY=y\n"


@pytest.mark.parametrize(
    ("version", "chosen", "command_line", "configuration", "expected"),
    [
        ("Linux version 5.10.0 (gcc) #1 SMP Debian 5.10.1", "", "", "", ""),
        ("Linux version 5.15.0 (gcc) #1 SMP PREEMPT Debian", "", "", "", "full"),
        ("Linux version 6.1.0-rt (gcc) #1 SMP PREEMPT_RT Debian", "", "", "", "realtime"),
        (DYNAMIC, "none (voluntary) full", "", "", ""),
        (DYNAMIC, "(none) voluntary full", "quiet preempt=full", "", ""),
        (DYNAMIC, "none voluntary (full) lazy", "", VOLUNTARY, "full"),
        (DYNAMIC, "full (lazy)", "", "", "lazy"),
        (DYNAMIC, "", "quiet preempt=full", VOLUNTARY, "full"),
        (DYNAMIC, "", "quiet preempt=none", FULL, ""),
        (DYNAMIC, "", "quiet", VOLUNTARY, ""),
        (DYNAMIC, "", "quiet", FULL, "full"),
        (DYNAMIC, "", "quiet", LAZY, "lazy"),
        (DYNAMIC, "", "quiet", "", "unknown"),
    ],
)
def test_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    version: str, chosen: str, command_line: str, configuration: str, expected: str,
) -> None:  # fmt: skip
    for name, text in (("VERSION", version), ("CHOSEN", chosen), ("COMMAND_LINE", command_line)):
        path = tmp_path / name
        if text:
            path.write_text(text)
        monkeypatch.setattr(preemption, name, path)
    packed = tmp_path / "config.gz"
    if configuration:
        packed.write_bytes(gzip.compress(configuration.encode()))
    monkeypatch.setattr(preemption, "CONFIGURATIONS", (tmp_path / "none", packed))
    assert preemption.preempts() == expected
