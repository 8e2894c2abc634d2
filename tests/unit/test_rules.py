"""Rules: what they match, what they refuse, what becomes of records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ringspan import contract, resource, rules
from ringspan.errors import UsageError
from ringspan.identify import Identifier
from ringspan.ledger import Here, exchange_account
from ringspan.metrics.exchanges import ExchangeMetrics, Limits
from ringspan.rules import Facts, parse
from ringspan.sampling import Rule as SdkRule
from ringspan.sampling import Sampler
from ringspan.spans import TARGET_CUT
from ringspan.verdicts import Verdicts

from .rows import CLIENT, batch, row
from .test_identify import process

FACTS = Facts(
    exe="/usr/sbin/nginx",
    command_line="nginx: worker process -c /etc/nginx.conf",
    cgroup="/\n/system.slice/web@1.service",
    unit="web@1.service",
    container="0123abc" + "d" * 57,
    environment={"OTEL_SERVICE_NAME": "shop", "OTEL_RESOURCE_ATTRIBUTES": "a=b,team=blue"},
)
NOTHING = Facts("", "", "", "", "", {})


@pytest.mark.parametrize(
    ("match", "want"),
    [
        ({}, True),
        ({"exe": "nginx"}, True),
        ({"exe": "/usr/*/nginx"}, True),
        ({"exe": ["httpd", "ngin?"]}, True),
        ({"exe": "/usr/sbin"}, False),
        ({"exe": "*/httpd"}, False),
        ({"command_line": "nginx: worker*"}, True),
        ({"command_line": "worker"}, False),
        ({"cgroup": "/system.slice/*"}, True),
        ({"cgroup": "/user.slice/*"}, False),
        ({"unit": "web@*"}, True),
        ({"unit": "web@1"}, True),
        ({"unit": "web@1.service"}, True),
        ({"unit": "web"}, False),
        ({"container": "0123abc"}, True),
        ({"container": "123abc"}, False),
        ({"environment": {"OTEL_SERVICE_NAME": "sh*"}}, True),
        ({"environment": {"OTEL_RESOURCE_ATTRIBUTES": "*team=blue*"}}, True),
        ({"environment": {"OTEL_SERVICE_NAME": "cart"}}, False),
        ({"exe": "nginx", "unit": "mail"}, False),
    ],
)
def test_conditions_on_a_process(match: dict[str, Any], want: bool) -> None:
    (rule,) = parse([{"match": match, "drop": True}], "rules")
    assert rule.is_of(FACTS) == want
    assert rule.is_of(NOTHING) == (not match)


@pytest.mark.parametrize("key", [*rules.OF_PROCESS, "environment"])
def test_what_is_not_known_matches_no_condition(key: str) -> None:
    match = {key: {"OTEL_SERVICE_NAME": "*"} if key == "environment" else "*"}
    (rule,) = parse([{"match": match, "drop": True}], "rules")
    assert rule.is_of(FACTS)
    assert not rule.is_of(NOTHING)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"match": {"exe": "a"}}, "rules 1: it does nothing"),
        ({"dropp": True}, "unknown key 'dropp'; did you mean 'drop'?"),
        ({"match": {"ports": 80}, "drop": True}, "rules 1: match: unknown key 'ports'; did you mean 'port'?"),
        ({"match": {"path": "/a"}, "set": {"service.name": "a"}}, "a path does not tell one"),
        ({"match": {"path": ["/a", "healthz"]}, "drop": True}, "path: 'healthz' matches no path"),
        ({"match": {"environment": {"PASSWORD": "x"}}, "drop": True}, "no other variable of a process is kept"),
        ({"match": {"environment": 3}, "drop": True}, "match: environment: 3 is not a mapping"),
        ({"set": {"telemetry.sdk.name": "a"}}, "'telemetry.sdk.name' is not an attribute that can be set"),
        ({"set": {"a b": "a"}}, "'a b' is not an attribute"),
        ({"sample": 2}, "sample: 2 is not a number from 0 to 1"),
        ({"match": {"exe": []}, "drop": True}, "exe is empty, and would match all"),
    ],
)
def test_a_mistake_names_its_rule(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse([given], "rules")
    assert said in str(raised.value)


def test_two_of_one_name_are_a_mistake() -> None:
    with pytest.raises(UsageError, match="two are named 'a'"):
        parse([{"name": "a", "drop": True}, {"name": "a", "drop": True}], "rules")


# --- names ----------------------------------------------------------------------------------------


def test_rules_set_what_a_service_is_called(tmp_path: Path) -> None:
    process(tmp_path, "app", "OTEL_SERVICE_NAME=own\0")
    given = [
        {"match": {"exe": "app", "port": 8080}, "set": {"service.name": "shop", "team": "blue"}},
        {"match": {"role": "client"}, "set": {"service.name": "caller"}},
        {"match": {"exe": "other"}, "set": {"service.name": "other"}},
        {
            "match": {"exe": "app"},
            "set": {"service.name": "last", "service.namespace": "web", "service.instance.id": "7"},
        },
    ]
    identify = Identifier(tmp_path, parse(given, "rules"))
    found = resource.attributes(identify(row()))
    assert {key: found[key] for key in ("service.name", "service.namespace", "service.instance.id", "team")} == {
        "service.name": "shop", "service.namespace": "web", "service.instance.id": "7", "team": "blue",
    }  # fmt: skip
    assert identify(row(local_port=8081)).service_name == "last"
    assert identify(row(**CLIENT)).service_name == "shop"  # port 8080 is the server's, on either side
    assert identify(row(**CLIENT | {"remote_port": 80})).service_name == "caller"
    identify.set_rules(())
    assert identify(row()).service_name == "own"


def test_series_of_one_process_are_apart_by_port_if_rules_ask_for_it(tmp_path: Path) -> None:
    process(tmp_path, "app")
    given = parse([{"match": {"port": port}, "set": {"service.name": f"on-{port}"}} for port in (80, 81)], "rules")
    metrics = ExchangeMetrics(Limits(), Identifier(tmp_path, given), 0, 1)
    metrics.regroup(by_port=rules.name_by_port(given))
    metrics.add(batch({"local_port": 80}, {"local_port": 81}, {"local_port": 81}), 0, 1)
    snapshot = metrics.snapshot(1)
    totals = snapshot.histograms["duration"].totals
    counted = {key.identity.service_name: int(totals[snapshot.rows[slot]]) for key, slot in snapshot.keys.items()}
    assert counted == {"on-80": 1, "on-81": 2}


# --- verdicts -------------------------------------------------------------------------------------


def verdicts_of(proc: Path, *given: dict[str, Any]) -> Verdicts:
    compiled = parse(list(given), "rules")
    identify = Identifier(proc, compiled)
    return Verdicts(compiled, lambda row: identify.who(row).deciding)


def to(path: str, **changes: Any) -> dict[str, Any]:
    return {"target": path.encode(), "target_bytes": len(path), **changes}


CONNECT = {**CLIENT, "kind": contract.number("RECORD_CONNECT_FAILURE"), "failure": 1, "status": 0, "target": b""}


def test_dropped_records_are_counted_by_rule(tmp_path: Path) -> None:
    process(tmp_path, "app")
    health = {"name": "health", "match": {"path": ["/health*", "/ready"]}, "drop": True}
    verdicts = verdicts_of(tmp_path, health, {"name": "off", "match": {"port": 9}, "drop": True})
    given = [
        to("/healthz"), to("/ready?x=1"), to("/ready/x"), to("/a?b=/healthz"), to("/a", local_port=9),
        to("http://h/ready#x"), CONNECT, CONNECT | {"remote_port": 9}, {"tgid": 78, **to("/healthz")},
    ]  # fmt: skip
    kept, shares = verdicts.keep(batch(*given))
    assert kept["target"].tolist() == [b"/ready/x", b"/a?b=/healthz", b""]
    assert shares is not None
    assert shares.tolist() == [1.0, 1.0, 1.0]
    assert verdicts.dropped == {"exchanges": {"health": 4, "off": 1}, "connects": {"off": 1}}
    kernel = {"recorded": 9, "filtered": 0, "seen": 9}
    account = exchange_account(kernel, 0, 0, Here(by_rule=dict(verdicts.dropped["exchanges"])))
    assert (
        account.line()
        == "exchanges: seen 9 = recorded 4 + in flight 0 + filtered 0 + filtered (rule health) 4 + filtered (rule off) 1"
    )


def test_paths_are_judged_as_a_server_takes_them(tmp_path: Path) -> None:
    process(tmp_path, "app")
    verdicts = verdicts_of(tmp_path, {"match": {"path": ["/health*", "*.js", "/ready/"]}, "drop": True})
    hidden = ["/health/../admin", "/a.js/..", "/ready"]
    dropped = ["/%68ealth", "//healthz", "/a/../health", "/./x.js", "/ready/"]
    cut = to("/" + "a" * 600 + ".js", truncated=TARGET_CUT)
    kept, _ = verdicts.keep(batch(*map(to, [*hidden, *dropped]), cut))
    assert kept["target"].tolist() == [*map(str.encode, hidden), cut["target"]]


def test_what_is_in_flight_is_judged_and_not_counted(tmp_path: Path) -> None:
    verdicts = verdicts_of(tmp_path, {"match": {"path": "/healthz"}, "drop": True})
    assert verdicts.undropped(batch(to("/healthz"), to("/a")))["target"].tolist() == [b"/a"]
    assert verdicts.dropped == {"exchanges": {}, "connects": {}}


def test_rules_leave_a_share_of_traces(tmp_path: Path) -> None:
    process(tmp_path, "app")
    verdicts = verdicts_of(
        tmp_path, {"match": {"path": "/half"}, "sample": 0.5}, {"match": {"path": "/none"}, "traces": False}
    )
    ids = [(i << 64) // 1000 for i in range(1000)]
    given = batch(*[to(path, trace_id_low=one) for path in ("/half", "/none", "/all") for one in ids])
    kept, shares = verdicts.keep(given)
    assert len(kept) == 3000
    sampler = Sampler(SdkRule(1, True), 0)
    spans = sampler.keep(kept, np.ones(3000), 0, shares)
    assert [int(part.sum()) for part in np.split(spans, 3)] == [500, 0, 1000]
    assert spans[:1000].tolist() == [one < 1 << 63 for one in ids]  # the same traces everywhere
    assert sampler.unsampled == {"sampler": 0, "rule": 1500, "budget": 0}
    edges = batch(to("/half", trace_id_low=(1 << 63) - 1), to("/half", trace_id_low=1 << 63), to("/none"))
    kept, shares = verdicts.keep(edges)
    assert sampler.keep(kept, np.ones(3), 0, shares).tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("first", "then", "kept", "shares"),
    [
        ({"drop": False}, {"drop": True}, [b"/pay/1"], [1.0]),
        ({"sample": 1.0}, {"sample": 0.01}, [b"/pay/1", b"/x"], [1.0, 0.01]),
        ({"sample": 0.01}, {"sample": 1.0}, [b"/pay/1", b"/x"], [0.01, 1.0]),
        ({"sample": 0.5}, {"traces": False}, [b"/pay/1", b"/x"], [0.5, 0.0]),
        ({"traces": True}, {"sample": 0.5}, [b"/pay/1", b"/x"], [1.0, 0.5]),
        ({"drop": False, "sample": 0.5}, {"drop": True}, [b"/pay/1"], [0.5]),
        ({"sample": 1.0}, {"drop": True}, [], []),
        ({"drop": False}, {"sample": 0.5}, [b"/pay/1", b"/x"], [0.5, 0.5]),
    ],
)
def test_of_what_rules_say_of_the_same_the_first_holds(
    tmp_path: Path, first: dict[str, Any], then: dict[str, Any], kept: list[bytes], shares: list[float]
) -> None:
    process(tmp_path, "app")
    given = {"name": "pay", "match": {"path": "/pay*"}, **first}, {"name": "rest", **then}
    verdicts = verdicts_of(tmp_path, *given)
    found, left = verdicts.keep(batch(to("/pay/1"), to("/x")))
    assert left is not None
    assert (found["target"].tolist(), left.tolist()) == (kept, shares)
    dropped = {"rest": 2 - len(kept)} if len(kept) < 2 else {}
    assert verdicts.dropped["exchanges"] == dropped


def test_a_process_that_executes_another_program_is_judged_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ringspan.identify.RECHECK_S", 0)
    process(tmp_path, "app")
    verdicts = verdicts_of(tmp_path, {"name": "app", "match": {"command_line": "app"}, "drop": True})
    assert len(verdicts.keep(batch({}))[0]) == 0
    (tmp_path / "77/cmdline").write_text("other\0")
    assert len(verdicts.keep(batch({}))[0]) == 0
    verdicts.forget()  # once a second
    assert len(verdicts.keep(batch({}))[0]) == 1


def test_no_rules_cost_nothing(tmp_path: Path) -> None:
    given = batch({})
    assert verdicts_of(tmp_path).keep(given) == (given, None)
    assert verdicts_of(tmp_path, {"set": {"service.name": "a"}}).keep(given)[0] is given
