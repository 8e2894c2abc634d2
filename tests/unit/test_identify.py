"""Who: the order of sources, on a made-up /proc."""

from __future__ import annotations

import os
import platform
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ringspan import contract, resource
from ringspan.cgroups import Cgroups
from ringspan.identify import CACHE_MAX, Identifier
from ringspan.model import Identity
from ringspan.naming import Who
from ringspan.rules import Rule

from . import rows

ID, POD = "0a" * 32, "5a1c9f3e-0b2d-4c6e-8f10-123456789abc"
STAT = "77 (a b) S " + " ".join(["0"] * 18) + " 4242 " + " ".join(["0"] * 24) + " 48 1 0"
IMAGE = 1 ^ 48 << 16


def row(**changes: Any) -> Any:
    return rows.row(**{"image": IMAGE} | changes)


def process(
    proc: Path, cmdline: str, environ: str = "", cgroup: str = "0::/\n", exe: str | bytes = "/usr/bin/app"
) -> None:
    """Process 77 of a made-up /proc, which runs IMAGE."""
    root = proc / "77"
    root.mkdir()
    (root / "stat").write_text(STAT)
    (root / "cmdline").write_text(cmdline.replace(" ", "\0") + "\0")
    (root / "environ").write_text(environ)
    (root / "cgroup").write_text(cgroup)
    os.symlink(os.fsencode(exe), os.fsencode(root / "exe"))  # noqa: PTH211 - Path knows no bytes


@pytest.mark.parametrize(
    ("cmdline", "environ", "cgroup", "want"),
    [
        ("app", "OTEL_SERVICE_NAME=shop\0", "0::/system.slice/other.service\n", "shop"),
        ("app", "OTEL_RESOURCE_ATTRIBUTES=a=b,service.name=cart\0", "0::/\n", "cart"),
        ("app", "", "0::/system.slice/nginx.service\n", "nginx"),
        ("app", "", "0::/user.slice/user-0.slice/user@0.service/init.scope\n", "app"),
        ("python3 -u server.py", "", "0::/\n", "server"),
        ("/venv/bin/python /venv/bin/gunicorn app:app", "", "0::/\n", "gunicorn"),
        ("python3 -m http.server 80", "", "0::/\n", "http.server"),
        ("python3 -c pass", "", "0::/\n", "python3"),
        ("java -Xmx1g -cp a:b com.example.Main arg", "", "0::/\n", "Main"),
        ("java -jar /opt/shop-1.2.jar", "", "0::/\n", "shop-1.2"),
        ("node /srv/web/index.js", "", "0::/\n", "index"),
        ("node -r ./pre.js app.js", "", "0::/\n", "app"),
        ("node --import ./pre.mjs --inspect app.js", "", "0::/\n", "app"),
        ("python3 -W ignore -X dev job.py", "", "0::/\n", "job"),
        ("python3 -E job.py -c x", "", "0::/\n", "job"),
        ("bash -e /opt/run.sh", "", "0::/\n", "run"),
        ("bash -c curl", "", "0::/\n", "bash"),
        ("java C.java", "", "0::/\n", "C"),
        ("java -m com.example/com.example.Main", "", "0::/\n", "Main"),
        ("java --add-opens a/b=c -Dx=y com.example.Shop", "", "0::/\n", "Shop"),
        ("deno run --allow-net server.ts", "", "0::/\n", "server"),
        (
            "app",
            "",
            f"0::/system.slice/containerd.service/kubepods-pod{POD.replace('-', '_')}.slice:cri-containerd:{ID}",
            "app",
        ),
        ("app", "", f"0::/user.slice/user@1000.service/app.slice/web.service/libpod-payload-{ID}", "web"),
        ("app", "", "4:memory:/\n1:name=systemd:/system.slice/nginx.service\n0::/\n", "nginx"),
    ],
)
def test_the_first_source_that_knows_wins(tmp_path: Path, cmdline: str, environ: str, cgroup: str, want: str) -> None:
    process(tmp_path, cmdline, environ, cgroup, f"/usr/bin/{Path(cmdline.split(maxsplit=1)[0]).name}")
    assert Identifier(tmp_path)(row()).service_name == want


