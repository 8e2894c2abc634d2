"""Secrets in URLs, taken out before anything is shown or sent (semconv: url.full and url.query).

What a decoder would find counts too: each text is looked at as it is, and percent-decoded until that changes nothing.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import unquote

from ringspan import words

REDACTED = "REDACTED"
# A name may be a part of another: user[pass], data.pass, db_pass; of what is a word too, not after _ (country_code).
_OPENS, _ENDS = r"(?:^|[\[\]./\s+\0-\x1f])", r"(?=$|[\[\].\s+\0-\x1f])"
SECRET_KEY = re.compile(
    r"token|passw|pass(?:phrase|code|[-_.]?key|[-_.]?hash)|pa?s?s?wd|secret|signature|credential|session|sess?id|jwt|bearer"
    r"|hmac|saml|assertion|[cx]srf"
    r"|(?:api|access|priv|private|auth|app|application|client|encryption|subscription|account|master|shared)[-_.]?key"
    r"|(?:auth|device|otp|verification|pin|activation|reset|user|mfa|2fa|recovery|backup)[-_.]?(?:code|pass)"
    rf"|(?:cookie|verifier|pw){_ENDS}"
    rf"|{_OPENS}(?:auth|authorization|sid|key|code|ticket){_ENDS}"
    rf"|(?:{_OPENS}|[-_])(?:sig|[ht]?otp|pin|cvv2?|cvc2?|creds?|2fa|mfa|psw){_ENDS}"
    # What ends in pass, but for what is a word: compass, bypass, trespass and the like.
    rf"|(?<!com)(?<!by)(?<!tres)(?<!sur)(?<!over)(?<!under)pass\d?{_ENDS}"
    rf"|(?-i:(?<=[a-z])(?:Otp|Pin){_ENDS})",
    re.IGNORECASE,
)
PARTS, CONTROLS = re.compile(r"[\[\]./\s+\0-\x1f]+"), re.compile(r"[\0-\x1f\x7f]+")
# What is a secret by its form, whatever it is called: JSON in base64 (a JWT), and what issuers of keys mark as theirs.
TOKEN = re.compile(
    r"eyJ[A-Za-z0-9_-]{10,}|(?:gh[opsur]|github_pat|glpat|npm|pypi|dop_v1|shpat|[sr]k_live|[sr]k_test)[_-][A-Za-z0-9_-]{16,}"
    r"|(?i:bearer[ +\t]+[A-Za-z0-9._~+/=-]{8})"
    r"|(?i:basic)[ +\t]+(?=[A-Za-z0-9+/_-]*(?:[0-9=]|[a-z][A-Z]))[A-Za-z0-9+/=_-]{6}"
    r"|xox[abeprs]-[A-Za-z0-9-]{10,}|bot\d{6,}:[A-Za-z0-9_-]{20,}|(?:AKIA|ASIA)[A-Z0-9]{16}|AIza[A-Za-z0-9_-]{30,}|sk-[A-Za-z0-9_-]{20,}"
)
WHOLE_TOKEN = re.compile(rf"(?:{TOKEN.pattern})[A-Za-z0-9._~+/=-]*")
# Segments of a path that a secret follows, if what follows is not plainly a word; that a code follows, which may be a
# number; and after which all that is no word is one, of incoming webhooks.
_NAMED = r"(?:.*[-_])?(?:%s)(?:[-_.].*)?"
_CODES = (
    "reset|passwords?|passcodes?|verify|verification|confirm|confirmation|activate|activation|magic|t?otp|pin|2fa|mfa"
)
_SECRETS = "tokens?|secrets?|invites?|invitations?|unsubscribe|keys?|api-?keys?|sessions?|share|signatures?"
BEFORE_CODE, BEFORE_SECRET = (re.compile(_NAMED % names, re.IGNORECASE | re.DOTALL) for names in (_CODES, _SECRETS))
BEFORE_SECRETS = re.compile(r"webhooks?|services|hooks", re.IGNORECASE)
SMALL_ID = re.compile(r"\d{1,5}")
ORIGIN = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://[^/]*")
# Before userinfo: two slashes, or one after any scheme (some servers merge them), or a scheme that browsers know.
# What follows, up to a / and the scheme or other slash before that, is passed over at once: linear.
_COLON, _AT = r"(?::|%(?:25)*3a)", r"(?:@|%(?:25)*40)"
_OTHER_SLASH = r"(?:\\|%(?:25)*(?:2f|5c))"
_SLASH = rf"(?:/|{_OTHER_SLASH})"
_SCHEME = rf"(?:https?|wss?|ftps?){_COLON}"
_ANY_SCHEME = rf"(?<=[a-z0-9+.-]){_COLON}"
MARKED = re.compile(
    rf"({_SCHEME}{_SLASH}?(?!{_SLASH})|{_ANY_SCHEME}{_SLASH}(?!{_SLASH})|{_SLASH}{{2,}})((?:(?!{_ANY_SCHEME}/|{_OTHER_SLASH}/)[^/?#])*)",
    re.IGNORECASE,
)
LAST_AT = re.compile(rf".*{_AT}", re.IGNORECASE | re.DOTALL)
QUERY = re.compile(r"[?#]")
SEPARATOR = re.compile(r"[?&;#]")
ENCODED_MARK = re.compile(r"(%(?:25)*3f)", re.IGNORECASE)
# Letters as JSON spells them, and old servers of Microsoft's.
ESCAPED = re.compile(r"(?:(?<!\\)\\++|%)u00([2-7][0-9a-f])", re.IGNORECASE)
WORD = re.compile(r"\S+")
PAIR = re.compile(r"""(?<![\w.%-])([\w.%-]++)=("[^"]*"?[^\s;,)&]*|[^\s;,)&]+)""")
KEY_OPENS = re.compile(r"[{},(\"'\\\s+&=?;#]")
BLANKS, QUOTES = " \t\r\n+", ('"', "'", "\\")
DECODINGS_MAX, DECODED_MAX, NAMES_MAX = 8, 64, 4096
LEVELS_MAX = 4  # what is encoded more often no server asks for: it is not looked through, but replaced


