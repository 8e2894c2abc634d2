"""One request made again and again, until it is taken, refused for good, or too old."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from ringspan.otlp.send import Answer

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

REJECTED, LEFT = "rejected by the receiver", "not sent by the end"  # the ledger's words
FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 10.0
JITTER = random.SystemRandom()  # not the interpreter's own, whose state others may count on


def settle(attempt: Callable[[], Answer], patience_s: float, ending: threading.Event) -> Answer:
    """Return the last answer to attempts for so many seconds; once all ends the one under way is the last."""
    last = time.monotonic() + patience_s
    wait = FIRST_WAIT_S
    while True:
        answer = _answer(attempt)
        pause = max(answer.wait_s or 0.0, wait * JITTER.uniform(0.5, 1.0))
        over = ending.is_set() or time.monotonic() + pause > last
        if answer.taken or not answer.again or over:
            return answer
        wait = min(wait * 2, LONGEST_WAIT_S)
        ending.wait(pause)


def _answer(attempt: Callable[[], Answer]) -> Answer:
    try:
        return attempt()
    except Exception as error:  # noqa: BLE001 - whatever a receiver answers, the thread that sends goes on
        return Answer(taken=False, reason=type(error).__name__)
