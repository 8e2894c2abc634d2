"""What a connection does besides reading messages: bounds, filters, lost sync, calls of every shape, times."""

from __future__ import annotations

import pytest

from ringspan.counts import Counts
from unit.cases import CHUNKED, GET, HI, OK, get, post, response
from unit.harness import CLIENT, CLOSE, EGRESS, INGRESS, SERVER, SHUTDOWN, Connection, text


def targets(connection: Connection) -> list[bytes]:
    return [text(record, "target") for record in connection.records()]


def test_more_requests_outstanding_than_there_is_room_for() -> None:
    connection = Connection(SERVER)
    for i in range(134):
        connection.call(INGRESS, get(b"/%d" % i))
    for _ in range(2):
        connection.call(EGRESS, OK * 67)
    connection.now += 200_000_000
    connection.call(INGRESS, get(b"/next"))
    connection.call(EGRESS, OK)
    assert targets(connection) == [*(b"/%d" % i for i in range(128)), b"/next"]
    assert connection.counters() == {"seen": 135, "recorded": 129, "lost_pipeline_full": 6, "desync_no_place": 1}
    assert connection.in_flight == 0


def test_all_that_is_outstanding_is_closed() -> None:
    connection = Connection(SERVER)
    for i in range(134):
        connection.call(INGRESS, get(b"/%d" % i))
    connection.end(CLOSE)
    assert connection.counters() == {"seen": 134, "recorded": 128, "lost_pipeline_full": 6}
    assert connection.in_flight == 0


def test_no_room_in_the_table_of_exchanges() -> None:
    connection = Connection(SERVER)
    connection.limit(exchanges=1)
    connection.call(INGRESS, GET + post(b"hello", b"Content-Length: 5"))
    connection.call(EGRESS, HI + OK)
    connection.now += 200_000_000
    connection.call(INGRESS, GET)
    connection.call(EGRESS, HI)
    assert [int(record["response_body_bytes"]) for record in connection.records()] == [2, 2]
    assert connection.counters() == {"seen": 3, "recorded": 2, "lost_table_full": 1, "desync_no_place": 1}


def test_no_room_in_the_ring() -> None:
    connection = Connection(CLIENT)
    connection.limit(records=1)
    for _ in range(3):
        connection.call(EGRESS, GET)
        connection.call(INGRESS, HI)
    assert connection.counters() == {"seen": 3, "recorded": 1, "lost_ring_full": 2}
    assert connection.in_flight == 0


def test_a_filtered_connection_is_not_looked_at_again() -> None:
    connection = Connection(SERVER)
    connection.limit(refuse=True)
    for _ in range(2):
        connection.call(INGRESS, GET)
        connection.call(EGRESS, HI)
    assert connection.off
    assert connection.counters() == {"seen": 1, "filtered": 1}


def test_a_filtered_exchange_gives_its_place_back() -> None:
    connection = Connection(SERVER)
    connection.limit(refuse=True)
    connection.call(INGRESS, GET)
    connection.end(CLOSE)
    assert connection.in_flight == 0


def test_exchanges_filtered_before_the_side_was_certain_give_their_places_back() -> None:
    connection = Connection(born=False)
    connection.limit(refuse=True)
    connection.call(INGRESS, GET)
    connection.call(EGRESS, response(b"200 OK", b"until close"))
    connection.call(INGRESS, GET)
    connection.end(CLOSE)
    assert connection.counters() == {"seen": 2, "filtered": 2}
    assert connection.in_flight == 0


def test_a_call_of_too_many_turns_loses_what_is_outstanding() -> None:
    connection = Connection(CLIENT)
    connection.call(EGRESS, get(b"/1"))
    assert connection.call(INGRESS, response(b"200 OK", b"1\r\nx\r\n" * 2000 + b"0\r\n\r\n", CHUNKED)) > 31
    for target in (b"/2", b"/3", b"/4"):
        connection.call(EGRESS, get(target))
        connection.call(INGRESS, HI)
    assert targets(connection) == [b"/2", b"/3", b"/4"]
    assert connection.counters() == {"seen": 4, "recorded": 3, "desync_overrun": 1, "lost_desync": 1}