class PathMask(NamedTuple):
    """Segments of a path, each with whether it is a secret; `rest`: all that follows is one."""

    segments: tuple[tuple[re.Pattern[str], bool], ...]
    rest: bool = False

    def secrets(self, segments: list[str]) -> set[int]:
        """Return which segments are secrets; none, if they are not of this form."""
        count = len(self.segments)
        if len(segments) < count or (len(segments) > count and not self.rest):
            return set()
        if not all(pattern.fullmatch(one) for (pattern, _), one in zip(self.segments, segments, strict=False)):
            return set()
        found = {at for at, (_, is_secret) in enumerate(self.segments) if is_secret}
        return found | (set(range(count, len(segments))) if self.rest else set())


class Policy(NamedTuple):
    """What is a secret beyond what looks like one, and which names are none though they do."""

    keys: re.Pattern[str] | None = None
    spared: re.Pattern[str] | None = None
    paths: tuple[PathMask, ...] = ()


_policies = [Policy()]


def configure(policy: Policy) -> None:
    """Have another policy from now on, everywhere."""
    _policies[0] = policy


def _is_secret(name: str) -> bool:
    """Whether a name is one of secrets, or a part of it is."""
    policy = _policies[0]
    if not policy.keys and not policy.spared:
        return _looks_secret(name)
    parts = [part for part in (name, *PARTS.split(name)) if part]
    if policy.keys and any(map(policy.keys.fullmatch, parts)):
        return True
    if not policy.spared or not _looks_secret(name):
        return _looks_secret(name)
    spared = policy.spared.fullmatch
    return not spared(name) and any(_looks_secret(part) and not spared(part) for part in parts[1:])


@functools.lru_cache(NAMES_MAX)
def _looks_secret(name: str) -> bool:
    """Whether a name looks like one of secrets; some servers pass over control characters."""
    return bool(SECRET_KEY.search(name) or (CONTROLS.search(name) and SECRET_KEY.search(CONTROLS.sub("", name))))


def query(text: str, *, cut: bool = False) -> str:
    """Replace the values of secret-looking keys of a query string, and of queries inside its values."""
    if not cut and not any(map(_tells, _decodings(text))):
        return text  # and no part of it tells more: what decoding makes of a part is a part of what it makes of all
    if _is_deep(text) or _entangled(text):
        return REDACTED
    text = userinfo(text, cut=cut)
    parts = text.split("&")
    if _hidden(text, cut=cut) and any(MARKED.search(_decoded(part)) for part in parts if not _hidden(part)):
        return REDACTED  # userinfo that has an & in it
    out = "&".join(map(_pairs, parts))
    return out if userinfo(out) == out else REDACTED  # what ended an authority is gone


