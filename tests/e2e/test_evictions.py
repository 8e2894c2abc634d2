"""Connections that were given up for others, and then go on: no answer becomes another request's."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from .numbered import Pair, exchange, get, number_of, ok, pair_maker, read
from .stage import Ports
from .tracer import Tracer, trace

pytestmark = pytest.mark.root
LOOKS_S = 3.5  # two looks at the tables, and a second of idleness before
TABLES = "connections: 64\nexchanges: {exchanges}\n"


@contextmanager
def small(port: int, folder: Path, exchanges: int) -> Iterator[Tracer]:
    config = folder / "ringspan.yaml"
    config.write_text(TABLES.format(exchanges=exchanges))
    with trace("--port", str(port), "--config", str(config)) as tracer:
        yield tracer


def send(sender: socket.socket, receiver: socket.socket, *messages: bytes) -> None:
    for message in messages:
        sender.sendall(message)
        read(receiver, len(message))


def crowd(stack: ExitStack, connected: object, count: int, *, begun: bool = False) -> list[Pair]:
    pairs = [connected() for _ in range(count)]
    for client, server in pairs:
        stack.enter_context(client)
        stack.enter_context(server)
        if begun:
            send(client, server, get(900)[:-4])
    return pairs


def seen(tracer: Tracer) -> list[tuple[str, int, int]]:
    return sorted((row["kind"], number_of(row), row["response_body_bytes"]) for row in tracer.rows(where=lambda row: "error.type" not in row["attributes"]))  # fmt: skip


def both(*numbers: int) -> list[tuple[str, int, int]]:
    return sorted((side, number, number) for side in ("client", "server") for number in numbers)


def test_late_answers_of_a_connection_that_was_given_up(ports: Ports, tmp_path: Path) -> None:
    port = ports.take()
    with ExitStack() as stack, small(port, tmp_path, 64) as tracer:
        connected = stack.enter_context(pair_maker(port))
        ((client, server),) = crowd(stack, connected, 1)
        send(client, server, get(1) + get(2))
        crowd(stack, connected, 40, begun=True)
        time.sleep(LOOKS_S)
        send(server, client, ok(1))
        send(client, server, get(3))
        send(server, client, ok(2), ok(3))
        time.sleep(0.3)
        exchange(client, server, 4)
        exchange(client, server, 5)
        rows = seen(tracer)
        ended = tracer.stop()
    assert rows == both(4, 5)
    assert "lost (evicted)" in ended.ledger
    assert "off by" not in ended.ledger


def test_an_idle_connection_that_was_given_up_loses_nothing(ports: Ports, tmp_path: Path) -> None:
    port = ports.take()
    with ExitStack() as stack, small(port, tmp_path, 64) as tracer:
        connected = stack.enter_context(pair_maker(port))
        ((client, server),) = crowd(stack, connected, 1)
        exchange(client, server, 1)
        crowd(stack, connected, 40)
        time.sleep(LOOKS_S)
        exchange(client, server, 2)
        exchange(client, server, 3)
        rows = seen(tracer)
        ended = tracer.stop()
    assert rows == both(1, 2, 3)
    assert "lost" not in ended.ledger
    assert "connections given up" in ended.ledger


def test_exchanges_that_were_given_up(ports: Ports, tmp_path: Path) -> None:
    """The table of exchanges is the one that is crowded: what is in flight on the connection that was idle longest goes."""
    port = ports.take()
    with ExitStack() as stack, small(port, tmp_path, 64) as tracer:
        connected = stack.enter_context(pair_maker(port))
        ((client, server),) = crowd(stack, connected, 1)
        for number in range(1, 31):
            send(client, server, get(number))
        time.sleep(LOOKS_S)
        ((other, other_server),) = crowd(stack, connected, 1)
        exchange(other, other_server, 50)
        send(server, client, *(ok(number) for number in range(1, 31)))
        time.sleep(0.3)
        exchange(client, server, 60)
        rows = seen(tracer)
        ended = tracer.stop()
    assert rows == sorted([*both(50, 60), *(("server", number, number) for number in range(1, 31))])
    assert "lost (evicted) 30" in ended.ledger
    assert "off by" not in ended.ledger


def test_busy_connections_that_hold_very_many_make_room(ports: Ports, tmp_path: Path) -> None:
    """A peer that pipelines, and says a byte now and then: it is never idle, and others are seen."""
    port = ports.take()
    with ExitStack() as stack, small(port, tmp_path, 256) as tracer:
        connected = stack.enter_context(pair_maker(port))
        greedy = crowd(stack, connected, 4)
        for client, server in greedy:
            send(client, server, b"".join(get(number) for number in range(100, 180)), get(900)[:-4])
        for number in range(40):
            for client, server in greedy:
                send(client, server, b"X")
            if number >= 20:  # by then the tables have been looked at
                ((client, server),) = crowd(stack, connected, 1)
                exchange(client, server, number)
            time.sleep(0.15)
        rows = seen(tracer)
        ended = tracer.stop()
    assert rows == both(*range(20, 40))
    assert "lost (evicted)" in ended.ledger
    assert "off by" not in ended.ledger
