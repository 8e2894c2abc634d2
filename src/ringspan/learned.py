"""Routes that are learned from paths that were answered well: what looks like data, or varies much, is {id}.

Conservative: what is not plainly a word is data; a path that failed teaches nothing, so that a scanner's guesses are no
routes; the first segment is never taken for data because it varies, so that one flood of paths does not swallow all.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from ringspan import words

ID = "{id}"
WORD = re.compile(r"[A-Za-z._~][A-Za-z0-9._~:-]*")
WORD_MAX, DEPTH_MAX, VARIETY_MAX = 40, 16, 50
NODES_MAX = 1 << 16  # of all services
NUMBER = re.compile(r"-?\d+(?:[.,:_-]\d+)*")  # dates too
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
HEX = re.compile(r"[0-9a-f]{7,}", re.IGNORECASE)
MANY_DIGITS = re.compile(r"\d{4}")
PREFIXED = re.compile(r"[A-Za-z]+[-_][0-9A-Za-z]{4,}")  # usr_8a7sd8f7, order-12345
EXTENSION = re.compile(r"([^@]+)(\.[a-z][a-z0-9]{1,4})")


def is_data(text: str) -> bool:
    """Whether a segment is a value, and not a name of something; a short hash without digits may be a word."""
    if NUMBER.fullmatch(text) or UUID.fullmatch(text) or MANY_DIGITS.search(text):
        return True
    digits = sum(letter.isdigit() for letter in text)
    if HEX.fullmatch(text) and (digits or len(text) >= 16):
        return True
    if len(text) >= 16 and digits >= 3:
        return True
    if (digits >= 2 and PREFIXED.fullmatch(text)) or (len(text) >= 25 and text.isalnum()):
        return True
    return words.are_drawn(text)


def shape(segment: str) -> str:
    """Return a segment if it is a word, else {id}, with its extension if it has one."""
    if not segment:
        return ""
    plain = unquote(segment.partition(";")[0])
    split = EXTENSION.fullmatch(plain)
    stem, extension = (split[1], split[2]) if split else (plain, "")
    if WORD.fullmatch(plain) and len(plain) <= WORD_MAX and not is_data(stem):
        return plain
    return f"{ID}{extension}"


class Node:
    """A place in the tree of words; `varies` when whatever follows it is data."""

    __slots__ = ("is_route", "next", "varies")

    def __init__(self) -> None:
        self.next: dict[str, Node] = {}
        self.varies = self.is_route = False


class Budget:
    """How many nodes all services may still have."""

    def __init__(self, nodes: int = NODES_MAX) -> None:
        self.left = nodes


class Learner:
    """The routes of one service; `routes` says how many there are, `merged` how often many became one."""

    def __init__(self, budget: Budget) -> None:
        self._root = Node()
        self._budget = budget
        self._nodes = 0
        self.routes = self.merged = 0

    def find(self, path: str, room: int = 0) -> str | None:
        """Return the route of a path; a new one is learned if there is room for one more."""
        segments = path.split("/")[1:]
        if not path.startswith("/") or len(segments) > DEPTH_MAX:
            return None
        node, words = self._root, []
        for depth, segment in enumerate(segments):
            word = self._word(node, segment)
            if word not in node.next:
                if not room or not self._budget.left:
                    return None
                word = self._grow(node, word, may_vary=depth > 0)
            words.append(word)
            node = node.next[word]
        if not node.is_route:
            if not room:
                return None
            node.is_route = True
            self.routes += 1
        return "/" + "/".join(words)

    def give_back(self) -> None:
        """Leave all room to others."""
        self._budget.left += self._nodes
        self._nodes = 0

    @staticmethod
    def _word(node: Node, segment: str) -> str:
        return ID if node.varies and segment else shape(segment)

    def _grow(self, node: Node, word: str, *, may_vary: bool) -> str:
        """Make room for a word after a node; returns what it is called there."""
        if may_vary and word and word != ID and len(node.next) >= VARIETY_MAX:
            word = ID
            _vary(node)
            self.merged += 1
            self.routes, nodes = _count(self._root)
            self._budget.left += self._nodes - nodes
            self._nodes = nodes
        if word not in node.next:
            node.next[word] = Node()
            self._nodes += 1
            self._budget.left -= 1
        return word


def _vary(node: Node) -> None:
    """Make one of all that follows a node."""
    one = Node()
    for word in [word for word in node.next if word]:
        _merge(one, node.next.pop(word))
    node.next[ID] = one
    node.varies = True


def _merge(into: Node, other: Node) -> None:
    into.is_route |= other.is_route
    for word, after in other.next.items():
        _merge(into.next.setdefault(word, Node()), after)
    if other.varies or into.varies:
        _vary(into)


def _count(node: Node) -> tuple[int, int]:
    """Return how many routes there are at a node and below, and how many nodes below."""
    below = [_count(after) for after in node.next.values()]
    return sum(routes for routes, _ in below) + node.is_route, sum(nodes + 1 for _, nodes in below)
