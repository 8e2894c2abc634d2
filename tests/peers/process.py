"""Starting peers in sessions of their own, seeing their processes, ending exactly those."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from .build import search_path

START_SECONDS = 30.0
STOP_SECONDS = 5.0
PORTS = (20000, 32000)


def environment() -> dict[str, str]:
    """A peer's environment: no proxy settings, and no byte code left in the tree."""
    kept = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    return kept | {"PATH": search_path(), "PYTHONDONTWRITEBYTECODE": "1"}


def spawn(argv: Sequence[str], cwd: Path, log: Path) -> subprocess.Popen[bytes]:
    """Starts a server in its own session, with its output in the log file."""
    with log.open("ab") as output:
        return subprocess.Popen(
            argv,
            cwd=cwd,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def session_pids(leader: int) -> list[int]:
    """The live processes of the session that this process began, itself included."""
    return [int(entry.name) for entry in Path("/proc").glob("[0-9]*") if _in(entry, leader)]


def _in(entry: Path, leader: int) -> bool:
    try:
        fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return False  # it has ended meanwhile
    state, session = fields[0], int(fields[3])
    return session == leader and state not in "ZX"


def stop(process: subprocess.Popen[bytes]) -> None:
    """Asks the process to end, then kills whatever is left of its session."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
    for pid in session_pids(process.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    wait_until(lambda: not session_pids(process.pid), STOP_SECONDS)


def free_port() -> int:
    """A port below those that outgoing connections get, so that none of them takes it."""
    while True:
        port = random.randrange(*PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def connectable(address: tuple[str, int] | str) -> bool:
    """Connects and closes again, and sends nothing; a string is a Unix socket's path."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as probe:
        return probe.connect_ex(address) == 0


def wait_until(ready: Callable[[], bool], seconds: float) -> bool:
    """Whether it became so in time."""
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
