"""The table of states: nothing in it is unreachable, unnumbered or able to jump over what it must see."""

from __future__ import annotations

import re

import numpy as np
import pytest

from ringspan.protocols import http1

NUMBERS = http1.numbers(http1.FORWARDING_FIELDS[1])
NAMES = {number: name for name, number in NUMBERS.items()}
TABLE = np.frombuffer(http1.table(http1.FORWARDING_FIELDS[1]), np.uint8).reshape(256, 256)
FIRST_EVENT = min(NUMBERS[name] for name in http1.EVENTS)
STARTS = ("REQUEST_START", "RESPONSE_START", "SIZE_START", "DATA_END", "TRAILER_LINE")
DEFINES = {name: int(value) for name, value in re.findall(r"#define (\w+) (\d+)", http1.c_header())}


def walk(start: str, data: bytes) -> list[str]:
    """Return the states that bytes lead through; past an event that is dealt with, on from where it resumes."""
    state, seen = NUMBERS[start], []
    for byte in data:
        state = int(TABLE[state, byte])
        seen.append(NAMES[state])
        if state >= FIRST_EVENT:
            state = int(TABLE[state, 0])
    return seen


def events(start: str, data: bytes) -> list[str]:
    return [name for name in walk(start, data) if name.startswith("EVENT_")]


def test_every_state_is_reached() -> None:
    reached, todo = set(STARTS), list(STARTS)
    while todo:
        name = todo.pop()
        if name in http1.EVENTS:
            following = {http1.RESUME[name]} if name in http1.RESUME else set()
        else:
            following = {NAMES[int(n)] for n in np.unique(TABLE[NUMBERS[name]])}
        todo += following - reached
        reached |= following
    assert set(NUMBERS) - reached <= {"REJECTING"}  # which only lends its moves to others


def test_every_state_has_its_own_number_and_leads_to_a_state() -> None:
    assert len(NAMES) == len(NUMBERS)
    assert 0 not in NAMES
    assert set(np.unique(TABLE).tolist()) <= set(NAMES)


def test_numbers_that_are_not_states_reject() -> None:
    unused = [n for n in range(1, FIRST_EVENT) if n not in NAMES]
    assert (TABLE[unused] == NUMBERS["EVENT_REJECT"]).all()


def test_events_are_last() -> None:
    assert sorted(NUMBERS[name] for name in http1.EVENTS) == list(range(FIRST_EVENT, 256))


@pytest.mark.parametrize("name", http1.SKIPPING)
def test_a_skipping_state_is_left_at_a_line_feed_only(name: str) -> None:
    row = TABLE[NUMBERS[name]]
    assert (np.delete(row, ord("\n")) == NUMBERS[name]).all()
    assert row[ord("\n")] != NUMBERS[name]


def test_a_target_is_left_at_a_blank_or_a_line_end_only() -> None:
    row = TABLE[NUMBERS["TARGET"]]
    assert (row[sorted(http1.IN_TARGET)] == NUMBERS["TARGET"]).all()
    assert set(range(256)) - http1.IN_TARGET == set(b" \r\n")
    assert NUMBERS["TARGET"] not in np.delete(row, sorted(http1.IN_TARGET))


@pytest.mark.parametrize("state", http1.WORDS)
def test_a_word_leads_where_its_bytes_lead_past_no_other_mark(state: str) -> None:
    word, there = http1.WORDS[state]
    states = walk(state, word.encode())
    assert states[-1] == there == NAMES[int(TABLE[0, NUMBERS[state]])]
    assert not set(states[:-1]) & {*http1.MARKED, *http1.LEAPING, *http1.KEPT_FIELDS.values(), *http1.EVENTS}


def test_both_versions_are_one_word() -> None:
    """The scanner compares with WORD_VERSION for both."""
    assert http1.WORDS["VERSION"][0] == http1.WORDS["RESPONSE_START"][0]


@pytest.mark.parametrize("first", [name for name in http1.MARKED if name.endswith("_FIRST")])
def test_the_first_byte_of_a_value_leads_where_its_others_lead(first: str) -> None:
    rest = first.removesuffix("_FIRST")
    assert (TABLE[NUMBERS[first]] == TABLE[NUMBERS[rest]]).all()