def test_a_process_that_is_gone_has_its_threads_name(tmp_path: Path) -> None:
    assert Identifier(tmp_path)(row()).service_name == "tester"


def attributes_of(proc: Path) -> dict[str, str]:
    return resource.attributes(Identifier(proc)(row()))


def test_a_container_is_in_the_resource(tmp_path: Path) -> None:
    scope = f"kubepods-pod{POD.replace('-', '_')}.slice/cri-containerd-{ID}.scope"
    process(tmp_path, "app", cgroup=f"0::/kubepods.slice/{scope}\n")
    found = attributes_of(tmp_path)
    assert {key: found[key] for key in ("container.id", "container.runtime.name", "k8s.pod.uid")} == {
        "container.id": ID, "container.runtime.name": "containerd", "k8s.pod.uid": POD,
    }  # fmt: skip
    assert "ringspan.systemd.unit" not in found


def test_each_container_is_an_instance(tmp_path: Path) -> None:
    process(tmp_path, "app", cgroup=f"0::/docker/{ID}\n")
    first = attributes_of(tmp_path)["service.instance.id"]
    assert attributes_of(tmp_path)["service.instance.id"] == first
    (tmp_path / "77/cgroup").write_text(f"0::/docker/{'e' * 64}\n")
    assert attributes_of(tmp_path)["service.instance.id"] != first


def test_what_a_process_declares_is_in_its_resource_but_what_is_seen_wins(tmp_path: Path) -> None:
    said = "service.namespace=shop,service.version=1%2E2,deployment.environment.name=prod,container.id=mine,host.name=x,a=b"
    process(tmp_path, "app", f"OTEL_RESOURCE_ATTRIBUTES={said}\0", f"0::/docker/{ID}\n")
    assert Identifier(tmp_path)(row()).attributes == (
        ("container.id", ID), ("container.runtime.name", "docker"), ("deployment.environment.name", "prod"),
        ("service.namespace", "shop"), ("service.version", "1.2"),
    )  # fmt: skip


def test_what_a_process_declares_is_bounded(tmp_path: Path) -> None:
    many = ",".join(f"k8s.{i}={'v' * 1000}" for i in range(100))
    process(tmp_path, "app", f"OTEL_RESOURCE_ATTRIBUTES={many},k8s.{'x' * 200}=y\0")
    found = Identifier(tmp_path)(row()).attributes
    assert (len(found), {len(value) for _, value in found}) == (16, {255})