@pytest.mark.parametrize("role", [CLIENT, SERVER])
def test_what_passes_out_of_sync_is_measured(role: int) -> None:
    """More pipelined requests in a call than can be followed: of those without a count, the bytes are told."""
    number, (asking, answering) = 1000, (EGRESS, INGRESS) if role == CLIENT else (INGRESS, EGRESS)
    connection = Connection(role)
    connection.call(asking, GET * number)
    connection.call(answering, OK * number)
    counters = connection.counters()
    assert counters["seen"] == counters["lost_desync"] + counters["lost_pipeline_full"]
    unseen = number - counters["seen"]
    assert unseen > 100
    asked = connection.unfollowed_bytes - len(OK) * number
    assert (unseen - 1) * len(GET) < asked <= unseen * len(GET)


@pytest.mark.parametrize(
    "size",
    [
        20,
        64,
        1000,
    ],
)
def test_messages_of_sendmmsg_and_recvmmsg(size: int) -> None:
    requests = post(b"x" * 300, b"Content-Length: 300") + get(b"/2")
    pieces = [len(requests[i : i + size]) for i in range(0, len(requests), size)]
    connection = Connection(SERVER)
    connection.call(INGRESS, requests, pieces, as_messages=1)
    connection.call(EGRESS, HI + OK, [10, len(HI + OK) - 10], as_messages=1)
    assert targets(connection) == [b"/", b"/2"]
    assert connection.records()["request_body_bytes"].tolist() == [300, 0]


def test_pieces_of_no_bytes() -> None:
    connection = Connection(SERVER)
    connection.call(INGRESS, GET, [0] * 40 + [5] + [0] * 40 + [len(GET) - 5] + [0] * 40)
    connection.call(EGRESS, HI, [0, len(HI), 0])
    assert targets(connection) == [b"/"]


def test_memory_that_cannot_be_read() -> None:
    connection = Connection(SERVER)
    connection.call(INGRESS, GET)
    unreadable = connection.given(EGRESS, HI)
    unreadable.data = None
    connection.call_given(unreadable)
    connection.call(INGRESS, get(b"/2"))
    connection.call(EGRESS, HI)
    assert targets(connection) == [b"/2"]
    assert connection.counters() == {"seen": 2, "recorded": 1, "desync_unreadable": 1, "lost_desync": 1}


def test_a_reader_follows_what_a_writer_is_still_sending() -> None:
    """The answer is read before the call that sends the request has returned, all of it or a part."""
    request = post(b"hello", b"Content-Length: 5")
    for helped in (len(request), len(request) - 3):
        connection = Connection(CLIENT)
        written = connection.given(EGRESS, request)
        written.bytes = helped
        connection.call_helped(written, connection.given(INGRESS, HI))
        written.bytes, written.skip = len(request), helped
        connection.call_given(written)
        connection.call(EGRESS, get(b"/2"))
        connection.call(INGRESS, OK)
        assert targets(connection) == [b"/", b"/2"]
        assert connection.counters() == {"seen": 2, "recorded": 2}
        assert int(connection.records()[0]["tcp_seq"]) == 0


def test_a_request_is_taken_back_once() -> None:
    """HTTP/2 after a request, in a send that the reader of what comes back follows first."""
    connection = Connection(born=False)
    connection.call_helped(
        connection.given(EGRESS, GET + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), connection.given(INGRESS, b"x")
    )
    assert connection.counters() == {"seen": 1, "lost_desync": 1, "unseen_http2": 1}
    assert connection.in_flight == 0


def test_what_a_call_sends_that_began_before_the_request_is_no_answer_to_it() -> None:
    connection = Connection(born=False)
    connection.call(INGRESS, get(b"/1"))
    connection.call(EGRESS, HI)
    written = connection.given(EGRESS, OK + HI)
    written.bytes = len(OK)
    connection.call_helped(written, connection.given(INGRESS, get(b"/2")))
    written.bytes, written.skip = len(OK + HI), len(OK)
    connection.call_given(written)
    connection.call(EGRESS, response(b"202 OK", b"", b"Content-Length: 0"))
    assert [(text(r, "target"), int(r["status"])) for r in connection.records()] == [(b"/1", 200), (b"/2", 202)]
    assert connection.counters() == {"seen": 2, "recorded": 2, "unpaired_responses": 2}