def test_a_later_digit_is_numbered_next_to_the_first() -> None:
    for name in ("LENGTH", "SIZE"):
        assert NUMBERS[name] == NUMBERS[f"{name}_FIRST"] + 1
    assert [NUMBERS[f"STATUS_{i}"] - NUMBERS["STATUS_1"] for i in (1, 2, 3)] == [0, 1, 2]


def test_the_header_for_c_agrees_with_the_table() -> None:
    states = {name.removeprefix("STATE_"): value for name, value in DEFINES.items() if name.startswith("STATE_")}
    assert states.items() <= NUMBERS.items()
    assert set(http1.EVENTS) | set(http1.MARKED) | set(STARTS) <= states.keys()
    assert DEFINES["STATES_EVENT_FIRST"] == FIRST_EVENT
    leaping = [*http1.LEAPING, *http1.SKIPPING]
    first = DEFINES["STATES_LEAPING_FIRST"]
    assert [NUMBERS[name] for name in leaping] == list(range(first, first + DEFINES["STATES_LEAPING"]))
    assert leaping[: len(http1.LEAPING)][-1] == "TARGET"  # from it on, the scanner jumps to a byte, not over a word


def test_every_mark_that_is_read_is_cleared_before_a_walk() -> None:
    """The scanner clears as many marks as STATES_MARKED says."""
    read = [*http1.MARKED, *http1.LEAPING, *http1.KEPT_FIELDS.values()]
    assert max(NUMBERS[name] for name in read) < DEFINES["STATES_MARKED"]


@pytest.mark.parametrize(
    ("start", "data", "expected"),
    [
        ("REQUEST_START", b"GET / HTTP/1.1\r\n\r\n", ["EVENT_HEAD"]),
        ("REQUEST_START", b"\r\n\nGET / HTTP/1.0\n\n", ["EVENT_HEAD"]),
        ("REQUEST_START", b"\rG", ["EVENT_REJECT"]),
        ("REQUEST_START", b"GET /\r", ["EVENT_REJECT"]),
        ("REQUEST_START", b"GET / HTTP/1.1 ", []),
        ("REQUEST_START", b"GET\t", ["EVENT_REJECT"]),
        ("REQUEST_START", b"PRI * HTTP/2.0\r", ["EVENT_HTTP2"]),
        ("RESPONSE_START", b"HTTP/1.1 200\r\n\r\n", ["EVENT_HEAD"]),
        ("RESPONSE_START", b"HTTP/1.1 2000", ["EVENT_REJECT"]),
        ("RESPONSE_START", b"HTTP/2", ["EVENT_REJECT"]),
        ("LINE", b"Content-Length: 12, 12\r\n", ["EVENT_LENGTH_LIST", "EVENT_LENGTH"]),
        ("LINE", b"Content-Length:1 2\n", ["EVENT_LENGTH_BAD"]),
        ("LINE", b"Content-Length:\n", ["EVENT_LENGTH_BAD"]),
        ("LINE", b"Transfer-Encoding: a, chunked \r\n", ["EVENT_CHUNKED"]),
        ("LINE", b"Transfer-Encoding: chunked, a\r\n", ["EVENT_OTHER_CODING"]),
        ("LINE", b"Transfer-Encoding: chunke\r\n", ["EVENT_OTHER_CODING"]),
        ("LINE", b"tracestate: a\r\ntracestate:\r\ntraceparent: b\n\n", ["EVENT_FIELD", "EVENT_FIELD", "EVENT_HEAD"]),
        ("SIZE_START", b"a;b\r\n", ["EVENT_SIZE"]),
        ("SIZE_START", b"g", ["EVENT_REJECT"]),
        ("SIZE_START", b"\r", ["EVENT_REJECT"]),
        ("DATA_END", b"\r\n1\r\n", ["EVENT_SIZE"]),
        ("DATA_END", b"1", ["EVENT_REJECT"]),
        ("TRAILER_LINE", b"a: b\r\nc\n\r\n", ["EVENT_TRAILER"]),
    ],
)
def test_events(start: str, data: bytes, expected: list[str]) -> None:
    assert events(start, data) == expected
