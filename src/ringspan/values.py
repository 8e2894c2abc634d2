"""Single values of settings: each is what it should be, or a mistake told in one short line."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable
from typing import Any

from ringspan.errors import UsageError
from ringspan.printable import printable

SHOWN_MAX, HINT_MAX = 80, 12


def shown(value: Any, form: Callable[[Any], str] = repr) -> str:
    """Print a value for an error message: one line, and short."""
    try:
        text = form(value)
    except ValueError:  # a number of thousands of digits
        text = f"a {type(value).__name__} too long to print"
    return printable(text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}...")


def number(value: Any, bounds: tuple[float, float, type[int | float]], where: str) -> Any:
    """Return a number within bounds."""
    low, high, kind = bounds
    wrong_kind = isinstance(value, bool) or not isinstance(value, (int, float))
    if wrong_kind or not low <= value <= high or kind(value) != value:
        raise UsageError(f"{where}: {shown(value)} is not a number from {low:g} to {high:g}")
    return kind(value)


def text(value: Any, where: str) -> str:
    """Return a text; a whole number may be written for one."""
    if isinstance(value, float):
        raise UsageError(f"{where}: {shown(value)} is a number", "put it in quotes, as it is to be")
    if isinstance(value, int) and not isinstance(value, bool):
        value = shown(value)
    if not isinstance(value, str) or not value or not _is_name(value):
        raise UsageError(f"{where}: {shown(value)} is not a text")
    return value


def switch(value: Any, where: str) -> bool:
    """Return true or false."""
    if not isinstance(value, bool):
        raise UsageError(f"{where}: {shown(value)} is not true or false")
    return value


def choice(value: Any, known: Iterable[str], where: str) -> Any:
    """Return one of the words that are known."""
    known = tuple(known)
    if value not in known:
        raise UsageError(f"{where}: {shown(value)} is not one of {', '.join(known)}")
    return value


def mapping(value: Any, known: Iterable[str], where: str) -> dict[str, Any]:
    """Return a mapping of known keys; of one that is not known, name the nearest."""
    if not isinstance(value, dict):
        raise UsageError(f"{where}: {shown(value)} is not a mapping")
    names = list(known)
    for key in value:
        if key not in names:
            near = difflib.get_close_matches(shown(key, str), names, 1)
            raise UsageError(
                f"{where}: unknown key {shown(key)}",
                f"did you mean {near[0]!r}?" if near else _hint(names),
            )
    return value


def _hint(names: list[str]) -> str:
    return f"known are {', '.join(names)}" if len(names) <= HINT_MAX else "see config/default.yaml"


def sequence(value: Any, most: int, where: str) -> list[Any]:
    """Return a list of so many at most; one value may stand for a list of it."""
    values = [] if value is None else value if isinstance(value, list) else [value]
    if len(values) > most:
        raise UsageError(f"{where}: {len(values)} of them, {most} is the most")
    return values


def _is_name(value: str) -> bool:
    """Whether a text can name a file: no NUL, and no half of a surrogate pair, which YAML can spell."""
    try:
        return b"\0" not in os.fsencode(value)
    except UnicodeEncodeError:
        return False
