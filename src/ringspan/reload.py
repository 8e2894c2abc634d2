"""SIGHUP: settings are read again, between two batches; what cannot change while tracing is named."""

from __future__ import annotations

import sys
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from ringspan.errors import UsageError
from ringspan.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from ringspan.config import Settings

RELOADED = (
    "interval",
    "spans_per_second",
    "rules",
    "routes",
    "learn_routes",
    "routes_max",
    "redact_keys",
    "redact_except",
    "redact_paths",
)  # the rest shapes the probe, the tables or the way out: a new start


def again(now: Settings, read: Callable[[], Settings] | None) -> Settings:
    """Return the settings to go on with, and say what changed; a mistake changes nothing."""
    if not read:
        say("nothing to read again: no --config file was given")
        return now
    try:
        new = read()
    except UsageError as error:
        say(f"settings are kept as they were: {error}")
        return now
    changed = [one.name for one in fields(now) if getattr(now, one.name) != getattr(new, one.name)]
    taken = [name for name in changed if name in RELOADED]
    left = [name for name in changed if name not in RELOADED]
    say(f"settings read again: changed {', '.join(taken) or 'nothing'}")
    if left:
        say(f"only a new start changes {', '.join(left)}")
    return replace(now, **{name: getattr(new, name) for name in taken})


def say(words: str) -> None:
    """Say on stderr what became of it."""
    print(f"ringspan: {printable(words)}", file=sys.stderr, flush=True)