@pytest.mark.parametrize("born", [True, False])
@pytest.mark.parametrize("bytewise", [False, True])
def test_answers_that_are_seen_before_what_they_answer(born: bool, bytewise: bool) -> None:
    """Where it is not known which side asks, no request gets its neighbour's."""
    connection = Connection(born=born)
    for n in range(4):
        asked = connection.given(EGRESS, get(b"/%d" % n))
        answer = response(b"20%d OK" % n, b"", b"Content-Length: 0")
        for piece in [answer[i : i + 1] for i in range(len(answer))] if bytewise else [answer]:
            connection.call(INGRESS, piece)
        connection.call_given(asked)
    connection.end(CLOSE)
    assert [(text(r, "target"), int(r["status"])) for r in connection.records()] == []
    assert (connection.counters().get("unpaired_responses", 0) > 0) == born


def test_after_lost_sync_the_rest_of_an_answer_is_not_taken_for_that_of_a_later_request() -> None:
    connection = Connection(SERVER)
    connection.call(INGRESS, get(b"/1"))
    connection.call(EGRESS, response(b"200 OK", b"5\r\nhello!", CHUNKED))
    connection.call(INGRESS, get(b"/2"))
    connection.call(INGRESS, get(b"/3"))
    connection.call(EGRESS, b"the rest of the first answer")
    connection.call(EGRESS, OK)
    connection.call(EGRESS, response(b"201 Created", b"", b"Content-Length: 0"))
    assert targets(connection) == []
    assert connection.counters() == {"seen": 3, "desync_invalid": 2, "lost_desync": 3}
    connection.now += 200_000_000
    connection.call(INGRESS, get(b"/4"))
    connection.call(EGRESS, OK)
    assert targets(connection) == [b"/4"]


def test_the_rest_of_an_answer_and_the_next_one_in_a_call() -> None:
    connection = Connection(SERVER)
    connection.call(INGRESS, get(b"/1"))
    connection.call(EGRESS, response(b"200 OK", b"1\r\nx\r\n" * 400, CHUNKED))
    connection.call(INGRESS, get(b"/2"))
    connection.call(EGRESS, b"0\r\n\r\n" + response(b"202 OK", b"", b"Content-Length: 0"))
    for number in (3, 4):
        connection.call(INGRESS, get(b"/%d" % number))
        connection.call(EGRESS, response(b"20%d OK" % number, b"", b"Content-Length: 0"))
    assert all(text(r, "target") == b"/%d" % (int(r["status"]) % 10) for r in connection.records())
    assert targets(connection)[-1:] == [b"/4"]


@pytest.mark.parametrize("method", [b"HEAD", b"CONNECT"])
def test_an_answer_to_a_request_without_a_place_is_no_other_requests(method: bytes) -> None:
    connection = Connection(CLIENT)
    connection.limit(exchanges=0)
    connection.call(EGRESS, get(b"/0").replace(b"GET", method))
    connection.limit()
    connection.call(INGRESS, response(b"200 OK", b"", b"Content-Length: %d" % len(OK)))
    for number in (1, 2):
        connection.call(EGRESS, get(b"/%d" % number))
        connection.call(INGRESS, response(b"20%d OK" % number, b"", b"Content-Length: 0"))
    assert [(text(r, "target"), int(r["status"])) for r in connection.records()] == [(b"/1", 201), (b"/2", 202)]
    assert connection.counters() == {"seen": 3, "recorded": 2, "lost_table_full": 1, "desync_no_place": 1}


def test_an_answer_whose_request_was_missed_shifts_no_other() -> None:
    connection = Connection(CLIENT)
    connection.call(INGRESS, response(b"201 OK", b"", b"Content-Length: 0"))
    written = connection.given(EGRESS, get(b"/1"))
    written.begin_ns = 1  # its call began before the answer
    connection.call_given(written)
    connection.call(INGRESS, response(b"204 OK"))
    for number in (2, 3):
        connection.call(EGRESS, get(b"/%d" % number))
        connection.call(INGRESS, response(b"20%d OK" % number, b"", b"Content-Length: 0"))
    assert [(text(r, "target"), int(r["status"])) for r in connection.records()] == [(b"/2", 202), (b"/3", 203)]


def test_a_fake_request_in_a_body_does_not_turn_the_sides_around() -> None:
    connection = Connection(born=False)
    connection.call(INGRESS, get(b"/fake"))
    for number in range(3):
        connection.call(EGRESS, get(b"/%d" % number))
        connection.call(INGRESS, HI)
    assert targets(connection) == [b"/1", b"/2"]
    assert set(connection.records()["role"].tolist()) == {CLIENT}


