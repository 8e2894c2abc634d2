"""Settings of redaction: more names and paths of secrets, and names that are none; compiled for ringspan.redact."""

from __future__ import annotations

import fnmatch
import re
from typing import Any
from urllib.parse import unquote

from ringspan import templates, values
from ringspan.redact import PathMask, Policy
from ringspan.templates import PARAMETER, REST


def names(given: list[Any], where: str) -> re.Pattern[str] | None:
    """Compile globs of names, in any case of letters; None if there are none."""
    globs = [values.text(one, where) for one in given]
    return re.compile("|".join(map(fnmatch.translate, globs)), re.IGNORECASE) if globs else None


def masks(given: list[Any], where: str) -> tuple[PathMask, ...]:
    """Compile templates of paths whose parameters are secrets; raises UsageError."""
    return tuple(_mask(templates.checked(values.text(one, where), where)) for one in given)


def _mask(template: str) -> PathMask:
    segments = template.split("/")
    rest = segments[-1] == REST
    kept = segments[:-1] if rest else segments
    found = ((templates.pattern(one if PARAMETER.search(one) else unquote(one)), PARAMETER.search(one)) for one in kept)
    return PathMask(tuple((re.compile(spelled, re.DOTALL), bool(secret)) for spelled, secret in found), rest)


def policy(keys: list[Any], spared: list[Any], paths: list[Any]) -> Policy:
    """Compile settings that have been checked."""
    return Policy(names(keys, "redact_keys"), names(spared, "redact_except"), masks(paths, "redact_paths"))
