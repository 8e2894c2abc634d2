"""Secrets in URLs, taken out before anything is shown or sent (semconv: url.full and url.query)."""

from __future__ import annotations

import re

REDACTED = "REDACTED"
SECRET_KEY = re.compile(
    r"token|passw|pwd|secret|api[-_.]?key|access[-_.]?key|private[-_.]?key|signature|credential|session|jwt|bearer"
    r"|^(?:sig|auth|authorization|sid|otp|pin)$",
    re.IGNORECASE,
)
USERINFO = re.compile(r"([a-z][a-z0-9+.-]*(?:://|%3a%2f%2f))[^/?#@&;\s]*?(?:@|%40)", re.IGNORECASE)
SEPARATORS = re.compile(r"([&;])")


def query(text: str) -> str:
    """Replace the values of secret-looking keys of a query string."""
    text = _without_userinfo(text)
    return "".join(_pair(part) for part in SEPARATORS.split(text)) if "=" in text else text


def _pair(part: str) -> str:
    key, equals, value = part.partition("=")
    return f"{key}={REDACTED}" if equals and value and SECRET_KEY.search(_decoded(key)) else part


def _decoded(key: str) -> str:
    """Undo percent-encoding in a key, so that to%6ben is seen for what it is."""
    return re.sub(r"%([0-9a-fA-F]{2})", lambda m: chr(int(m[1], 16)), key)


def url(text: str) -> str:
    """Replace userinfo and the values of secret-looking query keys of an absolute URL or a request target."""
    before, mark, after = text.partition("?")
    return f"{_without_userinfo(before)}{mark}{query(after)}"


def _without_userinfo(text: str) -> str:
    return USERINFO.sub(rf"\1{REDACTED}:{REDACTED}@", text)
