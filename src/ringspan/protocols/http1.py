"""The HTTP/1 automaton: one byte in, one state out, as a table that the kernel and the tests load.

The BPF verifier accepts a table walk over kilobytes where it refuses a switch (too many paths), so the grammar
of RFC 9112 is written here once, as named states, and becomes a 256 x 256 table of next states. The C side knows
the states by the names that `c_header` prints.

Kinds of state, by number: *marked* ones, whose last position in a window the C side reads; *leaping* ones, where the
scanner takes many bytes at once: it jumps to the end of a target, over a known word, or, in *skipping* ones, which
leave only there, to a line feed; plain ones; and *events*, at which it stops.
"""

from __future__ import annotations

import string
from dataclasses import dataclass, field
from functools import cache

ALL = frozenset(range(256))
DIGITS = frozenset(string.digits.encode())
HEX = frozenset(string.hexdigits.encode())
TCHAR = frozenset(b"!#$%&'*+-.^_`|~" + string.ascii_letters.encode()) | DIGITS  # RFC 9110 section 5.6.2
CR, LF, SP, HT, COMMA = (frozenset(c) for c in (b"\r", b"\n", b" ", b"\t", b","))
BLANK = SP | HT
IN_TARGET = ALL - SP - CR - LF  # RFC 3986 has no controls, but some servers answer them, and all read them

# The header fields whose values are kept, and the states that stand for each value.
KEPT_FIELDS = {
    "host": "HOST",
    "user-agent": "USER_AGENT",
    "traceparent": "TRACEPARENT",
    "tracestate": "TRACESTATE",
}
# One field more, if it is asked for: who the client is, by the proxies in between. Its states have numbers in any case.
FORWARDED = "FORWARDED"
FORWARDING_FIELDS = ("forwarded", "x-forwarded-for")
# A repeated one of these must not be lost (W3C Trace Context, section 3.3.1.5), so its end is an event.
COMBINED_FIELDS = {"TRACEPARENT", "TRACESTATE", FORWARDED}

MARKED = [
    "METHOD_FIRST", "METHOD", "TARGET_FIRST", "TARGET_REST", "MINOR_0", "MINOR_1",
    "STATUS_1", "STATUS_2", "STATUS_3", "LENGTH_FIRST", "LENGTH", "SIZE_FIRST", "SIZE",
    *(f"{name}_FIRST" for name in KEPT_FIELDS.values()), f"{FORWARDED}_FIRST",
]  # fmt: skip
# Where a word may come that is taken whole, if it does (any other spelling is walked): the word, and where it leads.
WORDS = {"VERSION": ("HTTP/1.1", "MINOR_1"), "RESPONSE_START": ("HTTP/1.1", "RESPONSE_MINOR"),
         "LINE": ("Content-", "LINE_CONTENT-")}  # fmt: skip
LEAPING = ["VERSION", "RESPONSE_START", "LINE", "TARGET"]  # TARGET: to the next blank or control character
SKIPPING = [*KEPT_FIELDS.values(), FORWARDED, "JUNK", "SIZE_EXTENSION", "TRAILER_JUNK"]
EVENTS = [
    "EVENT_REJECT",  # not HTTP/1, or broken
    "EVENT_HTTP2",  # the connection preface of RFC 9113 section 3.4
    "EVENT_LENGTH",  # end of a Content-Length line
    "EVENT_LENGTH_LIST",  # a comma inside one
    "EVENT_LENGTH_BAD",
    "EVENT_CHUNKED",  # end of a Transfer-Encoding line whose last coding is chunked
    "EVENT_OTHER_CODING",  # ... whose last coding is another
    "EVENT_FIELD",  # end of a combined field
    "EVENT_HEAD",  # the empty line
    "EVENT_SIZE",  # end of a chunk-size line
    "EVENT_TRAILER",  # end of the trailer section
]
# Where the walk goes on once an event is dealt with.
RESUME = {
    "EVENT_LENGTH": "LINE",
    "EVENT_LENGTH_LIST": "LENGTH_START",
    "EVENT_LENGTH_BAD": "LINE",
    "EVENT_CHUNKED": "LINE",
    "EVENT_OTHER_CODING": "LINE",
    "EVENT_FIELD": "LINE",
}


