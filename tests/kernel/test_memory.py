"""What the maps will lock, as computed before anything is compiled, is what the kernel then says."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.conftest import missing
from e2e.kernel_objects import fdinfo
from e2e.tracer import trace
from ringspan.config import Settings
from ringspan.probe import memory
from ringspan.probe.child import HANDED_OVER, HANDED_OVER_TLS
from ringspan.probe.settings import ProbeSettings

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(missing()), reason=missing())]
CONFIG = "connections: 1000\nexchanges: 300\nring_bytes: 1048576\n"


@pytest.mark.parametrize("tls", ["auto", "off"])
def test_computed_is_what_the_kernel_says(tmp_path: Path, tls: str) -> None:
    (tmp_path / "c.yaml").write_text(CONFIG)
    with trace("--port", "1", "--tls", tls, "--config", str(tmp_path / "c.yaml")) as tracer:
        by_map = {one["map_id"]: int(one["memlock"]) for one in fdinfo(tracer.pid) if "map_id" in one}
    said = sorted(by_map.values())
    told = ProbeSettings(own_tgid=1, connections=1000, exchanges=300, ring_bytes=1 << 20, follow_tls=tls == "auto")
    computed = memory.locked(told)
    more = [*HANDED_OVER_TLS, "programs"] if tls == "auto" else []
    pairs = list(zip(said, sorted(computed[name] for name in [*HANDED_OVER, *more, "programs"]), strict=True))
    assert [pair for pair in pairs if abs(pair[0] - pair[1]) > 0.02 * pair[0] + 1024] == []


def test_every_map_has_its_size() -> None:
    text = Path(memory.bpf_folder() / "maps.h").read_text()
    assert memory.locked(ProbeSettings(own_tgid=1, follow_tls=True)).keys() == set(
        re.findall(r"^BPF_\w+\((\w+),", text, re.MULTILINE)
    )


def test_doctor_says_how_much(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ringspan.cli", "doctor"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, check=False)  # fmt: skip
    total = float(re.search(r"kernel memory: ([\d.]+) MB", done.stdout)[1])
    same = {f.name for f in dataclasses.fields(Settings)} & {f.name for f in dataclasses.fields(ProbeSettings)}
    told_otherwise = {"role", "client_from"}
    assert {name: getattr(Settings(), name) for name in same - told_otherwise} == {
        name: getattr(ProbeSettings(own_tgid=1), name) for name in same - told_otherwise
    }
    assert total == pytest.approx(sum(memory.locked(ProbeSettings(own_tgid=1)).values()) / 1e6, abs=0.1)
