"""The settings: default < file < flag, merged once; an unknown key is an error that names the nearest."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from ringspan import redact, trusted
from ringspan.errors import UsageError
from ringspan.printable import printable

URL = re.compile(r"https?://\S+", re.IGNORECASE)
LIST_MAX = 1024  # as many as the kernel's tables of them hold
FILE_MAX, DEPTH_MAX = 1 << 17, 16
SHOWN_MAX = 80
CHOICES = {
    "show": ("table", "lines", "json", "none"),
    "protocol": ("grpc", "http/protobuf"),
    "capture": ("auto", "tcp", "fentry", "kprobe", "syscall"),
    "role": ("server", "client", "both"),
    "tls": ("auto", "off"),
}


@dataclass(frozen=True)
class Settings:
    """What `ringspan trace` is asked to do; config/default.yaml explains each."""

    show: str | None = None
    interval: float = 2.0
    otlp: str | None = None
    protocol: str | None = None
    capture: str = "auto"
    role: str = "both"
    tls: str = "auto"
    tls_include: list[str] = field(default_factory=list)
    tls_exclude: list[str] = field(default_factory=list)
    pid: list[int] = field(default_factory=list)
    port: list[int] = field(default_factory=list)
    exe: list[str] = field(default_factory=list)
    duration: float | None = None
    user: str | None = None
    sandbox: bool = True
    ring_bytes: int = 16 << 20
    connections: int = 16384
    exchanges: int = 8192
    spans_per_second: float = 2000.0
    queue_spans: int = 65536
    queue_bytes: int = 32 << 20
    retry_s: float = 300.0
    series: int = 4096
    series_idle_s: float = 900.0
    body_sizes: bool = False
    active_requests: bool = False
    opt_in: list[str] = field(default_factory=list)


BOUNDS: dict[str, tuple[float, float, type[int | float]]] = {
    "interval": (0.1, 86400, float),
    "duration": (0.1, 1e9, float),
    "pid": (1, 1 << 22, int),
    "port": (1, 65535, int),
    "ring_bytes": (1 << 16, 1 << 30, int),
    "connections": (64, 1 << 20, int),
    "exchanges": (64, 1 << 20, int),
    "spans_per_second": (0, 1e9, float),
    "queue_spans": (1, 1 << 24, int),
    "queue_bytes": (1 << 16, 1 << 32, int),
    "retry_s": (0, 86400, float),
    "series": (1, 1 << 20, int),
    "series_idle_s": (1, 1e9, float),
}
OPT_IN = ("client.port", "network.local.address", "network.local.port", "url.scheme")
SWITCHES = ("sandbox", "body_sizes", "active_requests")


def _number(key: str, value: Any, where: str) -> Any:
    low, high, kind = BOUNDS[key]
    wrong_kind = isinstance(value, bool) or not isinstance(value, int if kind is int else (int, float))
    if wrong_kind or not low <= value <= high:
        raise UsageError(f"{where}: {key}: {shown(value)} is not a number from {low:g} to {high:g}")
    return kind(value)


def _is_name(text: str) -> bool:
    """Whether a text can name a file: no NUL, and no half of a surrogate pair, which YAML can spell."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _text(key: str, value: Any, where: str) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = shown(value)
    if not isinstance(value, str) or not value or not _is_name(value):
        raise UsageError(f"{where}: {key}: {shown(value)} is not a text")
    if key == "opt_in" and value not in OPT_IN:
        raise UsageError(f"{where}: {key}: {shown(value)} is not one of {', '.join(OPT_IN)}")
    return value


def _checked(key: str, value: Any, where: str) -> Any:
    if key in CHOICES and value is not None and value not in CHOICES[key]:
        raise UsageError(f"{where}: {key}: {shown(value)} is not one of {', '.join(CHOICES[key])}")
    if key in ("pid", "port", "exe", "tls_include", "tls_exclude", "opt_in"):
        values = [] if value is None else value if isinstance(value, list) else [value]
        if len(values) > LIST_MAX:
            raise UsageError(f"{where}: {key}: {len(values)} of them, {LIST_MAX} is the most")
        return [_number(key, v, where) if key in BOUNDS else _text(key, v, where) for v in values]
    if key in BOUNDS and value is not None:
        value = _number(key, value, where)
    if key in SWITCHES and value is not None and not isinstance(value, bool):
        raise UsageError(f"{where}: {key}: {shown(value)} is not true or false")
    if key == "ring_bytes" and value & (value - 1):
        raise UsageError(f"{where}: ring_bytes: {value} is not a power of two")
    if key == "user" and value is not None and not (isinstance(value, str) and value):
        raise UsageError(f"{where}: user: {value!r} is not a name")
    if key == "otlp" and value is not None and not (isinstance(value, str) and URL.match(value)):
        quoted = repr(redact.endpoint(value)) if isinstance(value, str) else shown(value)
        raise UsageError(f"{where}: otlp: {quoted} is not a URL", "for example http://127.0.0.1:4317")
    return value


class Loader(yaml.SafeLoader):
    """Plain values, lists and mappings of them: settings need no aliases, which a few lines turn into gigabytes."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose a node that is no alias, nor too deep."""
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases (*) are not taken")
        self.depth += 1
        if self.depth > DEPTH_MAX:
            raise yaml.YAMLError(f"more than {DEPTH_MAX} deep")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _loaded(path: Path) -> Any:
    try:
        return yaml.load(trusted.read(path, FILE_MAX, str(path)), Loader)  # noqa: S506 - a safe one
    except yaml.MarkedYAMLError as error:  # without its excerpt of the file: it may not be the user's to read
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise UsageError(f"{path}: not YAML: {where}{shown(error.problem, str)}") from error
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        raise UsageError(f"{path}: not YAML: {shown(' '.join(str(error).split()), str)}") from error


def shown(value: Any, form: Callable[[Any], str] = repr) -> str:
    """Print a value for an error message: one line, and short."""
    try:
        text = form(value)
    except ValueError:  # a number of thousands of digits
        text = f"a {type(value).__name__} too long to print"
    return printable(text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}...")


def read_file(path: Path) -> dict[str, Any]:
    """Read a YAML file of settings; raises UsageError that names file and key."""
    values = _loaded(path) or {}
    if not isinstance(values, dict):
        raise UsageError(f"{path}: not a mapping of settings")
    known = [f.name for f in fields(Settings)]
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(shown(key, str), known, 1)
            raise UsageError(
                f"{path}: unknown key {shown(key)}", f"did you mean {near[0]!r}?" if near else "see config/default.yaml"
            )
    return values


def merge(flags: dict[str, Any], file: Path | None) -> Settings:
    """Merge file and flags (those given) over the defaults; raises UsageError."""
    values = {key: _checked(key, value, str(file)) for key, value in (read_file(file) if file else {}).items()}
    for key, value in flags.items():
        if value is not None and value != []:
            values[key] = _checked(key, value, "command line")
    return Settings(**{key: value for key, value in values.items() if value is not None})
