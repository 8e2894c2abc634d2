"""Secrets in URLs, taken out before anything is shown or sent (semconv: url.full and url.query)."""

from __future__ import annotations

import re
from urllib.parse import unquote

REDACTED = "REDACTED"
SECRET_KEY = re.compile(
    r"token|passw|passphrase|pwd|secret|api[-_.]?key|access[-_.]?key|private[-_.]?key|signature|credential|session|jwt"
    r"|bearer|^(?:sig|auth|authorization|sid|otp|pin|pass|pw|key|code)$",
    re.IGNORECASE,
)
USERINFO = re.compile(r"(://|%3a%2f%2f)[^/?#\s]*(?:@|%40)", re.IGNORECASE)  # begins at what is rare: linear
SEPARATORS = re.compile(r"([&;])")
NESTED = re.compile(r"(?:^|[?&;#])([^=?&;#]+)=[^&;#]")


def query(text: str) -> str:
    """Replace the values of secret-looking keys of a query string, and of queries inside its values."""
    text = userinfo(text)
    return "".join(_pair(part) for part in SEPARATORS.split(text)) if "=" in text else text


def url(text: str) -> str:
    """Replace userinfo and the values of secret-looking query keys of an absolute URL or a request target."""
    text, hash_mark, fragment = text.partition("#")
    before, mark, after = text.partition("?")
    return f"{userinfo(before)}{mark}{query(after)}{hash_mark}{query(fragment)}"


def userinfo(text: str) -> str:
    """Replace what stands before the last @ of each authority in a text."""
    return USERINFO.sub(rf"\1{REDACTED}:{REDACTED}@", text)


def authority(text: str) -> str:
    """Replace the userinfo of a bare authority, as CONNECT names one."""
    return f"{REDACTED}:{REDACTED}@{text.rpartition('@')[2]}" if "@" in text else text


def _pair(part: str) -> str:
    key, equals, value = part.partition("=")
    if not equals or not value:
        return part
    nested = NESTED.findall(unquote(value)) if "%" in value or "=" in value else []
    secret = any(SECRET_KEY.search(name) for name in (unquote(key), *nested))
    return f"{key}={REDACTED}" if secret else part
