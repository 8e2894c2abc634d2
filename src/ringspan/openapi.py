"""The paths of an OpenAPI (or Swagger 2) document; of YAML no more than these are built, so that size costs little."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from ringspan import trusted, values
from ringspan.errors import UsageError

FILE_MAX, PATHS_MAX, BASES_MAX, DOCUMENTS_MAX = 8 << 20, 5000, 8, 64
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # 20 times as fast, where it was built
VARIABLE = re.compile(r"\{[^{}]*\}")
URLS = (("servers", None, "url"), ("basePath",))
DEEPEST = max(map(len, URLS))


class Frame:
    """A mapping or list that is open: its last key, and whether the next thing is one."""

    def __init__(self, *, is_mapping: bool) -> None:
        self.key: str | None = None
        self._is_mapping = self._awaits_key = is_mapping

    def is_key(self) -> bool:
        """Take the next thing; returns whether it is a key."""
        was = self._awaits_key
        self._awaits_key = self._is_mapping and not was
        return was


def _scalars(events: Iterable[Any]) -> Iterator[tuple[tuple[str | None, ...], str]]:
    """Return the scalars near the top, each with the keys that lead there; a key itself has one more, empty."""
    frames: list[Frame] = []
    for event in events:
        if isinstance(event, yaml.CollectionEndEvent):
            frames.pop()
        elif isinstance(event, yaml.NodeEvent):
            is_key = bool(frames) and frames[-1].is_key()
            if isinstance(event, yaml.CollectionStartEvent):
                frames.append(Frame(is_mapping=isinstance(event, yaml.MappingStartEvent)))
            elif isinstance(event, yaml.ScalarEvent) and len(frames) <= DEEPEST:
                if is_key:
                    frames[-1].key = ""
                yield tuple(frame.key for frame in frames), event.value
                if is_key:
                    frames[-1].key = event.value


def _from_yaml(text: bytes) -> tuple[list[str], list[str]]:
    found: dict[str, None] = {}
    urls = []
    for place, value in _scalars(yaml.parse(text, LOADER)):
        if place == ("paths", ""):
            found[value] = None
        elif place in URLS:
            urls.append(value)
    return list(found), urls


def _from_json(text: bytes) -> tuple[list[str], list[str]] | None:
    """Read JSON; None if it is none: what begins like it may be YAML."""
    try:
        whole = json.loads(text)
    except ValueError:
        return None
    servers = whole.get("servers") or ([{"url": whole["basePath"]}] if "basePath" in whole else [])
    return list(whole["paths"]), [server["url"] for server in servers]


_known: dict[bytes, tuple[list[str], list[str]]] = {}


def _found(text: bytes) -> tuple[list[str], list[str]]:
    """Return a document's paths and its servers; known by its digest is what was read before."""
    digest = hashlib.sha256(text).digest()
    if digest not in _known:
        found = _from_json(text) or _from_yaml(text)
        if len(_known) >= DOCUMENTS_MAX:
            _known.clear()
        _known[digest] = found
    return _known[digest]


def paths(file: str, where: str) -> list[str]:
    """Return a document's paths as templates, below its servers' own; raises UsageError."""
    text = trusted.read(Path(file), FILE_MAX, f"{where}: {file}")
    try:
        found, urls = _found(text)
        bases = dict.fromkeys(map(_base, urls[:BASES_MAX])) or {"": None}
        found = [path for path in found if path.startswith("/")]
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"{where}: {file}: not an OpenAPI document in JSON or YAML") from error
    if not 0 < len(found) <= PATHS_MAX:
        raise UsageError(f"{where}: {file}: it has {values.shown(len(found))} paths, of 1 to {PATHS_MAX}")
    return [f"{base}{path}" for base in bases for path in found]


def _base(url: str) -> str:
    """Return the path of a server's URL, with its variables as parameters; the host's do not matter."""
    if "://" in url:
        authority, slash, path = url.partition("://")[2].partition("/")
        url = f"http://{VARIABLE.sub('v', authority)}{slash}{path}"
    return urlsplit(url).path.rstrip("/")