@pytest.mark.parametrize("before", [b"\r\n", b"\n", b"\r"])
def test_the_end_of_a_line_in_mid_stream_is_no_request_of_the_side_that_answers(before: bytes) -> None:
    connection = Connection(born=False)
    connection.call(EGRESS, before)
    connection.call(INGRESS, GET)
    connection.call(EGRESS, HI)
    assert [(int(r["role"]), int(r["status"])) for r in connection.records()] == [(SERVER, 200)]
    assert connection.counters() == {"seen": 1, "recorded": 1}


def test_after_lost_sync_a_pipelining_connection_is_taken_up_only_when_it_was_quiet() -> None:
    connection = Connection(SERVER)
    connection.call(INGRESS, get(b"/1") + get(b"/2"))
    connection.call(EGRESS, response(b"200 OK", b"5\r\nhello!", CHUNKED))
    connection.call(INGRESS, get(b"/3"))
    connection.call(EGRESS, OK)
    assert targets(connection) == []
    connection.now += 200_000_000
    connection.call(INGRESS, get(b"/4"))
    connection.call(EGRESS, OK)
    assert targets(connection) == [b"/4"]


def test_times_are_those_of_the_calls_that_moved_the_first_and_the_last_byte() -> None:
    connection = Connection(SERVER)
    connection.call(INGRESS, b"\r\n")  # 10 to 15
    connection.call(INGRESS, b"P")  # 20 to 25
    connection.call(INGRESS, post(b"he", b"Content-Length: 5")[1:])
    connection.call(INGRESS, b"llo")
    connection.call(EGRESS, b"H")  # 50 to 55
    connection.call(EGRESS, HI[1:-1])
    connection.call(EGRESS, HI[-1:])  # 70 to 75
    connection.call(INGRESS, GET)
    connection.call(EGRESS, OK)  # 90 to 95
    times = [[int(r[f"{name}_ktime_ns"]) for name in ("start", "first_byte", "end")] for r in connection.records()]
    assert times == [[20, 50, 75], [80, 90, 95]]


def test_an_exchange_ends_no_sooner_than_its_bytes() -> None:
    """This side's FIN ends what is outstanding, but for what moved after it."""
    for role, requests, before, after in ((CLIENT, EGRESS, GET, b"HTTP/1.1 200 OK"), (SERVER, INGRESS, b"", GET)):
        connection = Connection(role)
        if before:
            connection.call(requests, before)
        connection.end(SHUTDOWN)
        connection.call(INGRESS, after)  # 30 to 35, or 20 to 25
        moved = connection.now + 5
        connection.now += 10**9
        connection.end(CLOSE)
        (record,) = connection.records()
        assert int(record["end_ktime_ns"]) == moved


def test_first_byte_is_the_final_responses() -> None:
    connection = Connection(CLIENT)
    connection.call(EGRESS, GET)
    connection.call(INGRESS, response(b"103 Early Hints"))
    connection.call(INGRESS, HI)
    assert int(connection.records()[0]["first_byte_ktime_ns"]) == 30


def test_a_query_does_not_count_for_the_endpoint() -> None:
    connection = Connection(SERVER)
    for target in (
        b"/items?id=1",
        b"/items?id=2",
        b"/items",
        b"/item",
        b"/items/?",
        b"/itemsandmore",
        b"/itemsand?more",
    ):
        connection.call(INGRESS, get(target))
        connection.call(EGRESS, OK)
    connection.call(INGRESS, b"PUT /items HTTP/1.1\r\nHost: a\r\n\r\n")
    connection.call(EGRESS, OK)
    counts = Counts()
    counts.add(connection.records())
    assert sorted(count for _, count in counts.totals()) == [1, 1, 1, 1, 1, 3]


def test_a_chunk_size_may_begin_with_many_zeros() -> None:
    connection = Connection(CLIENT)
    connection.call(EGRESS, get(b"/"))
    connection.call(INGRESS, response(b"200 OK", b"0" * 26 + b'5 ;a="b"\r\nhello\r\n0\r\n\r\n', CHUNKED))
    (record,) = connection.records()
    assert (record["response_body_bytes"], record["failure"]) == (5, 0)