@dataclass
class Automaton:
    """Transitions by state name; for each, later rules win over earlier ones."""

    rules: dict[str, list[tuple[frozenset[int], str]]] = field(default_factory=dict)

    def on(self, state: str, *moves: tuple[frozenset[int], str]) -> None:
        """Add moves (bytes, next state) to a state."""
        self.rules.setdefault(state, []).extend(moves)

    def word(self, start: str, text: str, end: str, otherwise: str, *, fold: bool = True) -> None:
        """Add a path of states that spells text, leads from start to end, and shares common prefixes."""
        here = start
        for i, char in enumerate(text):
            code = {ord(char), ord(char.upper()), ord(char.lower())} if fold else {ord(char)}
            there = end if i == len(text) - 1 else f"{start}_{text[: i + 1].upper()}"
            if there not in self.rules and there != end:
                self.inherit(there, otherwise)
            self.on(here, (frozenset(code), there))
            here = there

    def inherit(self, state: str, parent: str) -> None:
        """Let a state begin with the moves of another."""
        self.on(state, *self.rules[parent])


def _request_line(a: Automaton) -> None:
    a.on(
        "REQUEST_START", (ALL, "EVENT_REJECT"), (TCHAR, "METHOD_FIRST"), (CR, "REQUEST_START_CR"), (LF, "REQUEST_START")
    )
    a.on("REQUEST_START_CR", (ALL, "EVENT_REJECT"), (LF, "REQUEST_START"))
    for state in ("METHOD_FIRST", "METHOD"):
        a.on(state, (ALL, "EVENT_REJECT"), (TCHAR, "METHOD"), (SP, "TARGET_START"))
    # More than one blank around a target is wrong, but understood by many (RFC 9112 section 3).
    a.on("TARGET_START", (ALL, "EVENT_REJECT"), (IN_TARGET, "TARGET_FIRST"), (SP, "TARGET_START"))
    for state in ("TARGET_FIRST", "TARGET"):
        a.on(state, (ALL, "EVENT_REJECT"), (IN_TARGET, "TARGET"), (SP, "VERSION"))
    # A (wrong) target with blanks, that the server answers 400, is kept up to the first, and
    # named as cut: only the version ends it. (If it is a path: prose that ends in a version is none.)
    a.on("TARGET_REST", (ALL, "EVENT_REJECT"), (IN_TARGET, "TARGET_REST"), (SP, "VERSION"))
    a.inherit("VERSION", "TARGET_REST")
    a.word("VERSION", "HTTP/1.", "VERSION_DOT", "TARGET_REST", fold=False)
    a.inherit("VERSION_DOT", "TARGET_REST")
    a.on("VERSION_DOT", (DIGITS, "MINOR_1"), (frozenset(b"0"), "MINOR_0"))
    for state in ("MINOR_0", "MINOR_1"):
        a.inherit(state, "TARGET_REST")
        a.on(state, (CR, "VERSION_CR"), (LF, "LINE"), (SP, "VERSION_BLANK"))
    a.inherit("VERSION_BLANK", "VERSION")
    a.on("VERSION_BLANK", (CR, "VERSION_CR"), (LF, "LINE"), (SP, "VERSION_BLANK"))
    a.on("VERSION_CR", (ALL, "EVENT_REJECT"), (LF, "LINE"))


def _http2_preface(a: Automaton) -> None:
    """PRI * HTTP/2.0: the target is seen as any other, the version tells."""
    a.on("VERSION_HTTP/", (frozenset(b"2"), "VERSION_2"))
    a.inherit("VERSION_2", "TARGET_REST")
    a.on("VERSION_2", (frozenset(b"."), "VERSION_2_DOT"))
    a.inherit("VERSION_2_DOT", "TARGET_REST")
    a.on("VERSION_2_DOT", (frozenset(b"0"), "VERSION_20"))
    a.inherit("VERSION_20", "TARGET_REST")
    a.on("VERSION_20", (CR | LF, "EVENT_HTTP2"))


