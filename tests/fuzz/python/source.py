"""Fuzzed bytes, taken apart piece by piece: the same for a coverage-guided fuzzer and for hypothesis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

One = TypeVar("One")


class Source:
    """What is left of the bytes; where there are none, zeros."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def take(self, count: int) -> bytes:
        self._at += count
        return self._data[self._at - count : self._at]

    def piece(self) -> bytes:
        """A piece whose length stands before it."""
        return self.take(self.byte())

    def text(self) -> str:
        """A piece as the operating system's texts are decoded."""
        return self.piece().decode(errors="surrogateescape")

    def choice(self, values: Sequence[One]) -> One:
        return values[self.byte() % len(values)]

    def rest(self) -> bytes:
        return self.take(max(0, len(self._data) - self._at))
