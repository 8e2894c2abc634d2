"""Which exchanges become spans: the SDK's samplers by name, then a budget that keeps errors and slow requests first.

Metrics count every exchange; this only decides about spans, by column.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from ringspan import contract, trace_context
from ringspan.errors import UsageError

Array = np.ndarray[Any, np.dtype[Any]]
SERVER = contract.number("ROLE_SERVER")
SAMPLED = contract.number("SAMPLING_YES")
NAMES = ("always_on", "always_off", "traceidratio")
DEFAULT = "parentbased_always_on"
BURST_S, BURST_MIN = 5.0, 10.0  # so much of the budget may be saved up, in seconds, in spans at least
ERRORS_ONLY, SLOW_ONLY = 0.05, 0.2  # of the burst: kept back for errors, for errors and slow requests
SLOW_RATIO = 4.0  # slow: so many times the mean of its like


@dataclass(frozen=True)
class Rule:
    """OTEL_TRACES_SAMPLER and its argument: the share of traces kept, by trace id."""

    ratio: float
    parent_based: bool


def rule_from_environment() -> Rule:
    """Read OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG; raises UsageError."""
    name = os.environ.get("OTEL_TRACES_SAMPLER", "").strip().lower() or DEFAULT
    parent_based = name.startswith("parentbased_")
    kind = name.removeprefix("parentbased_")
    if kind not in NAMES:
        known = ", ".join([*NAMES, *(f"parentbased_{one}" for one in NAMES)])
        raise UsageError(f"OTEL_TRACES_SAMPLER: {name!r} is not one of {known}")
    if kind != "traceidratio":
        return Rule(float(kind == "always_on"), parent_based)
    argument = os.environ.get("OTEL_TRACES_SAMPLER_ARG") or "1.0"
    try:
        ratio = float(argument)
    except ValueError:
        ratio = -1.0
    if not 0 <= ratio <= 1:
        raise UsageError(f"OTEL_TRACES_SAMPLER_ARG: {argument!r} is not a number from 0 to 1")
    return Rule(ratio, parent_based)


def _parents(batch: Array) -> tuple[Array, Array, Array]:
    """Return the low halves of trace ids, which records have a parent that says so, and whose parent is sampled.

    A parent that is a span of ours decides as its own trace id does; one above it that a traceparent names is known.
    """
    trace_ids = batch["trace_id_low"].copy()
    has_parent, sampled = batch["sampling"] != 0, batch["sampling"] == SAMPLED
    for i in np.flatnonzero(batch["traceparent_bytes"]):
        parent = trace_context.parse(batch["traceparent"][i].decode(errors="replace").strip())
        if parent:
            has_parent[i], sampled[i] = True, parent.sampled
            trace_ids[i] = parent.trace_id & (1 << 64) - 1
    return trace_ids, has_parent, sampled


class Sampler:
    """Decides about batches; `unsampled` counts what it left out, by reason."""

    def __init__(self, rule: Rule, spans_per_second: float) -> None:
        self._rule = rule
        self.set_rate(spans_per_second)
        self._tokens = self._burst
        self._last = 0.0
        self.unsampled = {"sampler": 0, "budget": 0}

    def set_rate(self, spans_per_second: float) -> None:
        """Have another budget from now on."""
        self._rate = spans_per_second
        self._burst = max(BURST_MIN, spans_per_second * BURST_S)

    def keep(self, batch: Array, slowness: Array, now: float, shares: Array | None = None) -> Array:
        """Return which records become spans.

        Slowness is each one's duration over the mean of its like; shares are what rules leave of its traces.
        """
        trace_ids, has_parent, sampled = _parents(batch)
        kept = _by_ratio(trace_ids, self._rule.ratio)
        if self._rule.parent_based:
            kept = np.where(has_parent, sampled, kept)
        self.unsampled["sampler"] += len(batch) - int(kept.sum())
        if shares is not None:
            ruled_out = kept & ~_by_shares(trace_ids, shares)
            if ruled_out.any():
                self.unsampled["rule"] = self.unsampled.get("rule", 0) + int(ruled_out.sum())
            kept &= ~ruled_out
        if self._rate:
            within = self._within_budget(batch[kept], slowness[kept], trace_ids[kept], now)
            self.unsampled["budget"] += len(within) - int(within.sum())
            kept[np.flatnonzero(kept)[~within]] = False
        return kept

    def _within_budget(self, batch: Array, slowness: Array, trace_ids: Array, now: float) -> Array:
        """Spend tokens on errors, then on slow requests, then on the rest: of these, whole traces, by their ids."""
        self._tokens = min(self._burst, self._tokens + self._rate * max(0.0, now - self._last))
        self._last = now
        if len(batch) <= self._tokens - self._burst * SLOW_ONLY:
            self._tokens -= len(batch)
            return np.ones(len(batch), bool)
        errors = (batch["failure"] != 0) | (batch["status"] >= np.where(batch["role"] == SERVER, 500, 400))
        slow = ~errors & (slowness >= SLOW_RATIO)
        within = np.zeros(len(batch), bool)
        floors = ((errors, 0.0), (slow, ERRORS_ONLY), (~errors & ~slow, SLOW_ONLY))
        for which, floor in floors:
            room = max(0, int(self._tokens - self._burst * floor))
            wanted = np.flatnonzero(which)
            chosen = wanted[np.argsort(trace_ids[wanted], kind="stable")[:room]]
            within[chosen] = True
            self._tokens -= len(chosen)
        return within


def _by_shares(trace_ids: Array, shares: Array) -> Array:
    """Do the same with a share for each."""
    bounds = np.minimum(shares * float(1 << 64), float((1 << 64) - 2048)).astype(np.uint64)  # the largest double below
    kept: Array = (shares >= 1) | (trace_ids < bounds)
    return kept


def _by_ratio(trace_ids: Array, ratio: float) -> Array:
    """Whether a root span is sampled: TraceIdRatioBased's rule, so that all tools agree on a trace."""
    if ratio >= 1:
        return np.ones(len(trace_ids), bool)
    kept: Array = trace_ids < np.uint64(round(ratio * (1 << 64)))
    return kept
