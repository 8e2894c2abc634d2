"""Secrets in URLs, taken out before anything is shown or sent (semconv: url.full and url.query).

What a decoder would find counts too: each text is looked at as it is, and percent-decoded until that changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote

REDACTED = "REDACTED"
SECRET_KEY = re.compile(
    r"token|passw|passphrase|pwd|secret|api[-_.]?key|access[-_.]?key|private[-_.]?key|signature|credential|session|jwt"
    r"|bearer|^(?:sig|auth|authorization|sid|otp|pin|pass|pw|key|code)$",
    re.IGNORECASE,
)
MARK = r"((?::|%(?:25)*3a)(?:[/\\]|%(?:25)*(?:2f|5c)){2})"  # begins at what is rare: linear
AT = r"(?:@|%(?:25)*40)"
USERINFO = re.compile(rf"{MARK}[^/?#]*{AT}", re.IGNORECASE)
MARKED = re.compile(MARK, re.IGNORECASE)
CUT_USERINFO = re.compile(rf"{MARK}(?:[^/?#]*{AT}|[^/?#]*\Z)", re.IGNORECASE)
QUERY = re.compile(r"[?#]")
SEPARATOR = re.compile(r"[?&;#]")
ENCODED_MARK = re.compile(r"(%(?:25)*3f)", re.IGNORECASE)
DECODINGS_MAX = 8


def query(text: str, *, cut: bool = False) -> str:
    """Replace the values of secret-looking keys of a query string, and of queries inside its values."""
    if _entangled(text):
        return REDACTED
    text = userinfo(text, cut=cut)
    if "=" not in text and "%" not in text:
        return text
    parts = text.split("&")
    if _hidden(text, cut=cut) and any(MARKED.search(_decoded(part)) for part in parts if not _hidden(part)):
        return REDACTED  # userinfo that has an & in it
    return "&".join(map(_pairs, parts))


def path(text: str, *, cut: bool = False) -> str:
    """Replace userinfo of URLs inside a path, and secret-looking values of path parameters and of an encoded query."""
    if _entangled(text):
        return f"{url(MARKED.split(_decoded(text), 1)[0])}://{REDACTED}"
    text = userinfo(text, cut=cut)
    if _hidden(text, cut=cut):
        return url(userinfo(_decoded(text), cut=cut))
    before, *after = ENCODED_MARK.split(text, 1)
    if ";" in before:
        before = "/".join(_parameters(segment) for segment in before.split("/"))
    return f"{before}{after[0]}{query(after[1])}" if after else before


def url(text: str, *, cut: bool = False) -> str:
    """Replace what is secret in an absolute URL or a request target."""
    text, hash_mark, fragment = text.partition("#")
    before, mark, after = text.partition("?")
    in_fragment, in_query = bool(hash_mark), bool(mark)
    before = path(before, cut=cut and not in_query and not in_fragment)
    after = query(after, cut=cut and not in_fragment)
    return f"{before}{mark}{after}{hash_mark}{query(fragment, cut=cut)}"


def userinfo(text: str, *, cut: bool = False) -> str:
    """Replace what stands before the last @ of each authority in a text; of one that was cut, all of an unended one."""
    return (CUT_USERINFO if cut else USERINFO).sub(rf"\1{REDACTED}:{REDACTED}@", text)


def authority(text: str) -> str:
    """Replace the userinfo of a bare authority, as CONNECT names one."""
    end = QUERY.search(text)
    head, tail = (text[: end.start()], text[end.start() :]) if end else (text, "")
    host = host_of(head)
    return f"{REDACTED}:{REDACTED}@{url(host + tail)}" if host != head else url(text)


def host_of(text: str) -> str:
    """Return an authority without its userinfo."""
    decoded = _decoded(text)
    return decoded.rpartition("@")[2] if "@" in decoded else text


def endpoint(text: str) -> str:
    """Replace the userinfo of what should be a URL, however wrong it is, for an error message."""
    scheme, mark, rest = text.partition("://")
    return f"{scheme}{mark}{authority(rest)}" if mark and "@" not in scheme else authority(text)


def _hidden(text: str, *, cut: bool = False) -> bool:
    """Whether there is userinfo that only percent-decoding brings out."""
    decoded = _decoded(text)
    return decoded != text and userinfo(decoded, cut=cut) != decoded


def _entangled(text: str) -> bool:
    """Whether what looks like userinfo has a secret-looking key in it: to replace the one would uncover the other."""
    decoded = _decoded(text)
    for match in (*USERINFO.finditer(text), *USERINFO.finditer(decoded)):
        inside = _decoded(match[0])
        keys = (*_names(inside), *SEPARATOR.split(inside)[1:])
        if any(map(SECRET_KEY.search, keys)):
            return True
    return False


def _pairs(part: str) -> str:
    """Redact what stands between two &: from the first secret on, for not all take a ; for a separator."""
    pairs = [part] if _hidden(part) else part.split(";")
    for i, pair in enumerate(pairs):
        if any(map(_tells, _decodings(pair))):
            return ";".join([*pairs[:i], _without_value(pair, is_last=i == len(pairs) - 1)])
    return part


def _without_value(pair: str, *, is_last: bool) -> str:
    key, equals, value = pair.partition("=")
    inside = _decoded(key)
    if not equals or "=" in inside or MARKED.search(inside):
        return REDACTED
    return pair if is_last and not value else f"{key}={REDACTED}"


def _parameters(segment: str) -> str:
    """Redact the parameters of a path segment (RFC 3986 section 3.3), such as ;jsessionid=."""
    name, semicolon, rest = segment.partition(";")
    return f"{name}{semicolon}{_pairs(rest)}"


def _tells(text: str) -> bool:
    return any(map(SECRET_KEY.search, _names(text))) or userinfo(text) != text


def _names(text: str) -> Iterator[str]:
    """Return all that stands before an =."""
    for piece in SEPARATOR.split(text):
        yield from piece.split("=")[:-1]


def _decodings(text: str) -> Iterator[str]:
    """Return a text, and what percent-decoding makes of it until it changes nothing."""
    yield text
    for _ in range(DECODINGS_MAX if "%" in text else 0):
        decoded = unquote(text)
        if decoded == text:
            return
        text = decoded
        yield text


def _decoded(text: str) -> str:
    *_, last = _decodings(text)
    return last
