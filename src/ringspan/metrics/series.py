"""Series in numbered slots, and histograms over them as arrays: bounded, and idle ones give their slot back."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import numpy as np

from ringspan.metrics.buckets import Buckets, Exponential

Array = np.ndarray[Any, np.dtype[Any]]
Name = TypeVar("Name")
CHUNK = 2048


class Slots(Generic[Name]):
    """Numbers for series, from `reserved` on: below are those of what finds no slot of its own."""

    def __init__(self, capacity: int, reserved: int, now: float) -> None:
        self.keys: dict[Name, int] = {}
        self._free = list(range(capacity - 1, reserved - 1, -1))
        self.last_seen = np.full(capacity, now)

    def take(self, key: Name) -> int | None:
        """Give a new series a slot; None if all are taken."""
        if not self._free:
            return None
        slot = self.keys[key] = self._free.pop()
        return slot

    def expire(self, before: float) -> list[int]:
        """Give back the slots that were last used before a time; returns them."""
        gone = [(key, slot) for key, slot in self.keys.items() if self.last_seen[slot] < before]
        for key, slot in gone:
            del self.keys[key]
            self._free.append(slot)
        return [slot for _, slot in gone]


class Histograms:
    """One measure of many series: counts by bucket, sums, extremes."""

    def __init__(self, buckets: Buckets, capacity: int) -> None:
        self.buckets = buckets
        self.counts = np.zeros((capacity, buckets.count), np.int64)
        self.totals = np.zeros(capacity, np.int64)
        self.sums = np.zeros(capacity)
        self.minima = np.full(capacity, np.inf)
        self.maxima = np.full(capacity, -np.inf)

    def add(self, slots: Array, values: Array) -> Array:
        """Count a value for each slot named; returns the values' buckets."""
        index = self.buckets.index(values)
        np.add.at(self.counts.reshape(-1), slots * self.buckets.count + index, 1)
        np.add.at(self.totals, slots, 1)
        np.add.at(self.sums, slots, values)
        np.minimum.at(self.minima, slots, values)
        np.maximum.at(self.maxima, slots, values)
        return index

    def clear(self, slots: list[int]) -> None:
        """Forget what some slots have counted."""
        self.counts[slots] = 0
        self.totals[slots] = 0
        self.sums[slots] = 0
        self.minima[slots], self.maxima[slots] = np.inf, -np.inf

    def part(self, slots: list[int]) -> Histograms:
        """Return a copy of some slots, in their order, that does not change."""
        out = Histograms.__new__(Histograms)
        out.buckets = self.buckets
        out.counts, out.totals, out.sums = self.counts[slots], self.totals[slots], self.sums[slots]
        out.minima, out.maxima = self.minima[slots], self.maxima[slots]
        return out

    def quantiles(self, slots: Array, share: float) -> Array:
        """Return the upper bound of the bucket that holds a quantile, for each slot named (exponential buckets)."""
        if not isinstance(self.buckets, Exponential):
            raise TypeError("explicit buckets have no upper bound")
        at = np.empty(len(slots), np.int64)
        for start in range(0, len(slots), CHUNK):  # of tens of thousands the sums would take much memory
            some = slots[start : start + CHUNK]
            reached = np.cumsum(self.counts[some], axis=1) >= share * self.totals[some, np.newaxis]
            at[start : start + CHUNK] = reached.argmax(axis=1)
        out: Array = self.buckets.upper_bounds()[at]
        return out

    def means(self, slots: Array) -> Array:
        """Return the mean of each slot named, over all it has counted."""
        return self.sums[slots] / np.maximum(self.totals[slots], 1)