def _status_line(a: Automaton) -> None:
    a.on("RESPONSE_START", (ALL, "EVENT_REJECT"), (CR | LF, "RESPONSE_START"))
    a.on("REJECTING", (ALL, "EVENT_REJECT"))
    a.word("RESPONSE_START", "HTTP/1.", "RESPONSE_DOT", "REJECTING", fold=False)
    a.on("RESPONSE_DOT", (ALL, "EVENT_REJECT"), (DIGITS, "RESPONSE_MINOR"))
    a.on("RESPONSE_MINOR", (ALL, "EVENT_REJECT"), (SP, "STATUS_START"))
    a.on("STATUS_START", (ALL, "EVENT_REJECT"), (DIGITS, "STATUS_1"))
    a.on("STATUS_1", (ALL, "EVENT_REJECT"), (DIGITS, "STATUS_2"))
    a.on("STATUS_2", (ALL, "EVENT_REJECT"), (DIGITS, "STATUS_3"))
    a.on("STATUS_3", (ALL, "EVENT_REJECT"), (SP | CR, "JUNK"), (LF, "LINE"))


def _fields(a: Automaton) -> None:
    a.on("JUNK", (ALL, "JUNK"), (LF, "LINE"))
    a.on("LINE_CR", (ALL, "JUNK"), (LF, "EVENT_HEAD"))
    a.on("LINE", (ALL, "JUNK"), (CR, "LINE_CR"), (LF, "EVENT_HEAD"))
    names = {**{name: f"{state}_COLON" for name, state in KEPT_FIELDS.items()},
             "content-length": "LENGTH_COLON", "transfer-encoding": "CODING_COLON"}  # fmt: skip
    for name, end in names.items():
        a.word("LINE", name, end, "JUNK")
    for state in KEPT_FIELDS.values():
        _kept_value(a, state)


def _kept_value(a: Automaton, state: str) -> None:
    end_of_line = "EVENT_FIELD" if state in COMBINED_FIELDS else "LINE"
    a.on(f"{state}_COLON", (ALL, "JUNK"), (frozenset(b":"), f"{state}_START"), (LF, "LINE"))
    a.on(f"{state}_START", (ALL, f"{state}_FIRST"), (BLANK | CR, f"{state}_START"), (LF, "LINE"))
    for value in (f"{state}_FIRST", state):
        a.on(value, (ALL, state), (LF, end_of_line))


def _content_length(a: Automaton) -> None:
    """RFC 9110 section 8.6; a list of equal numbers is one number (RFC 9112 section 6.3)."""
    a.on("LENGTH_BAD", (ALL, "LENGTH_BAD"), (LF, "EVENT_LENGTH_BAD"))
    a.on("LENGTH_COLON", (ALL, "JUNK"), (frozenset(b":"), "LENGTH_START"), (LF, "LINE"))
    a.inherit("LENGTH_START", "LENGTH_BAD")
    a.on("LENGTH_START", (BLANK, "LENGTH_START"), (DIGITS, "LENGTH_FIRST"))
    for state in ("LENGTH_FIRST", "LENGTH"):
        a.inherit(state, "LENGTH_BAD")
        a.on(
            state, (DIGITS, "LENGTH"), (COMMA, "EVENT_LENGTH_LIST"), (LF, "EVENT_LENGTH"), (BLANK | CR, "LENGTH_BLANK")
        )
    a.inherit("LENGTH_BLANK", "LENGTH_BAD")
    a.on("LENGTH_BLANK", (BLANK | CR, "LENGTH_BLANK"), (COMMA, "EVENT_LENGTH_LIST"), (LF, "EVENT_LENGTH"))


def _transfer_encoding(a: Automaton) -> None:
    """RFC 9112 section 6.1: only the last coding decides."""
    a.on("CODING_OTHER", (ALL, "CODING_OTHER"), (COMMA, "CODING_START"), (LF, "EVENT_OTHER_CODING"))
    a.on("CODING_COLON", (ALL, "JUNK"), (frozenset(b":"), "CODING_START"), (LF, "LINE"))
    a.inherit("CODING_START", "CODING_OTHER")
    a.on("CODING_START", (BLANK | CR | COMMA, "CODING_START"))
    a.word("CODING_START", "chunked", "CODING_CHUNKED", "CODING_OTHER")
    a.inherit("CODING_CHUNKED", "CODING_OTHER")
    a.on("CODING_CHUNKED", (BLANK | CR, "CODING_CHUNKED"), (COMMA, "CODING_AFTER"), (LF, "EVENT_CHUNKED"))
    a.inherit("CODING_AFTER", "CODING_START")  # empty members do not count (RFC 9110 section 5.6.1.2)
    a.on("CODING_AFTER", (BLANK | CR | COMMA, "CODING_AFTER"), (LF, "EVENT_CHUNKED"))


