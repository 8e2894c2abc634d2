"""The programs compile and pass the verifier, with each set of flags that they may be given."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.conftest import missing

from .build_program import VARIANTS

TESTS = Path(__file__).parents[1]
pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(missing()), reason=missing())]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("capture", ["syscall", "kprobe", "fentry"])
def test_builds(capture: str, variant: str) -> None:
    path = os.pathsep.join([str(TESTS), str(TESTS.parent / "src")])
    command = [sys.executable, "-m", "kernel.build_program", capture, variant]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    if variant == "arm64":
        assert done.stdout.strip() == "compiled"
    else:
        assert re.fullmatch(
            r"loaded [1-9]\d+" if capture != "fentry" else r"loaded [1-9]\d+|compiled", done.stdout.strip()
        )
