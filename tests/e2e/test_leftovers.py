"""However a run ends, nothing of it stays: no BPF program, map or link, no process, no file, no mount."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ringspan.probe import tree

from .kernel_objects import Ids, children, eventually, held, lives, still_there
from .test_command_line import begin

pytestmark = pytest.mark.root
ENDS = [signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV]
COMPILER, ATTACHER = "ringspan.probe.child", "ringspan.tls.attacher"
RINGSPAN = [sys.executable, "-m", "ringspan.cli", "trace", "--tls", "auto", "--port", "1", "--show", "none"]
# As where CAP_SYS_ADMIN is not to be had: no mount, so a folder.
NO_MOUNT = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]


def mounts() -> str:
    return Path("/proc/self/mounts").read_text()


def folders() -> set[str]:
    return {path.name for path in Path(tree.tempfile.gettempdir()).glob(f"{tree.PREFIX}*")}


@contextmanager
def no_mount_is_left() -> Iterator[None]:
    before = mounts()
    yield
    assert [line for line in mounts().splitlines() if line not in before and "ringspan" in line] == []


def assert_gone(ids: Ids) -> None:
    assert eventually(lambda: not still_there(ids)), still_there(ids)


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.name)
def test_a_run_that_ends_leaves_nothing(end: signal.Signals) -> None:
    with no_mount_is_left():
        process = begin("--tls", "auto", "--port", "1", "--show", "none")
        (attacher,) = children(process.pid)
        assert attacher in children(process.pid, ATTACHER)
        assert "link" in {kind for kind, _ in held(attacher)}
        ids = held(process.pid) | held(attacher)
        assert {kind for kind, _ in ids} == {"prog", "map", "link"}
        assert still_there(ids) == ids
        process.send_signal(end)
        process.communicate(timeout=60)
        assert_gone(ids)
        assert eventually(lambda: not lives(attacher))
    assert not [name for name in folders() if name.startswith(f"{tree.PREFIX}{process.pid}-")]


def test_a_run_that_crashes_leaves_nothing(tmp_path: Path) -> None:
    """The output's reader is gone, so that the drain raises."""
    process = subprocess.Popen([*RINGSPAN[:-1], "table", "--interval", "0.1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    while not process.stderr.readline().startswith("ready"):
        pass
    ids = held(process.pid)
    process.communicate(timeout=60)
    assert_gone(ids)


def compiling(process: subprocess.Popen[bytes]) -> int:
    """Waits for the child that compiles, until it is at it; returns its pid."""
    assert eventually(lambda: bool(children(process.pid, COMPILER)), 60)
    (child,) = children(process.pid, COMPILER)
    mine = f"{tree.PREFIX}{process.pid}-"
    assert eventually(
        lambda: any(kind == "map" for kind, _ in held(child)) or any(n.startswith(mine) for n in folders())
    )
    return child


@pytest.mark.parametrize("mount", [True, False], ids=["mounting", "not mounting"])
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL], ids=lambda end: end.name)
def test_a_start_that_is_cut_short_leaves_nothing(end: signal.Signals, mount: bool) -> None:
    with no_mount_is_left():
        process = subprocess.Popen(
            RINGSPAN if mount else [*NO_MOUNT, *RINGSPAN], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        child = compiling(process)
        (attacher,) = children(process.pid, ATTACHER)
        os.kill(child, signal.SIGSTOP)  # or its folder may be gone before we look
        ids = held(child)
        made = [name for name in folders() if name.startswith(f"{tree.PREFIX}{process.pid}-")]
        assert len(made) == (0 if mount else 1)
        process.send_signal(end)
        process.wait(60)
        if end == signal.SIGKILL:
            assert lives(child)
            os.kill(child, signal.SIGCONT)
        assert eventually(lambda: not lives(child))
        assert eventually(lambda: not lives(attacher))
        assert_gone(ids)
    assert eventually(lambda: not [name for name in folders() if name.startswith(f"{tree.PREFIX}{process.pid}-")])


def test_what_two_killed_processes_have_left_the_next_start_removes() -> None:
    process = subprocess.Popen([*NO_MOUNT, *RINGSPAN], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    child = compiling(process)
    os.kill(child, signal.SIGSTOP)
    process.kill()
    os.kill(child, signal.SIGKILL)
    process.wait(60)
    left = [name for name in folders() if name.startswith(f"{tree.PREFIX}{process.pid}-")]
    assert len(left) == 1
    old = time.time() - 2 * tree.STALE_S
    os.utime(Path(tree.tempfile.gettempdir()) / left[0], (old, old))
    begin("--port", "1", "--show", "none", "--duration", "0.1").communicate(timeout=60)
    assert left[0] not in folders()


def test_a_compiling_child_does_not_wait_for_a_parent_that_is_gone() -> None:
    """It is killed before it has told the child what to do."""
    script = (
        "import socket, subprocess, sys, os, signal\n"
        "ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        "child = subprocess.Popen([sys.executable, '-m', 'ringspan.probe.child', str(theirs.fileno())], pass_fds=[theirs.fileno()])\n"
        "print(child.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    child = int(parent.stdout.readline())
    parent.wait(10)
    assert eventually(lambda: not lives(child))
