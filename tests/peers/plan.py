"""What clients send, what they report, and which server answers which route."""

from __future__ import annotations

from dataclasses import dataclass, field

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
BODY_10K = bytes(range(256)) * 40
BIG_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Call:
    """One request; a ``Transfer-Encoding: chunked`` header asks for a chunked upload."""

    method: str
    path: str
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def chunked(self) -> bool:
        return any(
            name.lower() == "transfer-encoding" and value.lower() == "chunked" for name, value in self.headers.items()
        )

    @property
    def plain_headers(self) -> dict[str, str]:
        """The headers without the one that only selects the way the body is sent."""
        return {k: v for k, v in self.headers.items() if k.lower() != "transfer-encoding"}


@dataclass(frozen=True)
class Result:
    """What the client itself saw; status 0 means that no response came."""

    method: str
    path: str
    status: int
    response_body_bytes: int
    pid: int


@dataclass(frozen=True)
class Route:
    """A request that every server answers alike, but for those in ``without``."""

    call: Call
    status: int
    without: frozenset[str] = frozenset()


_FILES_ONLY = frozenset({"http.server-1.0"})  # answers GET and HEAD from a folder of files
_CHUNKED = {"Transfer-Encoding": "chunked"}

# http.server-1.0 has /id/0 to /id/999; every other server answers any /id/<n>.
ROUTES: dict[str, Route] = {
    "users": Route(Call("GET", "/api/users"), 200),
    "query": Route(Call("GET", "/api/users?page=2&sort=name"), 200),
    "traced": Route(Call("GET", "/api/users", headers={"traceparent": TRACEPARENT}), 200),
    "head": Route(Call("HEAD", "/api/users"), 200),
    "missing": Route(Call("GET", "/missing/thing"), 404),
    "big": Route(Call("GET", "/big"), 200),
    "id": Route(Call("GET", "/id/7"), 200),
    "boom": Route(Call("GET", "/boom"), 500, _FILES_ONLY),
    "empty": Route(Call("GET", "/empty"), 204, _FILES_ONLY),
    "chunked": Route(Call("GET", "/chunked"), 200, _FILES_ONLY),
    "slow": Route(Call("GET", "/slow?ms=50"), 200, _FILES_ONLY | {"nginx"}),
    "post": Route(Call("POST", "/echo", BODY_10K), 200, _FILES_ONLY),
    "put": Route(Call("PUT", "/echo", b"put body"), 200, _FILES_ONLY),
    "upload": Route(Call("POST", "/echo", BODY_10K, _CHUNKED), 200, _FILES_ONLY),
    "delete": Route(Call("DELETE", "/api/users/1"), 200, _FILES_ONLY),
}


def routes_of(server: str) -> list[Route]:
    """The routes that this server supports, in the table's order."""
    return [route for route in ROUTES.values() if server not in route.without]


def plan_for(server: str, *, chunked_upload: bool = True) -> list[Call]:
    """One call for each route that this server supports."""
    calls = [route.call for route in routes_of(server)]
    return [call for call in calls if chunked_upload or not call.chunked]
