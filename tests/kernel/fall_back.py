"""Attach the first of two captures, of which the first wants a tracepoint more: `python -m kernel.fall_back PLACE KIND`.

KIND is `optional` or `needed`. Prints as JSON what came of it.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from typing import Any

from e2e.kernel_objects import held
from ringspan.probe import captures, child
from ringspan.probe.compiler import import_bcc
from ringspan.probe.settings import ProbeSettings

if __name__ == "__main__":
    place, kind = sys.argv[1:]
    captures.BY_WORD["auto"] = (
        replace(
            captures.SYSCALL,
            how="the first",
            tracepoints=captures.SYSCALL.tracepoints | {place: "on_sys_exit"},
            optional=(*captures.SYSCALL.optional, *([place] if kind == "optional" else [])),
        ),
        captures.SYSCALL,
    )
    approved: list[Any] = []
    attached = child.attach_first(import_bcc(), ProbeSettings(own_tgid=os.getpid()), approved.append)
    links = sum(of == "link" for of, _ in held(os.getpid()))
    found = {"how": attached.capture.how, "why not": attached.obstacles, "approved": len(approved)}
    print(json.dumps(found | {"places": list(attached.links), "links": links}))
