"""Run the guests and print, or with --write put into the README, the table; run.py KERNEL [--count] -- COMMAND runs one
command, with --count where a nanosecond is an instruction: there time is how many were executed.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kernels.lab import ALL, KERNELS, guest_for, start_all
from kernels.machine import missing, run_in
from kernels.packages import LabUnavailable
from kernels.table import table, write

COMMAND_SECONDS = 3600.0


def all_kernels(to_readme: bool) -> int:
    began = time.monotonic()
    results = [one.result() for one in start_all(ALL).values()]
    for result in results:
        for capture, cell in result.cells.items():
            for name, text in cell.failed.items():
                print(f"{result.kernel.release}, {capture}: {name}\n{text}\n")
        print(f"Linux {result.kernel.release}: {result.seconds:.0f} s")
    text = table(results)
    print(f"{text}\nin {time.monotonic() - began:.0f} s")
    if to_readme:
        write(text)
    return int(not all(cell.works for result in results for cell in result.cells.values()))


def main(arguments: list[str]) -> int:
    if reason := missing():
        print(f"no kernel lab: {reason}", file=sys.stderr)
        return 3
    try:
        if "--" not in arguments:
            return all_kernels("--write" in arguments)
        kernel = next(one for one in KERNELS if one.name == arguments[0])
        of_ours, command = arguments[: arguments.index("--")], arguments[arguments.index("--") + 1 :]
        ran = run_in(
            kernel, command, timeout=COMMAND_SECONDS, guest=replace(guest_for(kernel), counts="--count" in of_ours)
        )
    except LabUnavailable as error:
        print(error, file=sys.stderr)
        return 3
    print(ran.output, end="")
    return ran.status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
