"""The fuzzer's checks on some hundred inputs each, by hypothesis: the short form of tests/fuzz/python/run.py."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from fuzz.python.checks import CHECKS

EXAMPLES = int(os.environ.get("RINGSPAN_FUZZ_EXAMPLES", "300"))
SLOW = {"records": 3, "exporters": 15, "cgroups": 3}


@pytest.mark.parametrize("name", CHECKS)
def test_any_input_is_taken(name: str) -> None:
    check = CHECKS[name]
    for one in check.seeds:
        assert check.function(one)

    @seed(20240501)
    @settings(max_examples=EXAMPLES // SLOW.get(name, 1), deadline=None, database=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(st.binary(max_size=check.bytes_max))
    def any_bytes(data: bytes) -> None:
        check.function(data)

    any_bytes()
