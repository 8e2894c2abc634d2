"""What the Python clients share: reading plans. See "Client programs" in the README."""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    method: str
    url: str
    body: bytes | None
    chunked: bool
    headers: dict[str, str]


def plans() -> Iterator[list[Request]]:
    """Each plan on standard input, as soon as its closing empty line is read."""
    plan: list[Request] = []
    while line := sys.stdin.readline():
        if line != "\n":
            plan.append(_request(line.rstrip("\n")))
            continue
        yield plan
        plan = []


def report(results: list[tuple[int, int]]) -> None:
    for status, size in results:
        print(status, size)
    sys.stdout.flush()


def _request(line: str) -> Request:
    method, url, body, framing, *headers = line.split("\t")
    content = None if body == "-" else base64.b64decode(body)
    named = dict(header.split(": ", 1) for header in headers)
    return Request(method, url, content, framing == "chunked", named)
