"""SIGHUP: settings are read again, beside the consumer, and taken between two batches; what cannot change is named."""

from __future__ import annotations

import sys
import threading
from dataclasses import fields, replace
from typing import TYPE_CHECKING, NamedTuple

from ringspan import redact, redaction, routes, rules
from ringspan.errors import UsageError
from ringspan.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from ringspan.config import Settings
    from ringspan.rules import Rule

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


class Prepared(NamedTuple):
    """Settings, and what is made of them by work that may take long: documents of megabytes, thousands of templates."""

    settings: Settings
    rules: tuple[Rule, ...]
    routing: routes.Routing
    policy: redact.Policy


def prepare(settings: Settings) -> Prepared:
    """Make of settings what a run works with; raises UsageError."""
    sources = routes.parse(settings.routes, "routes")
    return Prepared(
        settings,
        rules.parse(settings.rules, "rules"),
        routes.Routing(sources, settings.learn_routes, settings.routes_max),
        redaction.policy(settings.redact_keys, settings.redact_except, settings.redact_paths),
    )


class Reading(threading.Thread):
    """Settings that are being read again; once it is not alive, `found` is there, or `mistake` says why not."""

    def __init__(self, read: Callable[[], Settings]) -> None:
        super().__init__(name="settings", daemon=True)
        self._read = read
        self.found: Prepared | None = None
        self.mistake = "they cannot be read"
        self.start()

    def run(self) -> None:
        """Read and prepare."""
        try:
            self.found = prepare(self._read())
        except UsageError as error:
            self.mistake = str(error)


def begin(read: Callable[[], Settings] | None) -> Reading | None:
    """Begin to read settings again; None, said, if they did not come from a file."""
    if read:
        return Reading(read)
    say("nothing to read again: no --config file was given")
    return None


def taken(now: Settings, reading: Reading) -> Prepared | None:
    """Return what to go on with, and say what changed; None after a mistake, which changes nothing."""
    if not reading.found:
        say(f"settings are kept as they were: {reading.mistake}")
        return None
    new = reading.found.settings
    changed = [one.name for one in fields(now) if getattr(now, one.name) != getattr(new, one.name)]
    can = [name for name in changed if name in RELOADED]
    left = [name for name in changed if name not in RELOADED]
    say(f"settings read again: changed {', '.join(can) or 'nothing'}")
    if left:
        say(f"only a new start changes {', '.join(left)}")
    return reading.found._replace(settings=replace(now, **{name: getattr(new, name) for name in can}))


def say(words: str) -> None:
    """Say on stderr what became of it."""
    print(f"ringspan: {printable(words)}", file=sys.stderr, flush=True)
