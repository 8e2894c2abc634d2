"""The answers that every Python server gives, free of any server's own interface."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qs

USERS = b'[{"id": 1, "name": "Ada"}, {"id": 2, "name": "Grace"}]\n'
BIG = b"x" * (1024 * 1024)
CHUNKS = (b"one\n", b"two\n", b"three\n")
PAUSE = 0.01  # seconds between two chunks


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes = b""
    kind: str = "text/plain"
    chunks: tuple[bytes, ...] = ()
    sleep: float = 0.0


def answer(method: str, path: str, query: str, body: bytes) -> Answer:
    """What to say to one request; the server decides how to send it."""
    if path == "/echo" and method in ("POST", "PUT"):
        return Answer(200, body, "application/octet-stream")
    if method == "DELETE" and path.startswith("/api/users/"):
        return Answer(200, b"deleted\n")
    if path.startswith("/id/"):
        return Answer(200, path.encode() + b"\n")
    if path == "/slow":
        return Answer(200, b"slow\n", sleep=int(parse_qs(query).get("ms", ["0"])[0]) / 1000)
    fixed = {
        "/api/users": Answer(200, USERS, "application/json"),
        "/boom": Answer(500, b"boom\n"),
        "/chunked": Answer(200, chunks=CHUNKS),
        "/big": Answer(200, BIG, "application/octet-stream"),
        "/empty": Answer(204),
    }
    return fixed.get(path, Answer(404, b"missing\n"))
