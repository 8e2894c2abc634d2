"""ringspan's own metrics: the ledger, and what it costs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ringspan.ledger import Account, Ledger

FALLING = ("TLS connections (each end)",)  # one that is not followed may be, later
OUTCOME, REASON = "ringspan.outcome", "ringspan.reason"
Attributes = tuple[tuple[str, str], ...]
STATM = Path("/proc/self/statm")


class Reading(NamedTuple):
    """A number at one moment: a monotonic sum, or one that also falls."""

    name: str
    unit: str
    description: str
    monotonic: bool
    attributes: Attributes
    value: float


@dataclass(frozen=True)
class Cost:
    """What ringspan has cost so far; in-kernel time only where kernel.bpf_stats_enabled is on."""

    user_s: float
    system_s: float
    resident_bytes: int
    kernel_ns: int

    @classmethod
    def now(cls, kernel_ns: int) -> Cost:
        """Measure this process."""
        times = os.times()
        pages = int(STATM.read_text(encoding="ascii").split()[1])
        return cls(times.user, times.system, pages * os.sysconf("SC_PAGESIZE"), kernel_ns)


def _outcomes(account: Account) -> list[tuple[Attributes, int]]:
    """Take `lost (ring full)` apart: outcome and reason."""
    out: list[tuple[Attributes, int]] = []
    for part, count in account.parts.items():
        outcome, _, reason = part.partition(" (")
        named = ((REASON, reason.rstrip(")")),) if reason else ()
        out.append((((OUTCOME, outcome), *named), count))
    return out


def ledger_readings(ledger: Ledger) -> list[Reading]:
    """Return the accounts of exchanges, failed connects and spans; what is on its way is no outcome yet."""
    out = []
    for account in ledger.accounts:
        what, unit = {
            "exchanges": ("ringspan.exchanges", "{exchange}"),
            "failed connects": ("ringspan.connects", "{connect}"),
            "spans": ("ringspan.spans", "{span}"),
            "TLS connections (each end)": ("ringspan.tls.connections", "{connection}"),
        }.get(account.name, ("", ""))
        for attributes, count in _outcomes(account) if what else ():
            outcome = attributes[0][1]
            if outcome in ("in flight", "queued", "exported"):
                name = f"{what}.{outcome.replace(' ', '_')}"
                out.append(Reading(name, unit, f"{account.name}: {outcome}".capitalize(), False, (), count))
            else:
                monotonic = account.name not in FALLING
                out.append(Reading(what, unit, f"What became of {account.name}.", monotonic, attributes, count))
    return out


def cost_readings(cost: Cost) -> list[Reading]:
    """Return CPU, memory and in-kernel time."""
    cpu = ("process.cpu.time", "s", "Total CPU seconds broken down by different states.", True)
    out = [
        Reading(*cpu, (("cpu.mode", "user"),), cost.user_s),
        Reading(*cpu, (("cpu.mode", "system"),), cost.system_s),
        Reading("process.memory.usage", "By", "The amount of physical memory in use.", False, (), cost.resident_bytes),
    ]
    if cost.kernel_ns:
        seconds = cost.kernel_ns / 1e9
        out.append(Reading("ringspan.kernel.time", "s", "Time spent in BPF programs.", True, (), seconds))
    return out


def route_readings(routes: int, overflowed: int) -> list[Reading]:
    """Return how many routes there are, and how many records found no room for theirs."""
    return [
        Reading("ringspan.routes", "{route}", "Routes of HTTP servers.", False, (), routes),
        Reading("ringspan.routes.overflowed", "{record}", "Records whose route found no room.", True, (), overflowed),
    ]


def series_readings(series: int, overflowed: int) -> list[Reading]:
    """Return how many series there are, and how many records found none."""
    return [
        Reading("ringspan.series", "{series}", "Series of HTTP metrics.", False, (), series),
        Reading("ringspan.series.overflowed", "{record}", "Records that found no series.", True, (), overflowed),
    ]
