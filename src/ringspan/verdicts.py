"""What rules decide of records: dropped, or how many of their traces are kept; by column, and once for like ones."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

import numpy as np

from ringspan import contract, fingerprints, target
from ringspan.model import rows
from ringspan.spans import TARGET_CUT, text

if TYPE_CHECKING:
    from ringspan.rules import Rule

Array = np.ndarray[Any, np.dtype[Any]]
SERVER = contract.number("ROLE_SERVER")
CONNECT_FAILURE = contract.number("RECORD_CONNECT_FAILURE")
KNOWN_MAX = 1 << 16


class Verdict(NamedTuple):
    """What becomes of like records: which rule drops them, if any, or the share of traces that is kept."""

    dropped_by: str | None = None
    share: float = 1.0


class Verdicts:
    """Judges batches; counts what it dropped by rule, exchanges and failed connects apart."""

    def __init__(self, rules: tuple[Rule, ...], deciding: Callable[[Any], tuple[Rule, ...]]) -> None:
        self._deciding = deciding
        self._mixer = fingerprints.Mixer()
        self._known: dict[int, int] = {}
        self._numbers: dict[Verdict, int] = {}
        self.dropped: dict[str, Counter[str]] = {"exchanges": Counter(), "connects": Counter()}
        self.set_rules(rules)

    def set_rules(self, rules: tuple[Rule, ...]) -> None:
        """Have other rules from now on; what was counted stays."""
        self._any = any(rule.decides for rule in rules)
        self._by_path = any(rule.decides and rule.path for rule in rules)
        self._numbers.clear()
        self.forget()

    def forget(self) -> None:
        """Forget who is who: exec changes it."""
        self._known.clear()

    def keep(self, batch: Array) -> tuple[Array, Array | None]:
        """Return what is not dropped, and of each the share of traces that is kept (None: of all, all)."""
        if not self._any or not len(batch):
            return batch, None
        verdicts = self._judge(batch)
        kept = self._keeps()[verdicts]
        self._count(batch[~kept], verdicts[~kept])
        return batch[kept], np.array([one.share for one in self._numbers])[verdicts[kept]]

    def undropped(self, batch: Array) -> Array:
        """Return what would not be dropped; nothing is counted."""
        if not self._any or not len(batch):
            return batch
        verdicts = self._judge(batch)
        return batch[self._keeps()[verdicts]]

    def _keeps(self) -> Array:
        return np.array([one.dropped_by is None for one in self._numbers])

    def _count(self, batch: Array, verdicts: Array) -> None:
        known = list(self._numbers)
        connects = batch["kind"] == CONNECT_FAILURE
        for what, which in (("exchanges", ~connects), ("connects", connects)):
            for number, count in zip(*np.unique(verdicts[which], return_counts=True), strict=True):
                self.dropped[what][known[number].dropped_by or ""] += int(count)

    def _judge(self, batch: Array) -> Array:
        """Return each record's verdict, by number."""
        hashes = self._mixer.mix(len(batch), self._telling(batch))
        each, first, of_record = np.unique(hashes, return_index=True, return_inverse=True)
        of_group = [self._number(one, batch, at) for one, at in zip(each.tolist(), first.tolist(), strict=True)]
        out: Array = np.array(of_group)[of_record]
        return out

    def _telling(self, batch: Array) -> Iterator[Array]:
        yield from fingerprints.processes(batch)
        yield fingerprints.server_ports(batch) | batch["kind"].astype(np.uint64) << np.uint64(16)
        if self._by_path:
            yield from fingerprints.paths(batch)

    def _number(self, group: int, batch: Array, at: int) -> int:
        known = self._known.get(group)
        if known is None:
            verdict = self._verdict(rows(batch[at : at + 1])[0])
            known = self._numbers.setdefault(verdict, len(self._numbers))
            if len(self._known) < KNOWN_MAX:
                self._known[group] = known
        return known

    def _verdict(self, row: Any) -> Verdict:
        """Judge one: of what several rules say of the same, the first holds, so that there can be exceptions."""
        is_server = row.role == SERVER
        at = ("server", row.local_port) if is_server else ("client", row.remote_port)
        path = None if row.kind == CONNECT_FAILURE else _path(row)
        found = [
            rule
            for rule in self._deciding(row)
            if rule.is_at(*at) and (not rule.path or (path is not None and rule.path.fullmatch(path)))
        ]
        dropping = next((rule for rule in found if rule.drop is not None), None)
        if dropping and dropping.drop:
            return Verdict(dropping.name)
        return Verdict(None, next((rule.share for rule in found if rule.share is not None), 1.0))


def _path(row: Any) -> str | None:
    """Return a path as a server takes it (RFC 3986 section 6.2.2): decoded, no dot segments; of a cut one, none."""
    cut = bool(row.truncated & TARGET_CUT)
    parts = target.split(text(row.target), text(row.method), cut=cut)
    if cut and not parts.query:
        return None
    decoded = unquote(parts.path)
    if not decoded.startswith("/"):
        return decoded
    plain = posixpath.normpath(f"/{decoded.lstrip('/')}")
    return f"{plain}/" if decoded.endswith("/") and plain != "/" else plain
