"""What following TLS costs: nginx's requests by wrk, and a pair of SSL_write and SSL_read, with ringspan and without.

sudo .venv/bin/python bench/tls.py [--rounds 3] [--seconds 5]

Each round has each variant once; printed are the median of the rounds, and that of their ratios to the bare run.
"""

from __future__ import annotations

import argparse
import re
import signal
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cost import CONNECTIONS, ROOT, start

from e2e import tls_peers
from peers import process

PAIRS = 20_000
BARE, AGAIN, OTHERS, FOLLOWED = "bare", "bare, once more", "ringspan, other processes", "ringspan, this one"
VARIANTS = (BARE, AGAIN, OTHERS, FOLLOWED)


@contextmanager
def ringspan(variant: str, pids: list[int], other: int) -> Iterator[None]:
    """A tracer that follows these processes, or another one; none for what is bare."""
    if variant in (BARE, AGAIN):
        yield
        return
    asked = [word for pid in (pids if variant == FOLLOWED else [other]) for word in ("--pid", str(pid))]
    tracer, _ = start("--show", "none", "--tls", "auto", *asked)
    try:
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        print(*(line for line in tracer.communicate()[1].splitlines() if "exchanges:" in line), file=sys.stderr)


def requests_per_second(url: str, seconds: int) -> float:
    """By wrk, at full speed, on connections that are kept."""
    command = ["wrk", "-t", "1", "-c", str(CONNECTIONS), "-d", f"{seconds}s", url]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"Requests/sec: +([\d.]+)", text)
    if not found:
        raise SystemExit(f"wrk: {text}")
    return float(found[1])


def pair_ns(pair: subprocess.Popen[str]) -> float:
    """Nanoseconds a pair of SSL_write and SSL_read."""
    assert pair.stdin
    assert pair.stdout
    pair.stdin.write(f"{PAIRS}\n")
    pair.stdin.flush()
    return float(pair.stdout.readline())


def rounds(count: int, measure: Callable[[], float], pids: list[int], other: int) -> dict[str, list[float]]:
    """Measure each variant once a round."""
    found: dict[str, list[float]] = defaultdict(list)
    for _ in range(count):
        for variant in VARIANTS:
            with ringspan(variant, pids, other):
                found[variant].append(measure())
    return found


def print_rows(what: str, found: dict[str, list[float]]) -> None:
    """Print medians, and the medians of ratios with their span."""
    for variant, values in found.items():
        ratios = sorted(value / bare for value, bare in zip(values, found[BARE], strict=True))
        span = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"
        print(f"| {what} | {variant} | {statistics.median(values):.0f} | {span} |", flush=True)


@contextmanager
def pairing(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The program that makes pairs of calls."""
    program = folder / "pair"
    source = ROOT / "bench/tls/pair.c"
    subprocess.run(["cc", "-O2", "-o", str(program), str(source), "-lssl", "-lcrypto"], check=True)
    command = [str(program), str(folder / "server.pem")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as pair:
        pair_ns(pair)
        yield pair
        pair.kill()


def main() -> None:
    """Print a table."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--seconds", type=int, default=5)
    given = arguments.parse_args()
    print("| what | variant | median | ratio to bare |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as name, subprocess.Popen(["sleep", "3600"]) as other:
        folder = Path(name)
        with tls_peers.https_server("nginx", process.free_port(), folder) as nginx:
            workers = [nginx.process.pid, *begun_by(nginx.process.pid)]
            url = nginx.url("/small").replace("localhost", "127.0.0.1")
            found = rounds(given.rounds, lambda: requests_per_second(url, given.seconds), workers, other.pid)
            print_rows("nginx, requests/s", found)
        with pairing(folder) as pair:
            print_rows("ns a pair", rounds(given.rounds, lambda: pair_ns(pair), [pair.pid], other.pid))
        other.kill()


def begun_by(pid: int) -> list[int]:
    """The processes that one has begun."""
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


if __name__ == "__main__":
    main()
