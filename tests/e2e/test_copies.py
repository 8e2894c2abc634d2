"""What is attached where the kernel puts programs aside: copies, of which what one has done none does again; events."""

from __future__ import annotations

import os
import sys
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from .kernel_objects import fdinfo
from .stage import Ports, Stage
from .test_odd_calls import (  # noqa: F401  (played here under other tracers)
    test_a_receive_of_no_bytes_is_no_end,
    test_an_end_in_the_midst_of_a_receive,
    test_many_threads_that_sleep_in_receives_hide_no_request,
)
from .test_protocol_cases import outcomes, test_case  # noqa: F401
from .tracer import How, for_ports, trace

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root
WITH_TRACEFS = 'mount -t tracefs tracefs /sys/kernel/tracing && exec "$@"'
ALWAYS = """
from ringspan.probe import preemption

preemption.copied = lambda programs, features: frozenset(programs)
"""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("copies")
    (folder / "sitecustomize.py").write_text(ALWAYS)
    own = Ports()
    run = How(launcher=["unshare", "-m", "sh", "-c", WITH_TRACEFS, "sh"], paths=[str(folder)])
    with (
        trace(*for_ports(own.all), run=run) as tcp,
        trace("--exe", os.path.realpath(sys.executable), run=run) as unix,
    ):
        for tracer in (tcp, unix):
            attached = Counter(info.get("tp_name") for info in fdinfo(tracer.pid))
            assert (attached["inet_sock_set_state"], attached["sched_process_exec"], attached["sys_exit"]) == (3, 1, 0)
        yield Stage(tcp, unix, own, tmp_path_factory.mktemp("sockets"))
