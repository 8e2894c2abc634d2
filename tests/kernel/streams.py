"""Streams that are moved through the kernel and through user space: the unit tests' cases, and inputs of the fuzzer."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fuzz.c import corpus
from unit import cases
from unit.cases import CLIENT_SIDE, ETIMEDOUT, SERVER_SIDE, Case, Step

if TYPE_CHECKING:
    from collections.abc import Iterator

CALL_BYTES = 16_000  # as much as a socket takes while nobody reads
MARK = 0xFF
FUZZED_MAX = 150
SHAPES = {"whole": (1, 0, False), "thirds": (3, 0, False), "iovecs": (1, 97, False), "messages": (1, 997, True)}


class Play(NamedTuple):
    """A case from one side, and how its calls are made."""

    name: str
    side: str
    steps: tuple[Step, ...]
    piece: int  # bytes of each iovec, or message; 0: no iovecs
    messages: bool = False
    born: bool = True  # else connected before the trace began


def cut(step: Step, parts: int) -> list[Step]:
    """Cut bytes into calls of like size."""
    size = min(-(-len(step.data) // parts), CALL_BYTES) or 1
    return [step._replace(data=step.data[i : i + size]) for i in range(0, len(step.data), size)] or [step]


def _playable(case: Case) -> bool:
    """No test can wait for a time-out of the kernel's."""
    return not any(step.number == ETIMEDOUT for step in case.steps)


def _of_cases() -> Iterator[Play]:
    for case in filter(_playable, cases.CASES):
        for side in case.sides:
            for name, (parts, piece, messages) in SHAPES.items():
                if case.split or name == "whole":
                    steps = tuple(part for step in case.steps for part in cut(step, parts))
                    yield Play(f"{case.name}-{side}-{name}", side, steps, piece, messages, case.born)


def _decoded(data: bytes) -> list[Step] | None:
    """An input of the fuzzer (tests/fuzz/c/operations.h), if it has calls and parts of the valid exchange alone."""
    steps, what, text, at = [], "request", b"", 2
    while at < len(data):
        if data[at] != MARK or at + 1 == len(data):
            text += data[at : at + 1]
            at += 1
            continue
        operation, number = data[at + 1] >> 4 & 7, data[at + 1] & 15
        if operation not in (0, 5, 6):
            return None
        steps.append(Step(what, text))
        text, at = b"", at + 2
        if operation == 0:
            what = "response" if number & 1 else "request"
    return [step for step in [*steps, Step(what, text)] if step.data]


def _of_the_fuzzer() -> Iterator[Play]:
    """The longest: they have come furthest. Both sides known, and seen from the first byte."""
    inputs = [(data, _decoded(data)) for data in corpus.read(corpus.CORPUS) if data[0] in (0, 1)]
    usable = [(data, steps) for data, steps in inputs if steps]
    for data, steps in usable[-FUZZED_MAX:]:
        side = CLIENT_SIDE if data[0] else SERVER_SIDE
        yield Play(f"fuzzed {data!r}", side, tuple(steps), 0)


def plays() -> list[Play]:
    return [*_of_cases(), *_of_the_fuzzer()]
