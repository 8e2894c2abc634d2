"""The settings: default < file < flag, merged once; an unknown key is an error that names the nearest."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from ringspan import networks, redact, redaction, routes, rules, trusted, values
from ringspan.errors import UsageError
from ringspan.values import shown

URL = re.compile(r"https?://\S+", re.IGNORECASE)
LIST_MAX = 1024  # as many as the kernel's tables of them hold
FILE_MAX, DEPTH_MAX = 1 << 17, 16
CHOICES = {
    "show": ("table", "lines", "json", "none"),
    "protocol": ("grpc", "http/protobuf"),
    "capture": ("auto", "tcp", "fentry", "kprobe", "syscall"),
    "role": ("server", "client", "both"),
    "tls": ("auto", "off"),
    "client_from": networks.SOURCES,
    "opt_in": ("client.port", "network.local.address", "network.local.port", "url.scheme"),
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
    tls: str = "off"
    tls_include: list[str] = field(default_factory=list)
    tls_exclude: list[str] = field(default_factory=list)
    pid: list[int] = field(default_factory=list)
    port: list[int] = field(default_factory=list)
    exe: list[str] = field(default_factory=list)
    duration: float | None = None
    user: str | None = None
    sandbox: bool = True
    joins: bool = True
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
    trusted_proxies: list[str] = field(default_factory=list)
    client_from: str = "x-forwarded-for"
    rules: list[Any] = field(default_factory=list)  # as given: ringspan.rules compiles them
    routes: list[Any] = field(default_factory=list)  # as given: ringspan.routes compiles them
    learn_routes: bool = False
    routes_max: int = 200
    container_runtime: str | None = None
    kubelet: str | None = None
    kubelet_token: str | None = None
    kubelet_ca: str | None = None
    redact_keys: list[str] = field(default_factory=list)
    redact_except: list[str] = field(default_factory=list)
    redact_paths: list[str] = field(default_factory=list)


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
    "routes_max": (1, 1 << 14, int),
}
NESTED: dict[str, Callable[[list[Any], str], object]] = {
    "rules": rules.parse,
    "routes": routes.parse,
    "redact_keys": redaction.names,
    "redact_except": redaction.names,
    "redact_paths": redaction.masks,
}
LISTS = ("pid", "port", "exe", "tls_include", "tls_exclude", "opt_in", "trusted_proxies")
URLS = {"otlp": "http://127.0.0.1:4317", "kubelet": "https://127.0.0.1:10250"}
SWITCHES = ("sandbox", "joins", "body_sizes", "active_requests", "learn_routes")


def _checked(key: str, value: Any, where: str) -> Any:
    at = f"{where}: {key}"
    if key in NESTED:
        found = values.sequence(value, LIST_MAX, at)
        NESTED[key](found, at)
        return found
    if key in LISTS:
        return [_one(key, one, at) for one in values.sequence(value, LIST_MAX, at)]
    return None if value is None else _one(key, value, at)


def _one(key: str, value: Any, at: str) -> Any:
    if key in CHOICES:
        return values.choice(value, CHOICES[key], at)
    if key in SWITCHES:
        return values.switch(value, at)
    if key in BOUNDS:
        return _number(key, value, at)
    if key in URLS:
        return _url(key, value, at)
    if key == "trusted_proxies":
        return networks.network(value, at)
    if key == "user" and not (isinstance(value, str) and value):
        raise UsageError(f"{at}: {value!r} is not a name")
    return values.text(value, at)


def _number(key: str, value: Any, at: str) -> Any:
    value = values.number(value, BOUNDS[key], at)
    if key == "ring_bytes" and value & (value - 1):
        raise UsageError(f"{at}: {value} is not a power of two")
    return value


def _url(key: str, value: Any, at: str) -> str:
    if not (isinstance(value, str) and URL.match(value)):
        quoted = repr(redact.endpoint(value)) if isinstance(value, str) else f"a {type(value).__name__}"
        raise UsageError(f"{at}: {quoted} is not a URL", f"for example {URLS[key]}")
    return value


class Loader(yaml.SafeLoader):
    """Plain values, lists and mappings of them: settings need no aliases, which a few lines turn into gigabytes.

    Of plain scalars only those of YAML 1.2's core schema (10.3.2) are not text, and no octal or hexadecimal numbers:
    0012, 1:30, off and 2026-01-01 are what is written. A key that stands twice is a mistake.
    """

    depth = 0
    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Make a mapping."""
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise yaml.YAMLError(f"{twice} stands twice")
        return super().construct_mapping(node, deep)

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


for tag, plain, first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
):
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"(?:{plain})\\Z"), list(first))


def _loaded(path: Path) -> Any:
    try:
        return yaml.load(trusted.read(path, FILE_MAX, str(path)), Loader)  # noqa: S506 - a safe one
    except yaml.MarkedYAMLError as error:  # without its excerpt of the file: it may not be the user's to read
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise UsageError(f"{path}: not YAML: {where}{shown(error.problem, str)}") from error
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError, OverflowError) as error:
        raise UsageError(f"{path}: not YAML: {shown(' '.join(str(error).split()), str)}") from error


def read_file(path: Path) -> dict[str, Any]:
    """Read a YAML file of settings; raises UsageError that names file and key."""
    found = _loaded(path)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise UsageError(f"{path}: not a mapping of settings")
    return values.mapping(found, (f.name for f in fields(Settings)), str(path))


def merge(flags: dict[str, Any], file: Path | None) -> Settings:
    """Merge file and flags (those given) over the defaults; raises UsageError."""
    found = {key: _checked(key, value, str(file)) for key, value in (read_file(file) if file else {}).items()}
    found |= {key: _checked(key, value, "command line") for key, value in given(flags).items()}
    for key in URLS.keys() & given(flags).keys():
        if redact.setting(found[key]) != found[key]:
            raise UsageError(
                f"command line: {key}: everyone can read secrets there (ps)", "put it into a --config file"
            )
    return Settings(**{key: value for key, value in found.items() if value is not None})


def given(flags: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that a command line gives."""
    return {key: value for key, value in flags.items() if value is not None and value != []}