def path(text: str, *, cut: bool = False) -> str:
    """Replace userinfo of URLs inside a path, and secret-looking values of path parameters and of an encoded query."""
    if QUERY.search(text):
        return url(text, cut=cut)
    if _is_deep(text):
        return REDACTED
    if _entangled(text):
        return _before_userinfo(text)
    text = _bare(text)
    if QUERY.search(text):  # which was encoded
        return url(text, cut=cut)
    text = userinfo(text, cut=cut)
    if _hidden(text, cut=cut):
        return url(userinfo(_decoded(text), cut=cut))
    before, *after = ENCODED_MARK.split(text, 1)
    if any(mark in before for mark in ";=%\\") and any(map(_tells, _decodings(before))):
        before = "/".join(map(_parameters, before.split("/")))
    before = _segments(before)
    return f"{before}{after[0]}{query(after[1])}" if after else before


def url(text: str, *, cut: bool = False) -> str:
    """Replace what is secret in an absolute URL or a request target."""
    text, hash_mark, fragment = text.partition("#")
    before, mark, after = text.partition("?")
    in_fragment, in_query = bool(hash_mark), bool(mark)
    before = path(before, cut=cut and not in_query and not in_fragment)
    after = query(after, cut=cut and not in_fragment)
    return f"{before}{mark}{after}{hash_mark}{query(fragment, cut=cut)}"


@functools.lru_cache(DECODED_MAX)
def userinfo(text: str, *, cut: bool = False) -> str:
    """Replace what stands before the last @ of each authority in a text; of one that was cut, all of an unended one."""

    def without(match: re.Match[str]) -> str:
        mark, whole = match.groups()
        found = LAST_AT.match(whole)
        if not found and not (cut and match.end() == len(text)):
            return match[0]
        return f"{mark}{REDACTED}:{REDACTED}@{whole[found.end() :] if found else ''}"

    return MARKED.sub(without, text)


def agent(text: str) -> str:
    """Replace what is a secret in a text that is no URL but may have some, as a User-Agent has."""
    plain = WHOLE_TOKEN.sub(REDACTED, text)
    if "=" in plain:
        plain = PAIR.sub(lambda pair: f"{pair[1]}={REDACTED}" if _is_secret(_decoded(pair[1])) else pair[0], plain)
    return WORD.sub(lambda word: userinfo(word[0]), plain) if "@" in plain or "%" in plain else plain


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


def setting(text: str) -> str:
    """Replace what is secret in a URL that a setting names."""
    return endpoint(url(text))


def _hidden(text: str, *, cut: bool = False) -> bool:
    """Whether there is userinfo that only percent-decoding brings out."""
    decoded = _decoded(text)
    return decoded != text and userinfo(decoded, cut=cut) != decoded


def _entangled(text: str) -> bool:
    """Whether what looks like userinfo has a secret-looking key in it: to replace the one would uncover the other."""
    for match in (*MARKED.finditer(text), *MARKED.finditer(_decoded(text))):
        found = LAST_AT.match(match[2])
        inside = _decoded(match[1] + found[0]) if found else ""
        if any(map(_is_secret, (*_names(inside), *SEPARATOR.split(inside)[1:]))):
            return True
    return False


def _bare(text: str) -> str:
    """Replace the userinfo of what begins as an authority does, not as a path: no server takes it, but it is shown."""
    if text.startswith("/") or ORIGIN.match(text):
        return text
    head, slash, rest = text.partition("/")
    host = host_of(head)
    return text if host == head else f"{REDACTED}:{REDACTED}@{host}{slash}{rest}"


def _before_userinfo(text: str) -> str:
    """Replace all of a path from the first place on where userinfo may stand."""
    match = MARKED.search(_decoded(text)) or MARKED.search(text)
    return url(f"{match.string[: match.end(1)]}{REDACTED}") if match else text


