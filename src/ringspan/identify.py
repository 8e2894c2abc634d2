"""Who: a service name for each process, looked up once while it lives."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

from ringspan.model import Identity

UNIT = re.compile(r"/([^/]+)\.service(?:/|$)")
NOT_A_SERVICE = re.compile(r"user@\d+|session-|init\.scope")
INTERPRETER = re.compile(r"(python|perl|ruby|node|nodejs|php|bash|sh|dash|deno|bun)[\d.]*$")
RECHECK_S = 1.0
CACHE_MAX = 8192


def _environment(root: Path) -> dict[str, str]:
    raw = (root / "environ").read_bytes().decode(errors="replace")
    return dict(pair.split("=", 1) for pair in raw.split("\0") if "=" in pair)


def _from_environment(root: Path) -> str | None:
    """OTEL_SERVICE_NAME, else service.name in OTEL_RESOURCE_ATTRIBUTES, as the SDKs do."""
    environment = _environment(root)
    if environment.get("OTEL_SERVICE_NAME"):
        return environment["OTEL_SERVICE_NAME"]
    pairs = (pair.partition("=") for pair in environment.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","))
    return next((value.strip() for key, _, value in pairs if key.strip() == "service.name" and value.strip()), None)


def _from_unit(root: Path) -> str | None:
    units = UNIT.findall((root / "cgroup").read_text())
    return next((unit for unit in reversed(units) if not NOT_A_SERVICE.search(unit)), None)


def _from_command_line(root: Path) -> str | None:
    """The script or module an interpreter runs, or a Java program's jar or main class."""
    words = (root / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
    program = Path(words[0]).name
    if program == "java":
        return _java_name(words[1:])
    if not INTERPRETER.match(program):
        return None
    for i, word in enumerate(words[1:], start=1):
        if word == "-m" and i + 1 < len(words):
            return words[i + 1]
        if word in ("-c", "-e"):
            return None
        if not word.startswith("-"):
            return Path(word).stem if "." in Path(word).name else Path(word).name
    return None


def _java_name(words: list[str]) -> str | None:
    takes_value = {
        "-cp",
        "-classpath",
        "--class-path",
        "-p",
        "--module-path",
        "--add-opens",
        "--add-exports",
        "--add-modules",
    }
    following = iter(words)
    for word in following:
        if word == "-jar":
            return Path(next(following, "java")).stem
        if word in takes_value:
            next(following, None)
        elif not word.startswith("-"):
            return word.rsplit(".", 1)[-1].rsplit("/", 1)[-1]
    return None


def _first_name(root: Path, executable: str) -> str:
    for source in (_from_environment, _from_unit, _from_command_line):
        try:
            name = source(root)
        except (OSError, ValueError):
            continue
        if name:
            return name
    return Path(executable).name


def _stamp(root: Path) -> bytes:
    """Tell a process, and what it has made of itself by exec: field 22 of stat, and the command line."""
    return (root / "stat").read_bytes().rsplit(b")", 1)[1].split()[19] + (root / "cmdline").read_bytes()


class Identifier:
    """Answers who a row belongs to; keeps one answer per process."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._known: dict[int, tuple[bytes, float, Identity]] = {}

    def __call__(self, row: Any) -> Identity:
        """Return the identity of a row's process; that of one gone already is its thread's name."""
        known = self._known.get(row.tgid)
        now = time.monotonic()
        if known and now - known[1] < RECHECK_S:
            return known[2]
        root = self._proc / str(row.tgid)
        try:
            stamp = _stamp(root)
            identity = known[2] if known and known[0] == stamp else self._look_up(root)
        except (OSError, IndexError):
            if known:  # it was here when its earlier records came
                return known[2]
            return Identity(row.comm.decode(errors="backslashreplace"))
        if len(self._known) >= CACHE_MAX:
            self._known.clear()
        self._known[row.tgid] = (stamp, now, identity)
        return identity

    @staticmethod
    def _look_up(root: Path) -> Identity:
        executable = os.readlink(root / "exe").removesuffix(" (deleted)")  # noqa: PTH115
        return Identity(_first_name(root, executable), executable)
