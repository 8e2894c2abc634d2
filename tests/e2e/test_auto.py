"""--capture auto takes the first that the kernel allows, and says why not one before it; old kernels are refused."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess

import pytest

from .test_privileges import RINGSPAN, WITH_PATHS
from .tracer import trace

pytestmark = pytest.mark.root
HOW = ["fentry", "kprobe", "raw tracepoints"]


def ringspan(*arguments: str, launcher: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*launcher, *RINGSPAN, *arguments], capture_output=True, text=True, env=WITH_PATHS, check=False
    )


def test_auto_is_what_doctor_says_is_first() -> None:
    said = re.findall(r"capture \w+ \((.+?)\): (.+)", ringspan("doctor").stdout)
    assert [how for how, _ in said] == HOW
    first = next(how for how, answer in said if answer.startswith("available; not seen by it: "))
    assert "io_uring" in dict(said)["raw tracepoints"]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with trace("--port", str(port), "--capture", "auto") as tracer:
            ready = tracer.ready_line()
    assert f"({first}" in ready
    for how, answer in said[: HOW.index(first)]:
        assert f"not {how}: " in ready
        assert answer.partition(": ")[2].partition("; not seen by it")[0] in ready


@pytest.mark.parametrize("arguments", [["doctor"], ["trace", "--port", "1"]])
def test_a_kernel_before_5_8_is_refused(arguments: list[str]) -> None:
    """As uname has it; 4.18 and the like are told apart by nothing else."""
    if not shutil.which("setarch"):
        pytest.skip("needs setarch (util-linux)")
    done = ringspan(*arguments, launcher=("setarch", "--uname-2.6"))
    said = done.stdout + done.stderr
    assert done.returncode == 3
    assert "Linux 5.8 or later is needed" in said
    assert "Traceback" not in said