def _chunks(a: Automaton) -> None:
    """RFC 9112 section 7.1. SIZE_START follows each chunk's data and its line end."""
    a.on("SIZE_START", (ALL, "EVENT_REJECT"), (HEX, "SIZE_FIRST"))
    for state in ("SIZE_FIRST", "SIZE"):
        a.on(
            state,
            (ALL, "EVENT_REJECT"),
            (HEX, "SIZE"),
            (BLANK | frozenset(b";") | CR, "SIZE_EXTENSION"),
            (LF, "EVENT_SIZE"),
        )
    a.on("SIZE_EXTENSION", (ALL, "SIZE_EXTENSION"), (LF, "EVENT_SIZE"))
    a.on("DATA_END", (ALL, "EVENT_REJECT"), (CR, "DATA_END_CR"), (LF, "SIZE_START"))
    a.on("DATA_END_CR", (ALL, "EVENT_REJECT"), (LF, "SIZE_START"))
    a.on("TRAILER_LINE", (ALL, "TRAILER_JUNK"), (CR, "TRAILER_CR"), (LF, "EVENT_TRAILER"))
    a.on("TRAILER_CR", (ALL, "TRAILER_JUNK"), (LF, "EVENT_TRAILER"))
    a.on("TRAILER_JUNK", (ALL, "TRAILER_JUNK"), (LF, "TRAILER_LINE"))


@cache
def automaton(forwarding: str = "") -> Automaton:
    """Build the grammar of requests, responses, chunks and trailers; and of the forwarding field, if one is kept."""
    a = Automaton()
    for part in (_request_line, _http2_preface, _status_line, _fields, _content_length, _transfer_encoding, _chunks):
        part(a)
    if forwarding:  # last, so that all other states have the same numbers without it
        a.word("LINE", forwarding, f"{FORWARDED}_COLON", "JUNK")
        _kept_value(a, FORWARDED)
    return a


@cache
def numbers(forwarding: str = "") -> dict[str, int]:
    """Number every state: marked, skipping, plain; events end at 255. Zero is no state."""
    rules = automaton(forwarding).rules
    first = [*MARKED, *LEAPING, *SKIPPING]
    plain = [name for name in rules if name not in first]
    numbered = {name: i for i, name in enumerate([*first, *plain], start=1)}
    first_event = 256 - len(EVENTS)
    if len(numbered) >= first_event:
        raise ValueError(f"{len(numbered)} states do not fit below {first_event}")
    return numbered | {name: first_event + i for i, name in enumerate(EVENTS)}


@cache
def table(forwarding: str = "") -> bytes:
    """Return next states, 256 rows (the state) of 256 columns (the byte), one byte each."""
    number = numbers(forwarding)
    out = bytearray([number["EVENT_REJECT"]]) * (256 * 256)
    for state, moves in automaton(forwarding).rules.items():
        for codes, target in moves:
            for code in codes:
                out[number[state] * 256 + code] = number[target]
    for state, (_word, target) in WORDS.items():  # row 0, of no state, says where a known word leads
        out[number[state]] = number[target]
    for event, state in RESUME.items():  # column 0 of an event's row says where the walk goes on
        out[number[event] * 256] = number[state]
    return bytes(out)


def c_header() -> str:
    """Print the states as C defines, for the BPF program and for the user-space build of the same code."""
    number = numbers()
    bounds = {
        "STATES_MARKED": len(MARKED) + len(LEAPING) + len(KEPT_FIELDS) + 2,
        "STATES_LEAPING_FIRST": number[LEAPING[0]],
        "STATES_LEAPING": len(LEAPING) + len(SKIPPING),
        "STATES_EVENT_FIRST": number[EVENTS[0]],
    }
    named = [
        *MARKED,
        *LEAPING,
        *KEPT_FIELDS.values(),
        FORWARDED,
        *EVENTS,
        "REQUEST_START",
        "SIZE_START",
        "DATA_END",
        "TRAILER_LINE",
    ]
    defines = {f"STATE_{name}": number[name] for name in named} | bounds
    lines = [f"#define {name} {value}" for name, value in defines.items()]
    for state, (word, _) in WORDS.items():
        lines.append(f"#define WORD_{state} {int.from_bytes(word.encode(), 'little'):#x}ULL")
    return "\n".join(["/* Generated by ringspan.protocols.http1 */", "#pragma once", *lines, ""])
