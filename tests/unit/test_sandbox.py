"""What the sandbox forbids, tried in a process of its own; and that what a tracer does goes on."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

SYSTEM_PYTHON = "/usr/bin/python3"
ENTER = "import ctypes, fcntl as F, os, socket, struct, sys, threading; sys.path.insert(0, {!r}); from ringspan import sandbox; assert sandbox.enter(attaching={}, unix_sockets={})\n"
SOURCES = str(Path(__file__).parents[2] / "src")
FORBIDDEN = {
    "write a file": "open('/dev/null', 'w')",
    "make a file": "os.open('made', os.O_RDONLY | os.O_CREAT)",
    "remove a file": "os.unlink('there')",
    "rename a file": "os.rename('there', 'other')",
    "change a mode": "os.chmod('there', 0o777)",
    "exec": "os.execv('/bin/true', ['true'])",
    "fork": "os.fork()",
    "signal another process": "os.kill(os.getppid(), 0)",
    "signal its group": "os.kill(0, 0)",
    "signal by a descriptor's owner": "F.fcntl(os.pipe()[0], F.F_SETOWN, os.getppid())",
    "signal by a descriptor's owner, otherwise named": "F.fcntl(os.pipe()[0], 15, struct.pack('ii', 1, os.getppid()))",
    "choose the signal of a descriptor": "F.fcntl(0, F.F_SETSIG, 9)",
    "be signalled of a folder": "F.fcntl(os.open('.', os.O_RDONLY), F.F_NOTIFY, F.DN_MODIFY)",
    "have data signalled": "F.fcntl(0, F.F_SETFL, os.O_ASYNC)",
    "tell a daemon as root": "socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b'x', 'daemon')",
    "make a pair of sockets": "socket.socketpair()",
    "become another": "os.setuid(os.getuid())",
    "see packets": "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
    "ask a daemon as root": "socket.socket(socket.AF_UNIX)",
    "listen": "socket.socket().listen()",
    "type into a terminal": "__import__('fcntl').ioctl(0, __import__('termios').TIOCSTI, b'x')",
    "look into a process": "call(101, 16, os.getppid(), 0, 0)",
    "read another's memory": "call(310, os.getppid(), 0, 0, 0, 0, 0)",
    "take another's descriptor": "call(438, 0, 0, 0)",
    "open by handle": "call(304, 0, 0, 0)",
    "load a BPF program": "call(321, 5, 0, 0)",
    "make a BPF map": "call(321, 0, 0, 0)",
    "open a perf event": "call(298, 0, 0, 0, 0, 0)",
    "use io_uring": "call(425, 1, 0)",
    "mount": "call(165, 0, 0, 0, 0, 0)",
    "enter a namespace": "call(308, 0, 0)",
    "make a namespace": "call(272, 0x10000000)",
    "load a module": "call(313, 0, 0, 0)",
}
CALL = """
def call(number, *args):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, *args) < 0:
        raise OSError(ctypes.get_errno(), '')
"""
ALLOWED = """
thread = threading.Thread(target=lambda: print(open('/proc/self/status').readline()))
thread.start(); thread.join()
print(os.listdir('/proc/self/fd') != [], socket.create_connection(('127.0.0.1', PORT)).getpeername()[0])
os.kill(os.getpid(), 0)
fd = os.pipe()[0]
os.set_blocking(fd, False), os.set_inheritable(os.dup(fd), True), os.get_inheritable(fd), os.fdopen(fd).close()
print(os.get_terminal_size.__name__, len(os.urandom(8)))
"""


def have_libseccomp() -> None:
    if subprocess.run([SYSTEM_PYTHON, "-c", "import seccomp"], capture_output=True, check=False).returncode:
        pytest.skip("needs libseccomp's module (Debian: python3-seccomp)")


def run(
    code: str, folder: Path, *, attaching: bool = False, unix_sockets: bool = False
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SYSTEM_PYTHON, "-c", ENTER.format(SOURCES, attaching, unix_sockets) + CALL + code],
        capture_output=True, text=True, cwd=folder, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip


@pytest.mark.skipif(
    sys.platform != "linux" or not Path("/lib64/ld-linux-x86-64.so.2").exists(), reason="numbers are x86_64's"
)
@pytest.mark.parametrize("attaching", [False, True], ids=["", "attaching"])
@pytest.mark.parametrize("what", FORBIDDEN)
def test_forbidden(what: str, attaching: bool, tmp_path: Path) -> None:
    have_libseccomp()
    (tmp_path / "there").write_text("x")
    code = f"try:\n    {FORBIDDEN[what]}\nexcept OSError as error:\n    print(error.errno)\nelse:\n    print('done')"
    allowed = attaching and what == "open a perf event"
    done = run(code, tmp_path, attaching=attaching)
    assert (done.stdout == "38\n") != allowed, done.stderr  # ENOSYS
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_what_attaches_opens_no_socket_and_reads_no_map(tmp_path: Path) -> None:
    have_libseccomp()
    for code in ("socket.socket()", "call(321, 1, 0, 0)"):
        done = run(f"try:\n    {code}\nexcept OSError as error:\n    print(error.errno)", tmp_path, attaching=True)
        assert done.stdout == "38\n", done.stderr


def test_what_a_tracer_does_is_allowed(tmp_path: Path) -> None:
    have_libseccomp()
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = run(ALLOWED.replace("PORT", str(server.getsockname()[1])), tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["Name:\tpython3", "", "True 127.0.0.1", "get_terminal_size 8"]


ESCAPES = {
    "own": "read, write = os.pipe(); F.fcntl(read, F.F_SETOWN, {pid}); F.fcntl(read, F.F_SETSIG, 9); "
    "F.fcntl(read, F.F_SETFL, F.fcntl(read, F.F_GETFL) | os.O_ASYNC); os.write(write, b'x')",
    "datagram": "socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b'x', {path!r})",
    "datagram, where Unix sockets are asked for": "socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'x', {path!r})",
}


@pytest.mark.parametrize("unix_sockets", [False, True])
@pytest.mark.parametrize("how", ESCAPES)
def test_no_other_process_is_signalled_or_told_anything(how: str, unix_sockets: bool, tmp_path: Path) -> None:
    """By what it owns: the victim lives, the daemon hears nothing."""
    have_libseccomp()
    path = str(tmp_path / "daemon")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon, subprocess.Popen(["sleep", "5"]) as victim:
        daemon.bind(path)
        code = ESCAPES[how].format(pid=victim.pid, path=path)
        done = run(
            f"try:\n    {code}\nexcept OSError as error:\n    print(error.errno)", tmp_path, unix_sockets=unix_sockets
        )
        assert victim.poll() is None, "it was killed"
        assert done.stdout == "38\n", done.stderr
        with pytest.raises(BlockingIOError):
            daemon.recv(1, socket.MSG_DONTWAIT)
        victim.kill()


def test_without_the_library_it_is_said_and_nothing_else(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ringspan import sandbox  # noqa: PLC0415

    monkeypatch.setitem(sys.modules, "seccomp", None)
    assert not sandbox.enter()
    assert "python3-seccomp is not installed" in caplog.text


def test_lockdown_is_recognised_by_what_the_verifier_says() -> None:
    from ringspan.probe.load import refused  # noqa: PLC0415

    assert "lockdown=confidentiality" in str(refused("on_follow", "unknown func bpf_probe_read_kernel#113"))
    assert "the kernel refuses the program on_follow: R1 invalid" in str(refused("on_follow", "R1 invalid"))
