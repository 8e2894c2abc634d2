"""Settings of routes: templates and OpenAPI documents, of all services or of those that a glob names."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from typing import Any

from ringspan import openapi, templates, values
from ringspan.errors import UsageError
from ringspan.templates import Templates

SOURCES_MAX, TEMPLATES_MAX = 1024, 20_000
KEYS = ("service", "template", "openapi")


@dataclass(frozen=True)
class Source:
    """Templates, and whose they are."""

    services: re.Pattern[str]
    templates: Templates


@dataclass(frozen=True)
class Routing:
    """All that is known of routes before any request is seen."""

    sources: tuple[Source, ...] = ()
    learn: bool = False
    most: int = 200  # of one service

    def __bool__(self) -> bool:
        """Whether there can be any route."""
        return self.learn or bool(self.sources)

    def of_service(self, name: str) -> list[Templates]:
        """Return the templates that a service may have, the first given first."""
        return [source.templates for source in self.sources if source.services.fullmatch(name)]


def parse(given: list[Any], where: str) -> tuple[Source, ...]:
    """Compile what is given, neighbours of one service together; raises UsageError that says which is wrong."""
    by_service: dict[str, Templates] = {}
    for number, one in enumerate(given, 1):
        service, found = _source(one, f"{where} {number}")
        known = by_service.setdefault(service, Templates())
        for template in found:
            known.add(templates.checked(template, f"{where} {number}"))
    if sum(map(len, by_service.values())) > TEMPLATES_MAX:
        raise UsageError(f"{where}: more than {TEMPLATES_MAX} templates")
    return tuple(Source(re.compile(fnmatch.translate(glob)), found) for glob, found in by_service.items())


def _source(given: Any, where: str) -> tuple[str, list[str]]:
    if isinstance(given, str):
        return "*", [given]
    given = values.mapping(given, KEYS, where)
    listed = values.sequence(given.get("template"), SOURCES_MAX, f"{where}: template")
    found = [values.text(one, f"{where}: template") for one in listed]
    if "openapi" in given:
        found += openapi.paths(values.text(given["openapi"], f"{where}: openapi"), where)
    if not found:
        raise UsageError(f"{where}: it names no route", "give it template or openapi")
    return values.text(given.get("service", "*"), f"{where}: service"), found
