"""With how little ringspan runs, what it gives up, and what doctor says is missing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from peers.clients import run
from peers.plan import Call
from peers.servers import start

from .collector import free_port
from .kernel_objects import children
from .tracer import Ended, How, Tracer, trace

pytestmark = pytest.mark.root
ROOT = Path(__file__).parents[2]
UNIT = ROOT / "config/systemd/ringspan.service"
RINGSPAN = [sys.executable, "-m", "ringspan.cli"]
PERFMON, SYS_PTRACE, DAC_READ_SEARCH, LEASE = 1 << 38, 1 << 19, 1 << 2, 1 << 28
TO_TRACE, TO_NAME = "bpf,perfmon", "sys_ptrace,dac_read_search"
OTHER_USER = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
WITH_PATHS = os.environ | {"PYTHONPATH": str(ROOT / "src")}


def plus(names: str) -> str:
    return ",".join(f"+{name}" for name in names.split(","))


def ambient(names: str) -> list[str]:
    return [*OTHER_USER, f"--inh-caps={plus(names)}", f"--ambient-caps={plus(names)}"]


def threads(pid: int) -> list[dict[str, str]]:
    texts = [(task / "status").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    return [dict(re.findall(r"^(\w+):\t(\S+)", text, re.MULTILINE)) for text in texts]


@contextmanager
def named_server(port: int = 0) -> Iterator[Any]:
    with mock.patch.dict(os.environ, {"OTEL_SERVICE_NAME": "shop"}):
        starting = start("http.server", port)
        server = starting.__enter__()
    try:
        yield server
    finally:
        starting.__exit__(None, None, None)


def services(tracer: Tracer, server: Any) -> tuple[set[str], Ended]:
    run("curl", server.url, [Call("GET", "/api/users")])
    rows = [row for row in tracer.rows(expect=2) if row["kind"] == "server"]
    return {row["resource"]["service.name"] for row in rows}, tracer.stop()


@pytest.mark.parametrize(
    ("flags", "capabilities", "uid"),
    [([], SYS_PTRACE | DAC_READ_SEARCH, "0"), (["--user", "nobody"], 0, "65534")],
)
def test_what_is_given_up(flags: list[str], capabilities: int, uid: str) -> None:
    """In every thread, those of gRPC and numpy too."""
    with trace("--port", "1", "--otlp", "http://127.0.0.1:1", *flags) as tracer:
        time.sleep(1)
        found = threads(tracer.pid)
        assert len(found) > 3
        assert {int(one["CapPrm"], 16) for one in found} == {int(one["CapEff"], 16) for one in found} == {capabilities}
        assert {one["CapAmb"] for one in found} == {"0000000000000000"}
        assert {one["NoNewPrivs"] for one in found} == {"1"}
        assert {one["Seccomp"] for one in found} == {"2"}
        assert {one["Uid"] for one in found} == {uid}
        # not dumpable: also of its own user none can look
        assert Path(f"/proc/{tracer.pid}/environ").stat().st_uid == 0


def test_who_has_become_another_is_not_dumpable() -> None:
    """Whatever fs.suid_dumpable says: becoming who one is already leaves it as it was, dumpable."""
    code = (
        "import ctypes; from ringspan import privileges; privileges.become('root'); print(ctypes.CDLL(None).prctl(3))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"


def test_what_the_process_that_attaches_keeps() -> None:
    with trace("--tls", "auto", "--port", "1") as tracer:
        (attacher,) = children(tracer.pid, "ringspan.tls.attacher")
        (found,) = threads(attacher)
        assert int(found["CapPrm"], 16) == int(found["CapEff"], 16) == PERFMON | SYS_PTRACE | DAC_READ_SEARCH | LEASE
        assert (found["CapAmb"], found["NoNewPrivs"], found["Seccomp"]) == ("0000000000000000", "1", "2")


def test_as_another_user_all_is_seen_though_not_all_named() -> None:
    with named_server() as server, trace("--port", str(server.port), "--user", "nobody") as tracer:
        names, ended = services(tracer, server)
    assert names == {"threading_server"}  # from its command line: its environment is root's
    assert "exchanges: seen 2 = recorded 2" in ended.ledger


def test_as_another_user_what_exec_left_still_names() -> None:
    port = free_port()
    flags = ["--port", str(port), "--role", "server"]
    with trace(*flags, "--user", "nobody") as tracer, named_server(port) as server:
        run("curl", server.url, [Call("GET", "/api/users")])
        rows = tracer.rows(expect=1)
    assert {row["resource"]["service.name"] for row in rows} == {"shop"}


def test_with_four_capabilities_and_no_root() -> None:
    launcher = ambient(f"{TO_TRACE},{TO_NAME}")
    with named_server() as server, trace("--port", str(server.port), run=How(launcher)) as tracer:
        assert {int(one["CapPrm"], 16) for one in threads(tracer.pid)} == {SYS_PTRACE | DAC_READ_SEARCH}
        names, ended = services(tracer, server)
    assert names == {"shop"}
    assert "exchanges: seen 2 = recorded 2" in ended.ledger


def test_with_two_capabilities_all_is_seen() -> None:
    few = ["setpriv", "--inh-caps=-all", f"--bounding-set=-all,{plus(TO_TRACE)}"]
    with named_server() as server, trace("--port", str(server.port), run=How(few)) as tracer:
        assert {int(one["CapPrm"], 16) for one in threads(tracer.pid)} == {0}
        names, ended = services(tracer, server)
    assert names == {"threading_server"}
    assert "exchanges: seen 2 = recorded 2" in ended.ledger


def test_with_file_capabilities(tmp_path: Path) -> None:
    """A copy of the interpreter that has them, as `setcap` would make it."""
    interpreter = tmp_path / "bin/python3"
    subprocess.run(
        ["/usr/bin/python3", "-m", "venv", "--without-pip", "--copies", "--system-site-packages", tmp_path], check=True
    )
    names = ",".join(f"cap_{name}" for name in f"{TO_TRACE},{TO_NAME}".split(","))
    subprocess.run(["setcap", f"{names}=ep", interpreter.resolve()], check=True)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.is_relative_to("/tmp") and folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o055)
    site = next(Path(sys.prefix).glob("lib/python3*/site-packages"))
    with named_server() as server:
        flags = ["--port", str(server.port)]
        with trace(*flags, run=How(OTHER_USER, str(interpreter), [str(site)])) as tracer:
            assert {int(one["CapPrm"], 16) for one in threads(tracer.pid)} == {SYS_PTRACE | DAC_READ_SEARCH}
            names_seen, ended = services(tracer, server)
    assert names_seen == {"shop"}
    assert "exchanges: seen 2 = recorded 2" in ended.ledger


def test_as_its_systemd_unit_runs_it() -> None:
    launcher = ["/usr/bin/python3", str(Path(__file__).parent / "as_service.py"), str(UNIT)]
    with named_server() as server, trace("--port", str(server.port), run=How(launcher)) as tracer:
        assert {one["Seccomp_filters"] for one in threads(tracer.pid)} == {"2"}
        names, ended = services(tracer, server)
    assert names == {"shop"}
    assert "exchanges: seen 2 = recorded 2" in ended.ledger
    assert "WARNING" not in ended.ledger


def test_the_unit_is_well_formed_and_hardened(tmp_path: Path) -> None:
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/ringspan/bin/ringspan", "/bin/true"))
    verified = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", UNIT]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    score = float(re.search(r"exposure level for ringspan.service: ([\d.]+)", done.stdout)[1])
    assert score <= 2.4


@pytest.mark.parametrize(
    ("lacking", "said", "status"),
    [
        ("perfmon", "NO  privileges: uid 0, cap_perfmon is missing (to attach them", 3),
        ("bpf,perfmon", "cap_bpf is missing (to load BPF programs", 3),
        ("sys_ptrace", "no  names of processes: cap_sys_ptrace is missing", 0),
        ("dac_read_search", "cap_dac_read_search is missing", 0),
        ("lease", "no  HTTPS, files of others: cap_lease is missing (to be told before another user's file", 0),
    ],
)
def test_doctor_names_what_is_missing(lacking: str, said: str, status: int) -> None:
    gone = ",".join(f"-{name}" for name in [*lacking.split(","), "sys_admin"])
    few = ["setpriv", "--inh-caps=-all", f"--bounding-set={gone}"]
    done = subprocess.run([*few, *RINGSPAN, "doctor"], capture_output=True, text=True, env=WITH_PATHS, check=False)
    assert said in done.stdout
    assert done.returncode == status


@pytest.mark.parametrize("command", [["doctor"], ["trace", "--port", "1"]])
def test_the_root_of_a_user_namespace_is_none(command: list[str]) -> None:
    inside = ["unshare", "--user", "--map-root-user", *RINGSPAN, *command]
    done = subprocess.run(inside, capture_output=True, text=True, env=WITH_PATHS, check=False, timeout=60)
    assert "uid 0 of a user namespace, cap_bpf is missing" in done.stdout + done.stderr
    assert done.returncode == 3


@pytest.mark.parametrize(
    ("launcher", "user", "said"),
    [
        ([], "nosuchuser", "there is no such user"),
        (ambient(TO_TRACE + "," + TO_NAME), "daemon", "cannot become another user"),
    ],
)
def test_a_user_it_cannot_be_is_a_users_mistake(launcher: list[str], user: str, said: str) -> None:
    command = [*launcher, *RINGSPAN, "trace", "--port", "1", "--user", user]
    done = subprocess.run(command, capture_output=True, text=True, env=WITH_PATHS, check=False)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
