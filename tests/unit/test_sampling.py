"""The SDK's samplers by name, and the budget."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

from ringspan import contract
from ringspan.errors import UsageError
from ringspan.sampling import BURST_S, Rule, Sampler, rule_from_environment

from .rows import CLIENT, batch

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e47{:02x}-00f067aa0ba902b7-{}"


def kept(sampler: Sampler, *changes: dict[str, Any], now: float = 0, slowness: list[float] | None = None) -> list[bool]:
    ratios = np.array(slowness or [1.0] * len(changes))
    return sampler.keep(batch(*changes), ratios, now).tolist()


def with_parent(flags: str) -> dict[str, Any]:
    value = TRACEPARENT.format(0x36, flags).encode()
    return {"traceparent": value, "traceparent_bytes": len(value)}


@pytest.mark.parametrize(
    ("name", "argument", "want"),
    [
        ("", "", Rule(1, True)),
        ("always_on", "", Rule(1, False)),
        ("always_off", "", Rule(0, False)),
        ("traceidratio", "0.25", Rule(0.25, False)),
        ("parentbased_always_off", "", Rule(0, True)),
        ("parentbased_traceidratio", "0.5", Rule(0.5, True)),
    ],
)
def test_names(monkeypatch: pytest.MonkeyPatch, name: str, argument: str, want: Rule) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", name)
    if argument:
        monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", argument)
    assert rule_from_environment() == want


@pytest.mark.parametrize(("name", "argument"), [("jaeger_remote", "1"), ("traceidratio", "2"), ("traceidratio", "x")])
def test_what_is_not_known_is_an_error_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, argument: str
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", name)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", argument)
    with pytest.raises(UsageError, match="OTEL_TRACES_SAMPLER"):
        rule_from_environment()


def test_the_share_by_trace_id_is_the_sdks() -> None:
    ids = np.random.default_rng(1).integers(0, 1 << 64, 2000, dtype=np.uint64).tolist()
    sdk = TraceIdRatioBased(0.3)
    want = [sdk.should_sample(None, one, "x").decision is Decision.RECORD_AND_SAMPLE for one in ids]
    assert kept(Sampler(Rule(0.3, False), 0), *({"trace_id_low": one} for one in ids)) == want


@pytest.mark.parametrize(
    ("rule", "want"), [(Rule(1, True), [True, False, True]), (Rule(0, True), [True, False, False])]
)
def test_a_parent_decides(rule: Rule, want: list[bool]) -> None:
    sampler = Sampler(rule, 0)
    assert kept(sampler, with_parent("01"), with_parent("00"), {}) == want
    assert sampler.unsampled == {"sampler": want.count(False), "budget": 0}


@pytest.mark.parametrize(("sampling", "want"), [("YES", True), ("NO", False)])
def test_what_is_joined_below_a_named_parent_is_sampled_as_that_is(sampling: str, *, want: bool) -> None:
    below = {"sampling": contract.number(f"SAMPLING_{sampling}"), "trace_id_low": 1 if not want else (1 << 64) - 1}
    assert kept(Sampler(Rule(0.5, True), 0), below) == [want]


def test_without_parents_say_the_ratio_decides_by_the_parents_trace() -> None:
    low = int("a3ce929d0e0e4736", 16)
    for ratio in (0.6, 0.7):
        assert kept(Sampler(Rule(ratio, False), 0), with_parent("00")) == [low < ratio * (1 << 64)]


def test_the_budget_is_kept_and_what_is_left_out_is_counted() -> None:
    sampler = Sampler(Rule(1, True), 100)
    total = sum(
        sum(kept(sampler, *({"trace_id_low": i * 7919 + k} for k in range(50)), now=i * 0.025)) for i in range(400)
    )
    assert 100 * 10 <= total <= 100 * (10 + BURST_S)
    assert sampler.unsampled["budget"] == 400 * 50 - total


def test_errors_come_first_then_slow_requests() -> None:
    sampler = Sampler(Rule(1, True), 100)
    kept(sampler, *[{}] * 2000)  # the burst is gone, but for what is kept back
    changes = [{"status": 500}] * 20 + [{}] * 200 + [{"status": 404, **CLIENT}] * 20 + [{}] * 20
    slowness = [1.0] * 240 + [9.0] * 20
    found = kept(sampler, *changes, slowness=slowness)
    assert found[:20] == [True] * 20
    assert found[220:240] == [True] * 20
    assert found[240:] == [True] * 20
    assert sum(found[20:220]) == 0


def test_a_404_is_no_error_of_its_server() -> None:
    sampler = Sampler(Rule(1, True), 100)
    kept(sampler, *[{}] * 2000)
    assert kept(sampler, {"status": 404}, {"status": 404, **CLIENT}) == [False, True]


def test_below_the_budget_all_are_kept() -> None:
    sampler = Sampler(Rule(1, True), 2000)
    assert all(all(kept(sampler, *[{}] * 40, now=i * 0.025)) for i in range(200))
    assert sampler.unsampled == {"sampler": 0, "budget": 0}
