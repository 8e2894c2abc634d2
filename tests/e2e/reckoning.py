"""What ringspan reported, beside what servers logged and a collector got: by the tag that each request has."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from peers.access_log import LoggedRequest

TAG = re.compile(r"[?&]t=([-\w]+)$")
PART = re.compile(r"([a-z][a-zA-Z0-9 ()/:-]*?) (\d+)(?: \+ |$| \(off)")
FULL = "times a connection was not followed (table full)"


class Seen(NamedTuple):
    """One end of an exchange as it was reported: status 0 where there was none."""

    method: str
    target: str
    status: int
    error: str


@dataclass
class Reported:
    """All rows, by role and tag."""

    ends: dict[str, dict[str, list[Seen]]] = field(default_factory=lambda: {"server": {}, "client": {}})
    span_ids: set[str] = field(default_factory=set)
    rows: int = 0

    @classmethod
    def read(cls, path: Path) -> Reported:
        out = cls()
        with path.open() as file:
            for line in file:
                out._add(json.loads(line))
        return out

    def _add(self, row: dict) -> None:
        self.rows += 1
        self.span_ids.add(row["span_id"])
        attributes = row["attributes"]
        if row["name"] == "tcp connect":
            return
        if row["kind"] == "client":
            url = urlsplit(attributes["url.full"])
            target = f"{url.path}?{url.query}"
        else:
            target = f"{attributes['url.path']}?{attributes.get('url.query', '')}"
        tag = TAG.search(target)
        if tag:
            status = attributes.get("http.response.status_code", 0)
            error = attributes.get("error.type", "")
            one = Seen(attributes["http.request.method"], target, status, "" if error == str(status) else error)
            self.ends[row["kind"]].setdefault(tag[1], []).append(one)


def by_tag(logged: Iterable[LoggedRequest]) -> dict[str, list[LoggedRequest]]:
    out: dict[str, list[LoggedRequest]] = defaultdict(list)
    for one in logged:
        tag = TAG.search(one.target)
        if tag:
            out[tag[1]].append(one)
    return dict(out)


def differing(reported: Reported, logged: dict[str, list[LoggedRequest]]) -> list[tuple[Seen, list[LoggedRequest]]]:
    """Ends with a status whose request the server logged otherwise: the method, the target or the status."""
    return [
        (end, logged[tag])
        for ends in reported.ends.values()
        for tag, some in ends.items()
        for end in some
        if end.status and tag in logged
        and (end.method, end.target, end.status) not in {(one.method, one.target, one.status) for one in logged[tag]}
    ]  # fmt: skip


def surplus(reported: Reported, logged: dict[str, list[LoggedRequest]]) -> list[tuple[str, list[Seen]]]:
    """Requests that ended well on the server's side more often than the server logged them."""
    ends = reported.ends["server"]
    whole = {tag: [end for end in some if not end.error] for tag, some in ends.items()}
    return [(tag, some) for tag, some in whole.items() if len(some) > len(logged.get(tag, []))]


def missing(reported: Reported, logged: dict[str, list[LoggedRequest]]) -> dict[str, int]:
    """How many requests that a server logged were not reported, by the end that is missing."""
    return {
        role: sum(max(0, len(lines) - len(ends.get(tag, []))) for tag, lines in logged.items())
        for role, ends in reported.ends.items()
    }


def parts(ledger: str, account: str) -> dict[str, int]:
    """One equation: its total's name and its parts', with their numbers."""
    line = next(line for line in ledger.splitlines() if line.startswith(f"ledger {account}: "))
    return {name: int(count) for name, count in PART.findall(line.partition(": ")[2].replace(" = ", " + "))}


def not_followed(ledger: str, words: str) -> int:
    found = re.search(rf"(\d+) {re.escape(words)}", ledger)
    return int(found[1]) if found else 0


def total(of: dict[str, int], prefix: str) -> int:
    return sum(count for name, count in of.items() if name.startswith(prefix))


def twice(ids: Counter[str]) -> int:
    """How many spans came again, because the first acknowledgement was lost."""
    return sum(ids.values()) - len(ids)
