"""The latest of something: so many of them, and so many bytes of what strangers wrote, at the most."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar


class HasSize(Protocol):
    """What says how many bytes it takes, about, and always the same."""

    @property
    def size(self) -> int:
        """The bytes."""


Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value", bound=HasSize)


class Recent(Generic[Key, Value]):
    """Values by key, of which the oldest make room."""

    def __init__(self, entries_max: int, bytes_max: int) -> None:
        self._entries_max, self._bytes_max = entries_max, bytes_max
        self._kept: OrderedDict[Key, Value] = OrderedDict()
        self.size = 0

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._kept)

    def __contains__(self, key: Key) -> bool:
        """Whether a value is kept."""
        return key in self._kept

    def get(self, key: Key) -> Value | None:
        """Return a value, if it is kept."""
        return self._kept.get(key)

    def items(self) -> list[tuple[Key, Value]]:
        """Return what is kept, the oldest first."""
        return list(self._kept.items())

    def put(self, key: Key, value: Value) -> list[Key]:
        """Keep a value as the latest; returns the keys of those that made room."""
        self.pop(key)
        self._kept[key] = value
        self.size += value.size
        gone = []
        while len(self._kept) > self._entries_max or self.size > self._bytes_max:
            gone.append(next(iter(self._kept)))
            self.pop(gone[-1])
        return gone

    def pop(self, key: Key) -> Value | None:
        """Let a value go; returns it, if it was kept."""
        value = self._kept.pop(key, None)
        self.size -= value.size if value else 0
        return value

    def clear(self) -> None:
        """Let all go."""
        self._kept.clear()
        self.size = 0
