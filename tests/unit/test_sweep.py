"""Which processes are taken for gone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from ringspan import pid_namespace, sweep

PROBE = SimpleNamespace(maps={})


def sweeper(proc: Path) -> sweep.Sweeper:
    return sweep.Sweeper(PROBE, proc)  # type: ignore[arg-type]


def ended() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_process_that_is_hidden_is_not_taken_for_gone(tmp_path: Path) -> None:
    assert sweeper(tmp_path)._lives(os.getpid(), 1)
    assert not sweeper(tmp_path)._lives(ended(), 1)


def test_a_number_given_to_another_process_is_known_for_it() -> None:
    assert not sweeper(Path("/proc"))._lives(os.getpid(), 1)


def test_of_numbers_that_are_another_pid_namespaces_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pid_namespace, "hidden_from", lambda: (4, 4026532000))
    assert sweeper(Path("/proc"))._lives(ended(), 1)
