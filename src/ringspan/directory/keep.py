"""Keeps what was found of containers and pods, by id, and a thread that finds it anew."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from ringspan.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

Attributes = dict[str, str]
ENTRIES_MAX, VALUE_MAX = 8192, 255
FIRST_S = 2.0  # for so long the first record waits for names of what runs already
AGAIN_S = 10.0
log = logging.getLogger(__name__)


class Unavailable(Exception):
    """Who was asked did not answer, or not in a way that can be read."""


class Directory:
    """Attributes by id, of one source: `name` for messages; `find` yields all there is, whenever that may have changed.

    `find` is given a function that waits so many seconds, or until an id is asked for that is not known.
    """

    def __init__(
        self, name: str, find: Callable[[Callable[[float], object]], Iterator[Mapping[str, Attributes]]]
    ) -> None:
        self._name, self._find = name, find
        self._found: dict[str, Attributes] = {}
        self._unknown: set[str] = set()
        self._first, self._asked = threading.Event(), threading.Event()
        self._failing = False
        self.version = 0  # goes up when an id may stand for something else

    def start(self) -> None:
        """Begin to look, and wait for the first answer, within bounds."""
        threading.Thread(target=self._run, name=self._name, daemon=True).start()
        self._first.wait(FIRST_S)

    def get(self, key: str) -> Attributes:
        """Return what is known of an id; nothing if there is none: it is then asked for, once."""
        found = self._found.get(key)
        if found is None and key not in self._unknown and len(self._unknown) < ENTRIES_MAX:
            self._unknown.add(key)
            self._asked.set()
        return found or {}

    def _wait(self, seconds: float) -> None:
        self._asked.wait(seconds)
        self._asked.clear()

    def _run(self) -> None:
        while True:
            try:
                for found in self._find(self._wait):
                    self._take(found)
            except Unavailable as error:
                if not self._failing:
                    log.warning("%s: %s; it is asked again every %.0f s", self._name, printable(str(error)), AGAIN_S)
                self._failing = True
            self._first.set()
            time.sleep(AGAIN_S)

    def _take(self, found: Mapping[str, Attributes]) -> None:
        """Have these from now on, in place of those before."""
        if len(found) > ENTRIES_MAX:
            log.warning("%s: of %d the first %d are named", self._name, len(found), ENTRIES_MAX)
        new = {key: _sendable(value) for key, value in list(found.items())[:ENTRIES_MAX]}
        if new != self._found:
            self._found = new
            self.version += 1
            self._unknown.clear()
        self._failing = False
        self._first.set()


def _sendable(attributes: Attributes) -> Attributes:
    return {key: value[:VALUE_MAX].encode(errors="replace").decode() for key, value in attributes.items() if value}


class Directories:
    """What several sources know of a place; of two that know the same, the later wins."""

    def __init__(self, of: Sequence[Directory] = ()) -> None:
        self._of = tuple(of)

    @property
    def version(self) -> int:
        """Return a number that goes up when anything may be called otherwise."""
        return sum(one.version for one in self._of)

    def start(self) -> None:
        """Begin to look."""
        for one in self._of:
            one.start()

    def get(self, *keys: str) -> Attributes:
        """Return what is known of a pod and its container."""
        found: Attributes = {}
        for one in self._of:
            for key in filter(None, keys):
                found |= one.get(key)
        return found
