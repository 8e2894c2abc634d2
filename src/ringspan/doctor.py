"""What kernel, privileges and libraries allow: each check with its answer, and a remedy for each no."""

from __future__ import annotations

import ctypes as ct
import os
import re
import sys
from dataclasses import dataclass, replace
from importlib import util
from pathlib import Path

from ringspan import pid_namespace, privileges
from ringspan.config import Settings
from ringspan.errors import CannotTrace
from ringspan.probe import btf, load
from ringspan.probe.btf import BTF_FILE

OLDEST_KERNEL = (5, 8)


@dataclass(frozen=True)
class Check:
    """One question; a fatal one must be yes for any capture."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    fatal: bool = True

    def line(self) -> str:
        """Print it."""
        mark = "ok" if self.ok else "NO" if self.fatal else "no"
        remedy = f"; {self.remedy}" if not self.ok and self.remedy else ""
        return f"{mark:3} {self.name}: {self.detail}{remedy}"


def _kernel() -> Check:
    release = os.uname().release
    match = re.match(r"(\d+)\.(\d+)", release)
    version = (int(match[1]), int(match[2])) if match else (0, 0)
    return Check("kernel", version >= OLDEST_KERNEL, release, "Linux 5.8 or later is needed (BPF ring buffer)")


def _architecture() -> Check:
    machine = os.uname().machine
    return Check("architecture", machine in ("x86_64", "aarch64"), machine, "x86_64 and aarch64 are supported")


def _btf() -> Check:
    there = BTF_FILE.exists()
    detail = str(BTF_FILE) if there else f"{BTF_FILE} is missing"
    return Check("kernel types (BTF)", there, detail, "run a kernel with CONFIG_DEBUG_INFO_BTF=y")


def _privileges() -> Check:
    lacking = privileges.missing(privileges.TO_TRACE)
    place = " of a user namespace" if privileges.in_user_namespace() else ""
    gone = "".join(f", {name} is missing ({one.purpose})" for name, one in lacking.items())
    detail = f"uid {os.geteuid()}{place}{gone}"
    return Check("privileges", not lacking, detail, f"run as root (sudo), or with {', '.join(privileges.TO_TRACE)}")


def _names() -> Check:
    lacking = privileges.missing(privileges.TO_NAME)
    detail = "; ".join(f"{name} is missing ({one.purpose})" for name, one in lacking.items())
    remedy = "their services are named by command line and unit alone"
    return Check("names of processes", not lacking, detail or "of all users", remedy, fatal=False)


def _processes() -> Check:
    foreign = pid_namespace.hidden_from() is not None
    detail = pid_namespace.COSTS if foreign else "the host's"
    return Check("pid namespace", not foreign, detail, pid_namespace.REMEDY, fatal=False)


def _sandbox() -> Check:
    lacking = [words for words, there in (
        ("python3-seccomp (no system call is forbidden)", util.find_spec("seccomp") is not None),
        ("libcap2 (all capabilities are kept)", privileges.available()),
    ) if not there]  # fmt: skip
    detail = f"not installed: {', '.join(lacking)}" if lacking else "capabilities dropped, system calls filtered"
    return Check("once attached", not lacking, detail, "apt-get install python3-seccomp libcap2", fatal=False)


def _lockdown() -> Check:
    try:
        text = Path("/sys/kernel/security/lockdown").read_text()
        mode = (re.search(r"\[(\w+)\]", text) or ["", "none"])[1]
    except OSError:
        mode = "unknown (securityfs not mounted)"
    return Check(
        "lockdown", mode != "confidentiality", mode, "lockdown=confidentiality forbids BPF to read kernel memory"
    )


def _bcc() -> Check:
    spec = util.find_spec("bcc")
    real = bool(spec and spec.origin and (Path(spec.origin).parent / "libbcc.py").exists())
    detail = spec.origin if spec and spec.origin else f"not importable by {sys.executable}"
    if spec and not real:
        detail = f"{detail} is not the BPF Compiler Collection"
    return Check("BCC", real, detail or "", "apt-get install python3-bpfcc, and a venv with --system-site-packages")


def _libbpf() -> Check:
    try:
        ct.CDLL("libbpf.so.1")
    except OSError as error:
        return Check("libbpf", False, str(error), "apt-get install libbpf1")
    return Check("libbpf", True, "libbpf.so.1")


def _tls() -> Check:
    """A kernel without BTF has been told of already."""
    if BTF_FILE.exists() and btf.has_uprobe_multi():
        return Check("HTTPS", True, "TLS libraries can be attached to", fatal=False)
    if not load.UPROBE_TYPE.exists():
        return Check("HTTPS", False, "the kernel has no uprobes", "run a kernel with CONFIG_UPROBES=y", fatal=False)
    lacking = privileges.missing(privileges.TO_ATTACH_BY_EVENTS)
    detail = "".join(f"{name} is missing ({one.purpose})" for name, one in lacking.items())
    return Check("HTTPS", not lacking, detail or "TLS libraries can be attached to", "run as root", fatal=False)


CHECKS = (_kernel, _architecture, _btf, _privileges, _names, _processes, _lockdown, _bcc, _libbpf, _sandbox)


def _guards() -> Check:
    lacking = privileges.missing(privileges.TO_GUARD)
    detail = "".join(f"{name} is missing ({one.purpose})" for name, one in lacking.items())
    remedy = "that is told just after"
    return Check("HTTPS, files of others", not lacking, detail or "guarded by leases", remedy, fatal=False)


def _memory(settings: Settings) -> Check:
    from ringspan.probe import memory  # noqa: PLC0415 - a start must not wait for numpy
    from ringspan.probe.settings import ProbeSettings  # noqa: PLC0415

    default = ProbeSettings(own_tgid=os.getpid())
    asked = replace(
        default,
        by_executable=bool(settings.exe),
        ring_bytes=settings.ring_bytes,
        connections=settings.connections,
        exchanges=settings.exchanges,
        follow_tls=settings.tls != "off",
        joins=settings.joins,
    )
    of_map = memory.locked(asked)
    largest = sorted(of_map.items(), key=lambda item: -item[1])[:3]
    named = ", ".join(f"{name} {size / 1e6:.1f}" for name, size in largest)
    total = sum(of_map.values()) / 1e6
    whose = "the default" if asked == default else "these"
    return Check("kernel memory", True, f"{total:.1f} MB are locked by {whose} settings ({named})", fatal=False)


def checks() -> list[Check]:
    """Run all checks."""
    return [check() for check in CHECKS]


def require() -> None:
    """Raise CannotTrace for the first check that rules tracing out."""
    for check in checks():
        if check.fatal and not check.ok:
            raise CannotTrace(f"cannot trace here: {check.name}: {check.detail}", check.remedy)


def _captures(*, possible: bool) -> list[str]:
    """Say of each capture whether it can be had, in the order in which `--capture auto` prefers them."""
    from ringspan.probe import attach, captures  # noqa: PLC0415 - a start must not wait for them

    lines = []
    for capture in captures.BY_WORD["auto"]:
        why = attach.obstacle(capture) if possible else "see above"
        mark = "ok " if not why else "no " if possible else "NO "
        lacks = "" if why else "; ".join(filter(None, [capture.unseen, attach.drawback(capture)]))
        answer = f"not available: {why}" if why else f"available; not seen by it: {lacks}"
        lines.append(f"{mark} capture {capture.name} ({capture.how}): {answer}")
    return lines


def _print_tls(settings: Settings) -> None:
    from ringspan.tls import report  # noqa: PLC0415 - a start must not wait for it
    from ringspan.tls.libraries import Wanted  # noqa: PLC0415

    for line in report.lines(Wanted(tuple(settings.tls_include), tuple(settings.tls_exclude)).resolved()):
        print(line)


def run(settings: Settings) -> int:
    """Print the report; returns 0 if tracing is possible, else 3."""
    done = [*checks(), _tls(), _guards(), _memory(settings)]
    for check in done:
        print(check.line())
    possible = all(check.ok for check in done if check.fatal)
    for line in _captures(possible=possible):
        print(line)
    _print_tls(settings)
    return 0 if possible else CannotTrace.exit_status