def test_host_and_system_are_in_every_resource(tmp_path: Path) -> None:
    process(tmp_path, "app")
    found = attributes_of(tmp_path)
    assert found["host.name"] == os.uname().nodename
    assert found["host.arch"] == {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    assert (found["os.type"], found["os.name"]) == ("linux", platform.freedesktop_os_release()["NAME"])
    assert set(found) >= {"os.version", "os.description", "service.instance.id"}
    assert {key: resource.own_attributes()[key] for key in found if key[:3] in ("hos", "os.")} == {
        key: value for key, value in found.items() if key[:3] in ("hos", "os.")
    }


START_NS = 42_420_000_000  # 4242 ticks of 10 ms


def birth(
    arguments: bytes,
    environment: bytes = b"",
    filename: bytes = b"/bin/app",
    start_ns: int = START_NS,
    image: int = IMAGE,
) -> Any:
    born = np.zeros(1, contract.BIRTH)
    born[0]["arguments"], born[0]["arguments_bytes"] = arguments, len(arguments)
    born[0]["environment"], born[0]["environment_bytes"] = environment, len(environment)
    born[0]["filename"], born[0]["tgid"], born[0]["process_start_ns"] = filename, 77, start_ns
    born[0]["image"] = image
    return born


def test_a_process_that_is_gone_is_named_by_what_exec_left(tmp_path: Path) -> None:
    identify = Identifier(tmp_path)
    identify.born(birth(b"app\0", b"A=b\0OTEL_SERVICE_NAME=shop\0"))
    assert identify(row(process_start_ns=START_NS)).service_name == "shop"
    identify.born(birth(b"python3\0/srv/job.py\0", filename=b"/usr/bin/python3"))
    assert identify(row(process_start_ns=START_NS)).service_name == "job"


def test_a_process_that_is_gone_has_its_units_name(tmp_path: Path) -> None:
    unit = tmp_path / "cgroup/system.slice/shop.service"
    unit.mkdir(parents=True)
    (tmp_path / "cgroup/cgroup.controllers").write_text("cpu\n")
    born = birth(b"curl\0")
    born[0]["cgroup"] = unit.stat().st_ino
    identify = Identifier(tmp_path)
    identify._cgroups = Cgroups((tmp_path / "cgroup",))
    identify.born(born)
    assert identify(row(process_start_ns=START_NS)).service_name == "shop"


CHILD = {"tgid": 78, "process_start_ns": START_NS + 10**9, "parent_tgid": 77, "parent_start_ns": START_NS}


def test_a_forked_process_that_is_gone_has_its_parents_name(tmp_path: Path) -> None:
    process(tmp_path, "tester", "OTEL_SERVICE_NAME=shop\0")
    assert Identifier(tmp_path)(row(**CHILD, comm=b"worker-1")).service_name == "shop"
    for other in ({"parent_start_ns": START_NS - 10**9}, {"image": IMAGE + 1}):  # a pid's next; who adopts orphans
        assert Identifier(tmp_path)(row(**{**CHILD, **other})).service_name == "tester"
    identify = Identifier(tmp_path)
    identify(row(process_start_ns=START_NS, executed=1))
    (tmp_path / "77/stat").unlink()
    assert identify(row(**CHILD)).service_name == "shop"


def test_a_forked_process_has_the_name_of_who_was_executed_though_both_are_gone(tmp_path: Path) -> None:
    """... and though its parent is a process that was only forked too, or by now another that adopts orphans."""
    identify = Identifier(tmp_path)
    identify.born(birth(b"app\0", b"OTEL_SERVICE_NAME=shop\0"))
    orphan = CHILD | {"parent_tgid": 1, "parent_start_ns": 0}
    for child in (CHILD, CHILD | {"parent_tgid": 79, "parent_start_ns": START_NS + 1}, orphan):
        assert identify(row(**child, comm=b"worker-1")).service_name == "shop"
        assert identify(row(**child, image=IMAGE + 1)).service_name == "tester"
        assert identify(row(**child, executed=1)).service_name == "tester"


def test_of_two_that_exec_has_laid_out_alike_a_child_is_its_parents(tmp_path: Path) -> None:
    identify = Identifier(tmp_path)
    identify.born(birth(b"app\0", b"OTEL_SERVICE_NAME=shop\0"))
    identify.born(birth(b"app\0", b"OTEL_SERVICE_NAME=cart\0", start_ns=START_NS + 1))
    assert identify(row(**CHILD)).service_name == "shop"


def test_what_exec_told_wins_over_what_a_process_has_written_over_it(tmp_path: Path) -> None:
    process(tmp_path, "gunicorn: worker [shop]", "ker [shop]", f"0::/docker/{ID}\n", "/usr/bin/python3.11")
    identify = Identifier(tmp_path)
    identify.born(birth(b"python3\0-m\0shop\0", b"OTEL_RESOURCE_ATTRIBUTES=service.namespace=web\0"))
    found = identify(row(process_start_ns=START_NS))
    assert (found.service_name, found.executable) == ("shop", "/usr/bin/python3.11")
    assert {("service.namespace", "web"), ("container.id", ID)} <= set(found.attributes)
    forked = Identifier(tmp_path)
    born = birth(b"python3\0-m\0shop\0")
    born[0]["tgid"] = 76
    forked.born(born)
    assert forked(row(process_start_ns=START_NS, parent_tgid=76)).service_name == "shop"


def test_where_what_exec_told_was_cut_proc_counts_unless_it_is_written_over(tmp_path: Path) -> None:
    words = b"python3\0-W\0" + b"x" * 2000
    for shown, want in ((words + b"\0shop.py\0", "shop"), (b"title", "python3")):
        (tmp_path / want).mkdir()
        process(tmp_path / want, "", exe="/usr/bin/python3")
        (tmp_path / want / "77/cmdline").write_bytes(shown)
        identify = Identifier(tmp_path / want)
        identify.born(birth(words[: contract.number("ARGUMENTS_MAX")], b"A=b\0"))
        assert identify(row(process_start_ns=START_NS)).service_name == want


def test_a_variable_that_was_cut_is_not_believed(tmp_path: Path) -> None:
    environment = (b"A=" + b"x" * 8192)[: 8192 - 20] + b"\0OTEL_SERVICE_NAME=s"
    identify = Identifier(tmp_path)
    identify.born(birth(b"app\0", environment))
    assert identify(row(process_start_ns=START_NS)).service_name == "app"


def test_what_a_process_was_is_not_told_of_an_exec_that_was_lost(tmp_path: Path) -> None:
    identify = Identifier(tmp_path)
    identify.born(birth(b"app\0", b"OTEL_SERVICE_NAME=shop\0"))
    assert identify(row(process_start_ns=START_NS, executed=1, image=IMAGE + 1)).service_name == "tester"


def test_the_executable_tells_an_interpreter(tmp_path: Path) -> None:
    for executable, want in (("/x/alpha", "alpha"), ("/bin/busybox", "45205")):
        (tmp_path / want).mkdir()
        process(tmp_path / want, "sh 45205", exe=executable)
        assert Identifier(tmp_path / want)(row()).service_name == want
        gone = Identifier(tmp_path)
        gone.born(birth(b"sh\x0045205\0", filename=executable.encode()))
        assert gone(row(process_start_ns=START_NS)).service_name == want


def test_a_process_whose_birth_was_lost_does_not_have_its_parents_name(tmp_path: Path) -> None:
    process(tmp_path, "tester", "OTEL_SERVICE_NAME=shop\0")
    identify = Identifier(tmp_path)
    identify(row(process_start_ns=START_NS))
    assert identify(row(**CHILD, executed=1, comm=b"curl")).service_name == "curl"


def test_a_group_is_found_while_its_folder_is_there_and_what_is_not_found_is_counted(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").touch()
    identify = Identifier(tmp_path)
    identify._cgroups = Cgroups((tmp_path,))
    for number in range(5):
        container = tmp_path / f"docker-{number}{ID[1:]}.scope"
        container.mkdir()
        born = birth(b"app\0", start_ns=START_NS + number)
        born[0]["cgroup"] = container.stat().st_ino if number != 3 else 1 << 40
        identify.born(born)
        place = dict(identify(row(process_start_ns=START_NS + number)).attributes)
        assert place.get("container.id") == (f"{number}{ID[1:]}" if number != 3 else None)
        assert identify(row(process_start_ns=START_NS + number)).service_name == "app"
    assert identify.unplaced == 1


def test_listing_groups_takes_a_bounded_share_of_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def takes_a_second() -> None:
        nonlocal now
        now += 1

    monkeypatch.setattr("ringspan.cgroups.time.monotonic", lambda: now)
    groups = Cgroups((tmp_path,))
    monkeypatch.setattr(groups, "_list", takes_a_second)
    for wait, want in ((0, 1), (0, 1), (5.9, 6.9), (0.2, 8.1)):  # a tenth of the time, once three tenths are made up
        now += wait
        groups.path(1 << 40 | int(now * 10))
        assert now == pytest.approx(want)


def test_paths_of_groups_are_bounded_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringspan.cgroups.BYTES_MAX", 10_000)
    (tmp_path / "cgroup.controllers").touch()
    groups = Cgroups((tmp_path,))
    made = [tmp_path / f"{i:03}{'g' * 197}" for i in range(100)]
    for one in made:
        one.mkdir()
    for one in (*made, *made):
        groups.look({one.stat().st_ino})
    assert sum(map(len, groups._paths.values())) <= 10_000
    assert groups.forgotten >= 50


def test_what_exec_left_of_another_process_in_the_buffer_is_not_read(tmp_path: Path) -> None:
    born = birth(b"app\0", b"A=b\0OTEL_SERVICE_NAME=stale\0")
    born[0]["environment_bytes"] = 4
    born[0]["filename"] = b"/bin/app\0longer/before"
    identify = Identifier(tmp_path)
    identify.born(born)
    found = identify(row(process_start_ns=START_NS))
    assert (found.service_name, found.executable) == ("app", "/bin/app")


def test_a_reused_pid_is_another_process(tmp_path: Path) -> None:
    process(tmp_path, "new")
    identify = Identifier(tmp_path)
    assert identify(row(process_start_ns=START_NS)).service_name == "app"  # it is the one in /proc
    old = {"process_start_ns": START_NS - 10_000_000, "image": IMAGE + 1}
    assert identify(row(**old)).service_name == "tester"  # gone, and nothing is known
    identify.born(birth(b"old\0", b"OTEL_SERVICE_NAME=old\0", start_ns=START_NS - 10_000_000, image=IMAGE + 1))
    assert identify(row(**old)).service_name == "old"
    assert identify(row(process_start_ns=START_NS)).service_name == "app"


def test_a_pid_that_went_to_another_within_a_tick_of_the_clock(tmp_path: Path) -> None:
    """/proc tells starts apart by ticks of 10 ms: of two in one tick it shows the later."""
    process(tmp_path, "later")
    identify = Identifier(tmp_path)
    for name, start_ns in ((b"earlier", START_NS + 1000), (b"later", START_NS + 2000)):
        identify.born(birth(name + b"\0", b"OTEL_SERVICE_NAME=" + name + b"\0", start_ns=start_ns))
    earlier, later = (identify(row(process_start_ns=START_NS + after)) for after in (1000, 2000))
    assert (earlier.service_name, earlier.executable) == ("earlier", "/bin/app")
    assert (later.service_name, later.executable) == ("later", "/usr/bin/app")  # the one in /proc


def test_what_is_known_of_births_is_bounded(tmp_path: Path) -> None:
    identify = Identifier(tmp_path)
    for i in range(CACHE_MAX + 10):
        identify.born(birth(b"app\0", start_ns=i))
    assert len(identify._born) == CACHE_MAX
    assert len(identify._newest) == 1


def crowd(proc: Path, count: int, length: int) -> list[Any]:
    """Make processes of so many bytes of arguments and of attributes; returns a row of each."""
    for pid in range(100, 100 + count):
        process(proc, "app " + "a" * length, f"OTEL_RESOURCE_ATTRIBUTES=k8s.pid={pid},x={'b' * length}\0")
        (proc / "77").rename(proc / str(pid))
    return [row(tgid=pid, image=pid) for pid in range(100, 100 + count)]


def test_of_long_arguments_and_variables_nothing_is_kept(tmp_path: Path) -> None:
    rows_of = crowd(tmp_path, 100, 60_000)
    identify = Identifier(tmp_path)
    identify(rows_of[0])
    tracemalloc.start()
    found = [identify(one).attributes for one in rows_of]
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == [(("k8s.pid", str(one.tgid)),) for one in rows_of]
    assert kept < 100 * 4_000


def test_what_processes_say_of_themselves_is_bounded_and_what_is_let_go_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ringspan.identify.BYTES_MAX", 100_000)
    identify = Identifier(tmp_path)
    for i in range(100):
        identify.born(birth(b"app\0", b"OTEL_SERVICE_NAME=" + b"n" * 8_000 + b"\0", start_ns=i, image=i + 1))
    assert identify._born.size < 100_000 and identify._images.size < 100_000
    assert identify.let_go["processes"] == 100 - len(identify._born) == 100 - len(identify._images)
    assert 11 <= len(identify._born) <= 12
    for one in crowd(tmp_path, 300, 0):
        (tmp_path / str(one.tgid) / "environ").write_text("OTEL_SERVICE_NAME=" + "n" * 8_000 + "\0")
        assert identify(one).service_name == "n" * 255
    assert identify._known.size < 100_000
    assert identify.let_go["processes"] == 400 - len(identify._born) - len(identify._known)


def test_a_process_that_asks_on_many_ports_is_one_for_rules_that_name_none() -> None:
    naming = Rule("all", attributes=(("service.name", "shop"),))
    one_port = Rule("one", ports=frozenset({80}), attributes=(("service.name", "web"),))
    who = Who(Identity("app"), (one_port, naming))
    assert {who.at("client", port).service_name for port in range(1000, 2000)} == {"shop"}
    assert who.at("client", 80).service_name == "web"
    assert len(who._named) == 2


def test_a_path_that_is_not_text_is_escaped(tmp_path: Path) -> None:
    process(tmp_path, "app", exe=b"/tmp/d\xff/curl")
    found = Identifier(tmp_path)(row())
    assert (found.service_name, found.executable) == ("curl", "/tmp/d\\xff/curl")
    assert resource.attributes(found)["process.executable.path"] == "/tmp/d\\xff/curl"
    assert resource.attributes(found)["process.executable.name"] == "curl"


def test_names_are_bounded_and_decoded(tmp_path: Path) -> None:
    process(tmp_path, "app", "OTEL_RESOURCE_ATTRIBUTES=service.name=my%20shop\0")
    assert Identifier(tmp_path)(row()).service_name == "my shop"
    (tmp_path / "77/environ").write_text("OTEL_SERVICE_NAME=" + "x" * 100_000)
    assert Identifier(tmp_path)(row()).service_name == "x" * 255


def test_a_folder_that_is_not_text_can_be_a_name(tmp_path: Path) -> None:
    """One name that cannot be sent would fail a whole report of metrics, for good."""
    (tmp_path / "cgroup.controllers").touch()
    folder = os.fsencode(tmp_path) + b"/a\xffb.service"
    os.mkdir(folder)  # noqa: PTH102 - Path knows no bytes
    born = birth(b"app")
    born[0]["cgroup"] = os.stat(folder).st_ino  # noqa: PTH116
    identify = Identifier(tmp_path)
    identify._cgroups = Cgroups((tmp_path,))
    identify.born(born)
    assert identify(row(process_start_ns=START_NS)).service_name == "a?b"


def test_a_name_that_is_not_text_can_be_an_executable(tmp_path: Path) -> None:
    identify = Identifier(tmp_path)
    identify.born(birth(b"", filename=b"/srv/\xff"))
    assert identify(row(process_start_ns=START_NS)).executable == "/srv/\ufffd"


@pytest.mark.parametrize(
    "filename",
    ["/proc/self/exe", "//proc/./self/exe", "/proc/thread-self/exe", "/dev/fd/2", "/dev/fd/3/app", "/dev/stdin"],
)
def test_what_a_name_means_in_a_process_that_is_gone_is_not_known(tmp_path: Path, filename: str) -> None:
    identify = Identifier(tmp_path)
    identify.born(birth(b"/opt/wget\0-q\0http://u:hunter2@h\0", filename=filename.encode()))
    found = identify(row(process_start_ns=START_NS))
    assert (found.service_name, found.executable) == ("wget", None)
    assert not any(name.startswith("process.executable") for name in resource.attributes(found))


def test_links_are_not_followed_as_they_are_here(tmp_path: Path) -> None:
    (tmp_path / "app").symlink_to("/usr/bin/other")
    identify = Identifier(tmp_path)
    identify.born(birth(b"app\0", filename=os.fsencode(tmp_path / "app")))
    assert identify(row(process_start_ns=START_NS)).executable == str(tmp_path / "app")


# --- exec -----------------------------------------------------------------------------------------

LATER_NS = {"process_start_ns": START_NS, "start_ktime_ns": 2_000}
SOONER_NS = LATER_NS | {"start_ktime_ns": 1_000}


def executed(arguments: bytes, filename: bytes, environment: bytes = b"", at_ns: int = 1_500) -> Any:
    born = birth(arguments, environment, filename)
    born[0]["ktime_ns"] = at_ns
    return born


def becomes(proc: Path, cmdline: str, environ: str = "", exe: str = "/opt/shop") -> None:
    shutil.rmtree(proc / "77")
    process(proc, cmdline, environ, exe=exe)


def test_exec_makes_another_of_a_process_at_once(tmp_path: Path) -> None:
    process(tmp_path, "python3 launcher.py", exe="/usr/bin/python3")
    identify = Identifier(tmp_path)
    assert identify(row(**SOONER_NS)).service_name == "launcher"
    identify.born(executed(b"/opt/shop\0", b"/opt/shop"))
    becomes(tmp_path, "/opt/shop")
    assert identify(row(**LATER_NS)).service_name == "shop"
    assert identify(row(**SOONER_NS)).service_name == "launcher"  # its record came late
    identify.born(executed(b"/opt/last\0", b"/opt/last", at_ns=3_000))
    shutil.rmtree(tmp_path / "77")
    assert identify(row(**LATER_NS | {"start_ktime_ns": 4_000})).service_name == "last"
    assert identify(row(**LATER_NS)).service_name == "shop"


def test_what_was_before_an_exec_that_is_all_that_is_known_is_named_by_its_thread(tmp_path: Path) -> None:
    process(tmp_path, "/opt/shop", exe="/opt/shop")
    identify = Identifier(tmp_path)
    identify.born(executed(b"/opt/shop\0", b"/opt/shop"))
    assert identify(row(**SOONER_NS, executed=1, comm=b"launcher")).service_name == "launcher"
    assert identify(row(**LATER_NS, executed=1)).service_name == "shop"


def test_of_two_execs_the_former_is_named_by_what_it_left(tmp_path: Path) -> None:
    identify = Identifier(tmp_path)
    identify.born(executed(b"python3\0launcher.py\0", b"/usr/bin/python3", at_ns=500))
    identify.born(executed(b"/opt/shop\0", b"/opt/shop"))
    assert identify(row(**SOONER_NS)).service_name == "launcher"
    assert identify(row(**LATER_NS)).service_name == "shop"


def test_a_child_of_what_a_process_was_has_that_ones_name(tmp_path: Path) -> None:
    process(tmp_path, "python3 launcher.py", exe="/usr/bin/python3")
    identify = Identifier(tmp_path)
    identify(row(**SOONER_NS))
    born = executed(b"/opt/shop\0", b"/opt/shop")
    born[0]["image"] = IMAGE + 1
    identify.born(born)
    child = {"tgid": 78, "process_start_ns": START_NS + 1, "parent_tgid": 77, "parent_start_ns": START_NS}
    assert identify(row(**child, start_ktime_ns=1_000)).service_name == "launcher"


def test_the_same_words_in_another_environment_are_another_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ringspan.identify.RECHECK_S", 0)
    process(tmp_path, "python3 app.py", exe="/usr/bin/python3")
    identify = Identifier(tmp_path)
    assert identify(row(**SOONER_NS)).service_name == "app"
    becomes(tmp_path, "python3 app.py", "OTEL_SERVICE_NAME=shop\0", "/usr/bin/python3")
    assert identify(row(**SOONER_NS)).service_name == "shop"
    becomes(tmp_path, "python3 app.py", "", "/opt/python3")
    assert identify(row(**SOONER_NS)).executable == "/opt/python3"


def test_a_process_without_any_name_has_one(tmp_path: Path) -> None:
    assert Identifier(tmp_path)(row(comm=b"")).service_name == "unknown_service"
