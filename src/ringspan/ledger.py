"""The ledger: what came in, what went on, and what did not, by reason. One equation for each kind of thing."""

from __future__ import annotations

from dataclasses import dataclass, field

LOST = "lost_"
LEFT = "lost (no time left at the end)"
UNKNOWN = "lost (executable unknown)"  # --exe: its process was gone before it could be judged
UNSEEN = {
    "unseen_http2": "HTTP/2 connections (each end)",
    "unseen_32bit_calls": "calls of 32-bit processes",
    "tls_unplaced": "HTTPS sessions (each end) whose port is not known (--port)",
    "tls_late": "HTTPS sessions (each end) taken up after they had begun",
    "unseen_io_uring": "connections that io_uring moves (--capture tcp sees them)",
    "unpaired_responses": "responses to no request seen",
    "desync_unreadable": "times bytes could not be read",
    "desync_overrun": "times a call held more than can be followed",
    "desync_invalid": "times a message broke off",
    "desync_overlap": "times two calls overlapped",
    "desync_unseen": "times bytes moved that no call showed",
    "desync_no_place": "times an answer's request had found no place",
    "unfollowed_bytes": "bytes of HTTP that passed out of sync (how many requests is not known)",
    "connections_table_full": "times a connection was not followed (table full)",
    "tls_files_refused": "times a file with a TLS library was not followed (too many files)",
    "tls_files_changed": "times a file with a TLS library was let go of, to be changed",
    "tls_held_full": "times a TLS session was not followed (one process has very many)",
    "connections_evicted": "connections given up (table full)",
    "calls_table_full": "calls not followed (table full)",
    "connects_table_full": "connects not followed (table full)",
    "readers_table_full": "reads not followed safely (table full)",
    "own_table_full": "own connections not told apart (table full)",
    "processes_lost_ring_full": "processes whose names may be missed (ring full)",
    "processes_unplaced": "processes whose container or unit may be missed (control group not found)",
    "joins_table_full": "times a parent was not looked for (table full)",
    "missed_runs": "program runs the kernel skipped",
    "seconds_off": "seconds in which nothing was seen (ftrace or kprobes were switched off)",
    "missed_returns": "returns of functions not seen (too many threads in one, or skipped runs)",
}
# Of caches that were full: what was dropped is made anew where it can be.
LET_GO = {
    "processes": "processes' names",
    "cgroups": "cgroups' names",
    "descriptions": "descriptions of spans",
    "resources": "resources",
    "first_ends": "exchanges awaited from their other end",
    "verdicts": "times all verdicts on executables",
    "routes": "records without room for their route",
    "learners": "services' learned routes",
    "series": "records without a series of their own",
}


@dataclass(frozen=True)
class Account:
    """One equation: total = the sum of the parts, when it closes."""

    name: str
    total_name: str
    total: int
    parts: dict[str, int]
    beside: str = ""  # what is known and is no part of it

    @property
    def gap(self) -> int:
        """How much the equation is off; 0 once everything is accounted for."""
        return self.total - sum(self.parts.values())

    def line(self) -> str:
        """Print it: zero losses are left out."""
        shown = [
            f"{key} {value}" for key, value in self.parts.items() if value or not key.startswith(("lost", "failed"))
        ]
        wrong = f" (off by {self.gap})" if self.gap else ""
        beside = f" ({self.beside})" if self.beside else ""
        return f"{self.name}: {self.total_name} {self.total} = {' + '.join(shown)}{wrong}{beside}"


@dataclass
class SpanCounts:
    """The fate of spans on their way out."""

    unsampled: dict[str, int] = field(default_factory=dict)
    queued: int = 0
    exported: int = 0  # sent, not yet acknowledged
    acknowledged: int = 0
    failed: dict[str, int] = field(default_factory=dict)

    def fail(self, reason: str, count: int) -> None:
        """Count spans that will never arrive."""
        self.failed[reason] = self.failed.get(reason, 0) + count


@dataclass
class ReportCounts:
    """The fate of reports of metrics, and of the data points of those that were sent."""

    made: int = 0
    arrived: int = 0
    in_part: int = 0
    under_way: int = 0  # waiting, or being sent
    superseded: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    points: int = 0
    points_acknowledged: int = 0
    points_under_way: int = 0
    points_failed: dict[str, int] = field(default_factory=dict)

    def fail(self, reason: str, count: int) -> None:
        """Count reports that did not arrive as a whole."""
        if count:
            self.failed[reason] = self.failed.get(reason, 0) + count

    def fail_points(self, reason: str, count: int) -> None:
        """Count data points that did not arrive."""
        if count:
            self.points_failed[reason] = self.points_failed.get(reason, 0) + count


