"""Routes: templates, OpenAPI documents, what is learned, and how few of them there ever are."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from ringspan import openapi, routes
from ringspan.clock import Clock
from ringspan.errors import UsageError
from ringspan.learned import NODES_MAX, VARIETY_MAX, Budget, Learner, shape
from ringspan.metrics import own
from ringspan.metrics.exchanges import ExchangeMetrics, Limits
from ringspan.model import Identity, Route, rows
from ringspan.router import KNOWN_MAX, Router
from ringspan.routes import Routing
from ringspan.spans import SpanMaker
from ringspan.templates import Templates, checked

from .rows import CLIENT, batch, row

TEMPLATES = [
    "/", "/users", "/users/{id}", "/users/me", "/users/{id}/posts/{post}", "/users/{id}/posts/latest", "/files/{name}.json",
    "/files/{name}", "/files/{year}-{month}.json", "/static/*", "/static/app/{v}", "/a%20b", "/x/{y}/", "/deep/{a}/b/{c}/d",
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "want"),
    [
        ("/", "/"),
        ("/users", "/users"),
        ("/users/", None),
        ("/users/7", "/users/{id}"),
        ("/users/me", "/users/me"),
        ("/users/a%2Fb", "/users/{id}"),
        ("/users/7/posts/9", "/users/{id}/posts/{post}"),
        ("/users/me/posts/9", "/users/{id}/posts/{post}"),
        ("/users/me/posts/latest", "/users/{id}/posts/latest"),
        ("/files/a.json", "/files/{name}.json"),
        ("/files/2024-05.json", "/files/{year}-{month}.json"),
        ("/files/.json", "/files/{name}"),
        ("/files/a.xml", "/files/{name}"),
        ("/static/", "/static/*"),
        ("/static/a/b/c.js", "/static/*"),
        ("/static/app/3", "/static/app/{v}"),
        ("/static/app/3/4", "/static/*"),
        ("/static", None),
        ("/a%20b", "/a%20b"),
        ("/a b", "/a%20b"),
        ("/x/1/", "/x/{y}/"),
        ("/x/1", None),
        ("/deep/1/b/2/d", "/deep/{a}/b/{c}/d"),
        ("/deep/1/c/2/d", None),
        ("", None),
        ("users/7", None),
        ("/a" * 100, None),
    ],
)
def test_the_most_literal_template_fits(path: str, want: str | None) -> None:
    for order in (TEMPLATES, TEMPLATES[::-1]):
        found = Templates()
        for template in order:
            found.add(checked(template, "t"))
        assert len(found) == len(TEMPLATES)
        assert found.match(path) == want


@pytest.mark.parametrize(
    "template", ["", "users", "/a{", "/a}", "/a?b", "/a#b", "/*/a", "/a*", "/{a/b}", "/" + "x" * 600, "/a" * 70]
)
def test_what_is_no_template(template: str) -> None:
    with pytest.raises(UsageError, match="not a template"):
        checked(template, "t")


def test_a_path_that_almost_fits_many_ways_costs_little() -> None:
    found = Templates()
    for i in range(12):
        found.add("/" + "/".join("a" if i >> bit & 1 else "{x}" for bit in range(4)) + "/{a}-{b}-{c}-{d}-{e}!")
    began = time.perf_counter()
    assert found.match("/a/a/a/a/" + "-" * 600) is None
    assert time.perf_counter() - began < 1


# --- OpenAPI --------------------------------------------------------------------------------------

DOCUMENT = {
    "openapi": "3.1.0",
    "info": {"title": "Shop", "version": "1", "x": [{"paths": {"/no": 1}}]},
    "servers": [{"url": "https://{region}.example/v1/", "variables": {"region": {"default": "eu"}}}, {"url": "/v2"}],
    "paths": {
        "/carts/{id}": {"get": {"responses": {"200": {"description": "paths:"}}}, "parameters": [{"name": "id"}]},
        "/carts": {"post": {"requestBody": {"content": {"a/b": {"schema": {"$ref": "#/components/x"}}}}}},
        "x-ours": {"/no": {}},
    },
    "components": {"paths": {"/no": {}}, "servers": [{"url": "/no"}]},
}
WANT = ["/v1/carts/{id}", "/v1/carts", "/v2/carts/{id}", "/v2/carts"]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(DOCUMENT),
        json.dumps(DOCUMENT, indent="\t"),
        yaml.safe_dump(DOCUMENT, sort_keys=False),
        yaml.safe_dump(DOCUMENT, sort_keys=False, default_flow_style=True),
        "# a comment\n---\n" + yaml.safe_dump(DOCUMENT, sort_keys=False),
    ],
)
def test_the_paths_of_a_document(tmp_path: Path, text: str) -> None:
    file = tmp_path / "api"
    file.write_text(text)
    assert openapi.paths(str(file), "t") == WANT
    (source,) = routes.parse([{"service": "shop", "openapi": str(file)}], "routes")
    assert source.templates.match("/v2/carts/7") == "/v2/carts/{id}"


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("https://{user}.example:{port}/{basePath}/", "/{basePath}"),
        ("https://{host}", ""),
        ("{scheme}://h/v1", "/v1"),
        ("/{version}", "/{version}"),
    ],
)
def test_variables_of_servers(tmp_path: Path, url: str, base: str) -> None:
    (tmp_path / "api").write_text(json.dumps({"servers": [{"url": url}], "paths": {"/a": {}}}))
    assert openapi.paths(str(tmp_path / "api"), "t") == [f"{base}/a"]
    assert routes.parse([{"openapi": str(tmp_path / "api")}], "routes")


def test_a_swagger_document(tmp_path: Path) -> None:
    for text in ("swagger: '2.0'\nbasePath: /api\npaths: {/a: {}}\n", '{"basePath": "/api", "paths": {"/a": {}}}'):
        (tmp_path / "api").write_text(text)
        assert openapi.paths(str(tmp_path / "api"), "t") == ["/api/a"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a: [",
        "paths: 3",
        "paths: {}",
        "[]",
        "{",
        '{"paths": 3}',
        '{"servers": 3, "paths": {"/a": 1}}',
        "{" * 9999,
        "\0",
    ],
)
def test_what_is_no_document(tmp_path: Path, text: str) -> None:
    (tmp_path / "api").write_text(text)
    with pytest.raises(UsageError, match="api: "):
        openapi.paths(str(tmp_path / "api"), "t")


def test_aliases_build_nothing(tmp_path: Path) -> None:
    bomb = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9) if i else 'x'}]\n" for i in range(30))
    (tmp_path / "api").write_text(bomb + "paths:\n  /a: *a29\n")
    assert openapi.paths(str(tmp_path / "api"), "t") == ["/a"]


# --- learned --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("segment", "want"),
    [
        ("users", "users"), ("v1", "v1"), ("oauth2", "oauth2"), (".well-known", ".well-known"), ("index.html", "index.html"),
        ("foo:batchGet", "foo:batchGet"), ("log_in", "log_in"), ("password-reset", "password-reset"), ("facade", "facade"),
        ("deadbeef", "deadbeef"), ("how-to-write-tests", "how-to-write-tests"), ("v1.2.3", "v1.2.3"), ("", ""),
        ("7", "{id}"), ("-7", "{id}"), ("3.14", "{id}"), ("2024-05-06", "{id}"), ("2024-05-06T07:08:09Z", "{id}"),
        ("5a1c9f3e-0b2d-4c6e-8f10-123456789abc", "{id}"), ("5A1C9F3E-0B2D-4C6E-8F10-123456789ABC", "{id}"),
        ("da39a3ee5e6b4b0d3255bfef95601890afd80709", "{id}"), ("1a2b3c4", "{id}"), ("abcdefabcdefabcd", "{id}"),
        ("01ARZ3NDEKTSV4RRFFQ69G5FAV", "{id}"), ("dQw4w9WgXcQ3kLm9", "{id}"), ("usr_8a7sd8f7", "{id}"), ("order-12345", "{id}"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abcdef", "{id}"), ("me%40example.org", "{id}"), ("me@example.org", "{id}"),
        ("hello%20world", "{id}"), ("%E2%82%AC", "{id}"), ("@ann", "{id}"), ("12345.json", "{id}.json"), ("a;v=1", "a"),
        ("x" * 41, "{id}"), ("how-to-do-3-things-in-100-days", "{id}"), ("<script>", "{id}"),
    ],
)  # fmt: skip
def test_what_looks_like_data(segment: str, want: str) -> None:
    assert shape(segment) == want


def learner(nodes: int = NODES_MAX) -> Learner:
    return Learner(Budget(nodes))


def test_what_varies_much_is_one() -> None:
    learned = learner()
    names = [f"{a}{b}" for a in "abcdefghij" for b in "klmnopqrst"]
    for name in names[:VARIETY_MAX]:
        assert learned.find(f"/blog/{name}/comments", 200) == f"/blog/{name}/comments"
    assert learned.routes == VARIETY_MAX
    assert learned.find(f"/blog/{names[-1]}/comments", 200) == "/blog/{id}/comments"
    assert (learned.routes, learned.merged) == (1, 1)
    assert learned.find("/blog/other/comments") == learned.find(f"/blog/{names[0]}/comments") == "/blog/{id}/comments"
    assert learned.find("/blog/other") is None


def test_the_first_segment_is_never_taken_for_data_because_it_varies() -> None:
    learned = learner()
    for i in range(500):
        learned.find("/" + "".join(chr(97 + int(digit)) for digit in str(i)), 1000)
    assert learned.merged == 0
    assert learned.routes == 500


def test_a_path_that_failed_teaches_nothing() -> None:
    learned = learner()
    assert learned.find("/wp-admin/setup.php") is None
    assert learned.find("/users/7", 200) == "/users/{id}"
    assert learned.find("/users/8") == "/users/{id}"
    assert learned.routes == 1


def test_nodes_of_all_services_are_bounded_and_come_back() -> None:
    budget = Budget(300)
    first, second = Learner(budget), Learner(budget)
    for i in range(1000):
        word = "".join(chr(97 + int(digit)) for digit in str(i))
        first.find(f"/{word}", 10_000)
    assert (first.routes, budget.left) == (300, 0)
    assert second.find("/a", 10) is None
    first.give_back()
    assert second.find("/a", 10) == "/a"
    varied = Learner(Budget(1000))
    for i in range(60):
        varied.find("/x/" + "".join(chr(97 + int(digit)) for digit in str(i)) + "/y", 100)
    assert varied._budget.left == 1000 - varied._nodes
    assert varied._nodes == 3


# --- records --------------------------------------------------------------------------------------


def who(row: Any) -> Identity:
    return Identity(f"svc-{row.tgid}")


def to(path: str, **changes: Any) -> dict[str, Any]:
    return {"target": path.encode(), "target_bytes": len(path), **changes}


def router(*given: Any, learn: bool = False, most: int = 200) -> Router:
    return Router(Routing(routes.parse(list(given), "routes"), learn, most), who)


def found(one: Router, *changes: dict[str, Any]) -> list[Route | None]:
    routes_ = one.of(batch(*changes))
    assert routes_
    return [routes_.of(number) for number in routes_.numbers.tolist()]


def test_records_have_the_routes_of_their_service() -> None:
    one = router("/users/{id}", {"service": "svc-7*", "template": "/users/me"}, {"service": "other", "template": "/x"})
    assert found(
        one, to("/users/me"), to("/users/9?x=/users/me"), to("http://h/users/3#y"), to("/x"), to("*", method=b"OPTIONS"),
        to("h:80", method=b"CONNECT"), to("/users/3", **CLIENT), to("/users/cut", truncated=1), to("/users/8?cut", truncated=1),
        to("/users/5", status=500), {"target": b"", "target_bytes": 0},
    ) == [
        Route("/users/{id}"), Route("/users/{id}"), Route("/users/{id}"), None, None, None, None, None, Route("/users/{id}"),
        Route("/users/{id}"), None,
    ]  # fmt: skip


def test_no_routes_are_the_default() -> None:
    assert router().of(batch(to("/users/7"))) is None
    assert not Routing()


def test_learned_ones_are_marked_and_failures_teach_nothing() -> None:
    one = router("/given/{id}", learn=True)
    assert found(one, to("/a/7"), to("/given/7"), to("/scan/1", status=404), to("/b", status=0), to("/b", status=503)) == [
        Route("/a/{id}", learned=True), Route("/given/{id}"), None, None, None,
    ]  # fmt: skip
    assert found(one, to("/a/9", status=404)) == [Route("/a/{id}", learned=True)]
    assert one.overflowed == 0


def test_a_path_that_failed_first_has_its_route_once_that_is_learned() -> None:
    one, learned = router(learn=True), Route("/orders/list", learned=True)
    assert found(one, to("/orders/list", status=500), to("/scan", status=404)) == [None, None]
    assert found(one, to("/orders/list")) == [learned]
    assert found(one, to("/orders/list", status=500), to("/scan", status=404)) == [learned, None]
    assert found(one, to("/orders/list", status=503)) == [learned]
    assert len(one._failed) == 1


def test_a_span_is_named_by_its_route_and_a_metric_has_it() -> None:
    one = router("/users/{id}", learn=True)
    records = batch(
        to("/users/7"),
        to("/carts/8"),
        to("/nothing/8", status=404),
        to("/users/7", method=b"BREW"),
        to("/users/7", **CLIENT),
    )
    given = one.of(records)
    assert given
    maker = SpanMaker(Clock(), who)
    spans = [
        maker.span(row, given.of(number)) for row, number in zip(rows(records), given.numbers.tolist(), strict=True)
    ]
    assert [span.facts.name for span in spans] == [
        "GET /users/{id}",
        "GET /carts/{id}",
        "GET",
        "HTTP /users/{id}",
        "GET",
    ]
    assert [span.attributes.get("http.route") for span in spans] == [
        "/users/{id}",
        "/carts/{id}",
        None,
        "/users/{id}",
        None,
    ]
    assert [span.attributes.get("ringspan.route.source") for span in spans] == [None, "learned", None, None, None]
    metrics = ExchangeMetrics(Limits(), who, 0, 1)
    metrics.add(records, 0, 1, given)
    keys = [dict(key.attributes) for key in metrics.snapshot(1).keys if key.kind == "server"]
    assert sorted((key["http.request.method"], key.get("http.route", "")) for key in keys) == [
        ("GET", ""), ("GET", "/carts/{id}"), ("GET", "/users/{id}"), ("_OTHER", "/users/{id}"),
    ]  # fmt: skip


def test_a_rows_facts_are_kept_apart_by_route() -> None:
    maker = SpanMaker(Clock(), who)
    names = [maker.span(row(target=b"/a"), route).facts.name for route in (None, Route("/a"), Route("/{x}"), None)]
    assert names == ["GET", "GET /a", "GET /{x}", "GET"]


@pytest.mark.parametrize("learn", [False, True])
def test_two_hundred_thousand_paths_are_few_routes_and_totals_exact(learn: bool) -> None:
    """Words that are no data, under one root and under many; and ids, which are one route."""
    given = [] if learn else ["/users/{id}", "/x/*"]
    one, metrics = router(*given, learn=learn, most=50), ExchangeMetrics(Limits(), who, 0, 1)
    letters, resident = str.maketrans("0123456789", "abcdefghij"), own.Cost.now(0).resident_bytes
    size, total = 2000, 200_000
    records = np.repeat(batch({"tgid": 1}), size)
    for at in range(0, total, size):
        paths = [f"/users/{i}" if i % 2 else f"/{str(i).translate(letters)}/x" for i in range(at, at + size)]
        records["target"], records["target_bytes"] = paths, [len(path) for path in paths]
        metrics.add(records, 0, 1, one.of(records))
        assert max(len(one._known), len(one._failed)) <= KNOWN_MAX
    assert own.Cost.now(0).resident_bytes - resident < 40 << 20
    snapshot = metrics.snapshot(1)
    totals = snapshot.histograms["duration"].totals
    by_route: dict[str, int] = {}
    for key, slot in snapshot.keys.items():
        name = str(dict(key.attributes).get("http.route"))
        by_route[name] = by_route.get(name, 0) + int(totals[snapshot.rows[slot]])
    assert sum(by_route.values()) == total
    assert snapshot.overflowed == 0
    assert by_route["/users/{id}"] == total // 2
    assert len(one) == len(by_route) - 1 == (50 if learn else 1)
    assert by_route["None"] == total // 2 - (49 if learn else 0)
    assert one.overflowed == (by_route["None"] if learn else 0)


def test_services_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringspan.router.SERVICES_MAX", 10)
    one = router(learn=True)
    for tgid in range(100):
        assert found(one, to("/a/7", tgid=tgid)) == [Route("/a/{id}", learned=True)]
    assert len(one._services) == 10
    assert one.forgotten == 90
    assert one._budget.left == NODES_MAX - 20


def test_no_peer_can_make_a_path_pass_for_another() -> None:
    """What tells two paths apart is not the same in two runs."""
    one = router("/a", "/b")
    assert found(one, to("/a"), to("/b")) == [Route("/a"), Route("/b")]
    first, second = one.of(batch(to("/a"))), one.of(batch(to("/b")))
    assert first
    assert second
    assert not np.array_equal(first.numbers, second.numbers)