def _pairs(part: str) -> str:
    """Redact what stands between two &: from the first secret on, for not all take a ; for a separator."""
    if not any(map(_tells, _decodings(part))):
        return part
    pairs = [part] if _hidden(part) else part.split(";")
    for i, pair in enumerate(pairs):
        if any(map(_tells, _decodings(pair))):
            return ";".join([*pairs[:i], _without_value(pair, is_last=i == len(pairs) - 1)])
    return part


def _without_value(pair: str, *, is_last: bool) -> str:
    key, equals, value = pair.partition("=")
    inside = _decoded(key)
    if not equals or "=" in inside or MARKED.search(inside) or _tells(inside):
        return REDACTED
    return pair if is_last and not value else f"{key}={REDACTED}"


def _segments(text: str) -> str:
    """Redact segments of a path that are secrets by their form, by what stands before them, or as they were named."""
    origin = ORIGIN.match(text)
    head = origin[0] if origin else ""
    segments = text[len(head) :].split("/")
    plain = [_decoded(segment.partition(";")[0]) for segment in segments]
    secret = {at for at, one in enumerate(plain) if TOKEN.search(one)}
    # As a server takes them, without empty and dot segments.
    pieces = [(at, one) for at, segment in enumerate(plain) for one in segment.split("/") if one not in ("", ".")]
    texts = ["", *(one for _, one in pieces)]
    for mask in _policies[0].paths:
        secret |= {pieces[found - 1][0] for found in mask.secrets(texts) if found}
    secret |= {pieces[found][0] for found in _preceded(texts)}
    return head + "/".join(REDACTED if at in secret and one else one for at, one in enumerate(segments))


def _preceded(texts: list[str]) -> Iterator[int]:
    """Return which segments are secrets by what stands before them."""
    is_hook = False
    for at, (before, one) in enumerate(itertools.pairwise(texts)):
        is_hook = is_hook or bool(BEFORE_SECRETS.fullmatch(before))
        is_code = bool(BEFORE_CODE.fullmatch(before))
        is_small = SMALL_ID.fullmatch(one) and not is_code
        if (is_code or is_hook or BEFORE_SECRET.fullmatch(before)) and not is_small and not words.are_words(one):
            yield at


def _parameters(segment: str) -> str:
    """Redact the parameters of a path segment (RFC 3986 section 3.3), such as ;jsessionid=, and one that is a pair."""
    name, semicolon, rest = segment.partition(";")
    forms = _decodings(name)
    if "=" in forms[-1] and any(map(_tells, forms)):
        name = _pairs(name)
    return f"{name}{semicolon}{_pairs(rest)}" if semicolon else name


def _tells(text: str) -> bool:
    if ("@" in text or "%" in text) and userinfo(text) != text:
        return True
    return any(map(_is_secret, _names(text))) or bool(TOKEN.search(text))


def _names(text: str) -> Iterator[str]:
    """Return what stands before an =; before a colon with no =, or if one of the two is quoted (JSON, GraphQL)."""
    for piece in SEPARATOR.split(text):
        yield from piece.split("=")[:-1]
        before, colon, _ = piece.partition(":")
        if colon and not any(mark in before for mark in "=/"):
            yield KEY_OPENS.split(before.strip(BLANKS))[-1]
    for before, after in itertools.pairwise(text.split(":") if ":" in text else ()):
        key = before.rstrip(BLANKS)
        if key.endswith(QUOTES) or after.lstrip(BLANKS).startswith(QUOTES):
            yield KEY_OPENS.split(key.rstrip(BLANKS + "".join(QUOTES)))[-1]


def _is_deep(text: str) -> bool:
    return len(_decodings(text)) > LEVELS_MAX + 1


@functools.lru_cache(DECODED_MAX)
def _decodings(text: str) -> tuple[str, ...]:
    """Return a text, and what decoding makes of it until that changes nothing; the same is asked many times over."""
    found = [text]
    for _ in range(DECODINGS_MAX):
        decoded = ESCAPED.sub(lambda found: chr(int(found[1], 16)), unquote(text)) if _is_encoded(text) else text
        if decoded == text:
            break
        found.append(text := decoded)
    return tuple(found)


def _is_encoded(text: str) -> bool:
    return "%" in text or "\\u" in text or "\\U" in text


def _decoded(text: str) -> str:
    return _decodings(text)[-1]