@dataclass(frozen=True)
class Ledger:
    """A snapshot of all accounts."""

    accounts: list[Account]
    unseen: dict[str, int]
    let_go: dict[str, int] = field(default_factory=dict)

    @property
    def lost(self) -> int:
        """How many exchanges and connects were lost."""
        return sum(v for a in self.accounts[:2] for k, v in a.parts.items() if k.startswith("lost"))

    @property
    def closes(self) -> bool:
        """Whether every equation holds."""
        return not any(account.gap for account in self.accounts)

    def lines(self) -> list[str]:
        """Print it, one line an equation, then what was seen to pass but not followed."""
        out = [f"ledger {account.line()}" for account in self.accounts]
        seen = [f"{self.unseen[key]} {words}" for key, words in UNSEEN.items() if self.unseen.get(key)]
        out.append(f"ledger not followed: {', '.join(seen) or 'nothing'}")
        gone = [f"{self.let_go[key]} {words}" for key, words in LET_GO.items() if self.let_go.get(key)]
        return [*out, f"ledger let go (full): {', '.join(gone)}"] if gone else out


@dataclass(frozen=True)
class Here:
    """What became of records that were put into the ring, before they were counted as recorded."""

    filtered: int = 0
    unknown: int = 0  # whether they were asked for
    left: int = 0  # in the ring at the end
    by_rule: dict[str, int] = field(default_factory=dict)

    @property
    def all(self) -> int:
        """How many there were."""
        return self.filtered + self.unknown + self.left + sum(self.by_rule.values())

    def parts(self) -> dict[str, int]:
        """Return what rules dropped, by rule."""
        return {f"filtered (rule {name})": count for name, count in sorted(self.by_rule.items())}


def exchange_account(kernel: dict[str, int], in_flight: int, swept: int, here: Here) -> Account:
    """Seen = recorded + in flight + filtered + lost[reason]."""
    lost = {
        f"lost ({key.removeprefix(LOST).replace('_', ' ')})": v for key, v in kernel.items() if key.startswith(LOST)
    }
    parts = {
        "recorded": kernel["recorded"] + swept - here.all,
        "in flight": in_flight,
        "filtered": kernel["filtered"] + here.filtered,
        **here.parts(),
    }
    return Account("exchanges", "seen", kernel["seen"], parts | lost | {UNKNOWN: here.unknown, LEFT: here.left})


def connect_account(kernel: dict[str, int], here: Here) -> Account:
    """Failed connects: seen = recorded + filtered + lost."""
    prefix = "connect_failures_"
    parts = {
        "recorded": kernel[f"{prefix}recorded"] - here.all,
        "filtered": kernel[f"{prefix}filtered"] + here.filtered,
        **here.parts(),
        "lost (ring full)": kernel[f"{prefix}lost_ring_full"],
        UNKNOWN: here.unknown,
        LEFT: here.left,
    }
    return Account("failed connects", "seen", kernel[f"{prefix}seen"], parts)


def tls_account(kernel: dict[str, int]) -> Account:
    """TLS connections, each end: seen = shown + without plain text + in memory or not followed.

    Of a session in memory the connection is not known, nor whether it is among those seen: their number stands beside.
    """
    seen, adopted, shown = (kernel[f"tls_{name}"] for name in ("connections", "adopted", "shown"))
    parts = {
        "shown": shown,
        "without plain text": adopted - shown,
        "in memory or not followed": seen - adopted,
    }
    in_memory = f"sessions in memory: {kernel['tls_in_memory']}"
    return Account("TLS connections (each end)", "seen", seen, parts, in_memory)


def span_account(recorded: int, spans: SpanCounts) -> Account:
    """Recorded = unsampled + queued + exported (not yet acknowledged) + acknowledged + failed[reason]."""
    parts = {
        "unsampled": 0,
        **{f"unsampled ({reason})": count for reason, count in spans.unsampled.items() if count},
        "queued": spans.queued,
        "exported": spans.exported,
        "acknowledged": spans.acknowledged,
    }
    return Account("spans", "recorded", recorded, parts | {f"failed ({k})": v for k, v in spans.failed.items()})


def metric_account(recorded: int, counted: int) -> Account:
    """Recorded = counted."""
    return Account("metrics", "recorded", recorded, {"counted": counted})


def report_account(reports: ReportCounts) -> Account:
    """Reports of metrics: made = arrived + on their way + failed[reason] + superseded (by a later one, while waiting).

    One of which the receiver rejected data points has arrived in part.
    """
    parts = {
        "arrived": reports.arrived,
        **({"arrived (in part)": reports.in_part} if reports.in_part else {}),
        "on their way": reports.under_way,
        **{f"failed ({reason})": count for reason, count in reports.failed.items()},
        "superseded": reports.superseded,
    }
    return Account("reports", "made", reports.made, parts)


def point_account(reports: ReportCounts) -> Account:
    """Data points of the reports that were sent: sent = acknowledged + on their way + failed[reason]."""
    parts = {
        "acknowledged": reports.points_acknowledged,
        "on their way": reports.points_under_way,
        **{f"failed ({reason})": count for reason, count in reports.points_failed.items()},
    }
    return Account("data points", "sent", reports.points, parts)


def row_account(recorded: int, written: int, dropped: int) -> Account:
    """Recorded = written + lost, of the rows of JSON."""
    return Account("rows", "recorded", recorded, {"written": written, "lost (output not read)": dropped})
