"""Templates of paths, such as /users/{id}, and which of many a path fits: literals before parameters, as routers do."""

from __future__ import annotations

import re
from urllib.parse import unquote

from ringspan import values
from ringspan.errors import UsageError

TEMPLATE_MAX, SEGMENTS_MAX = 512, 64
PARAMETER = re.compile(r"\{[^{}/]*\}")
REST = "*"  # as a last segment: all that follows
_SEGMENT = r"(?:[^/{}?#*]|\{[^{}/*]*\})*"
FORM = rf"^(?:/{_SEGMENT}){{0,{SEGMENTS_MAX - 2}}}/(?:\*|{_SEGMENT})$"  # of JSON Schema too


class Node:
    """A place in the tree of segments; `template` is the one that ends here, `rest` the one that goes on for ever."""

    __slots__ = ("literals", "patterns", "rest", "template")

    def __init__(self) -> None:
        self.literals: dict[str, Node] = {}
        self.patterns: dict[str, tuple[re.Pattern[str], Node]] = {}
        self.template: str | None = None
        self.rest: str | None = None


def checked(template: str, where: str) -> str:
    """Return a template as it is reported; raises UsageError."""
    if not template.startswith("/") or len(template) > TEMPLATE_MAX or template.count("/") >= SEGMENTS_MAX:
        raise UsageError(f"{where}: {values.shown(template)} is not a template of a path", "such as /users/{id}")
    if not re.fullmatch(FORM, template):
        raise UsageError(
            f"{where}: {values.shown(template)} is not a template",
            "{name} is a parameter, a last * is all that follows",
        )
    return template


class Templates:
    """A set of templates; the first given of like ones counts."""

    def __init__(self) -> None:
        self._root = Node()
        self._count = 0

    def __len__(self) -> int:
        """Return how many there are."""
        return self._count

    def add(self, template: str) -> None:
        """Add one that has been checked."""
        node = self._root
        *segments, last = template.split("/")[1:]
        for segment in segments:
            node = _step(node, segment)
        if last == REST:
            self._count += node.rest is None
            node.rest = node.rest or template
            return
        node = _step(node, last)
        self._count += node.template is None
        node.template = node.template or template

    def match(self, path: str) -> str | None:
        """Return the template that a path (as it was sent, without its query) fits best."""
        segments = path.split("/")[1:]
        if not path.startswith("/") or len(segments) > SEGMENTS_MAX:
            return None
        return _match(self._root, [unquote(segment) for segment in segments], 0)


def pattern(segment: str) -> str:
    """Return a segment with parameters as a regular expression; linear, since no place is tried twice."""
    first, *more = (re.escape(text) for text in PARAMETER.split(segment))
    if not more:
        return first
    return f"{first}{''.join(f'(?>.+?{text})' for text in more[:-1])}.+{more[-1]}"


def _step(node: Node, segment: str) -> Node:
    """Return the next node, made if it is not there; like patterns are one."""
    if not PARAMETER.search(segment):
        return node.literals.setdefault(unquote(segment), Node())
    spelled = pattern(segment)
    _, after = node.patterns.setdefault(spelled, (re.compile(spelled, re.DOTALL), Node()))
    if len(node.patterns) > 1:  # the most literal first
        node.patterns = dict(sorted(node.patterns.items(), key=lambda item: -_literal(item[0])))
    return after


def _literal(spelled: str) -> int:
    """Return how many letters of a pattern are given."""
    return len(re.sub(r"\(\?>|\.\+\??|[\\)]", "", spelled))


def _match(node: Node, segments: list[str], at: int) -> str | None:
    if at == len(segments):
        return node.template
    segment = segments[at]
    after = node.literals.get(segment)
    found = _match(after, segments, at + 1) if after else None
    if found is None and segment:
        for pattern, then in node.patterns.values():
            found = _match(then, segments, at + 1) if pattern.fullmatch(segment) else None
            if found is not None:
                break
    return node.rest if found is None else found
