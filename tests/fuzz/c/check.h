/* What must hold of every record, of the counters and of the tables, whatever has been moved. */
#pragma once

#define CAPACITIES(X)                                   \
	X(method, METHOD_MAX, TRUNCATED_METHOD)         \
	X(target, TARGET_MAX, TRUNCATED_TARGET)         \
	X(host, HOST_MAX, TRUNCATED_HOST)               \
	X(user_agent, USER_AGENT_MAX, TRUNCATED_USER_AGENT) \
	X(traceparent, TRACEPARENT_MAX, TRUNCATED_TRACEPARENT) \
	X(tracestate, TRACESTATE_MAX, TRUNCATED_TRACESTATE)

static void check_bounds(const struct record *r)
{
#define IN_BOUNDS(text, capacity, bit) CHECK(r->text##_bytes <= capacity);
	CAPACITIES(IN_BOUNDS)
#undef IN_BOUNDS
	CHECK(r->truncated < 64);
	CHECK(r->version == CONTRACT_VERSION && r->kind == RECORD_EXCHANGE);
	CHECK(r->role == ROLE_CLIENT || r->role == ROLE_SERVER);
	CHECK(r->http_minor <= 1);
	CHECK(r->failure <= FAILURE_INVALID_RESPONSE);
	CHECK(r->trace_id_high | r->trace_id_low);
	CHECK(r->span_id);
	CHECK(r->status == 0 || r->status == 101 || (r->status >= 200 && r->status <= 999));
	CHECK(r->failure != FAILURE_NONE || r->status);
	CHECK(r->failure == FAILURE_NONE || r->failure == FAILURE_INCOMPLETE || !r->status);
	CHECK(r->failure != FAILURE_INCOMPLETE || r->status);
	CHECK(r->start_ktime_ns && r->end_ktime_ns >= r->start_ktime_ns);
	CHECK(!r->status == !r->first_byte_ktime_ns);
}

/* Not by memcmp and memmem: libFuzzer watches those, which takes longer than the rest. */
static bool same(const u8 *a, const void *b, u32 bytes)
{
	for (u32 i = 0; i < bytes; i++)
		if (a[i] != ((const u8 *)b)[i])
			return false;
	return true;
}

static bool contains(const u8 *in, u32 bytes, const char *text, u32 text_bytes)
{
	for (u32 i = 0; i + text_bytes <= bytes; i++)
		if (same(in + i, text, text_bytes))
			return true;
	return false;
}

/* The call that moved this byte of a direction. */
static const struct moved *call_at(const struct talk *t, u32 direction, u32 at)
{
	for (u32 i = 0; i < t->moved_count; i++)
		if (t->moved[i].direction == direction && t->moved[i].from <= at && at < t->moved[i].to)
			return &t->moved[i];
	return 0;
}

/* The request stands where it is said to stand, and came when it is said to have come; returns where its target ends. */
static u32 check_request_line(const struct talk *t, const struct record *r, u32 direction)
{
	const u8 *stream = t->streams[direction];
	u32 at = r->tcp_seq, end = t->sent[direction];
	const struct moved *call = call_at(t, direction, at);

	CHECK(call && !call->opaque && call->begin_ns == r->start_ktime_ns);
	CHECK(r->method_bytes && at + r->method_bytes <= end);
	CHECK(same(stream + at, r->method, r->method_bytes));
	at += r->method_bytes;
	if (!r->target_bytes)
		return at;
	if (r->truncated & TRUNCATED_METHOD)
		while (at < end && stream[at] != ' ')
			at++;
	CHECK(at < end && stream[at] == ' ');
	while (at < end && stream[at] == ' ')
		at++;
	CHECK(at + r->target_bytes <= end);
	CHECK(same(stream + at, r->target, r->target_bytes));
	return at + r->target_bytes;
}

/* Each part of a text stands in the stream from here on. */
static void check_text(const struct talk *t, u32 direction, u32 from, const char *text, u32 bytes)
{
	const u8 *stream = t->streams[direction] + from;
	u32 left = t->sent[direction] - from;

	while (bytes) {
		const char *comma = memchr(text, ',', bytes);
		u32 part = comma ? comma - text : bytes;

		CHECK(contains(stream, left, text, part));
		text += part;
		bytes -= part;
		if (bytes) {
			text++;
			bytes--;
		}
	}
}

static bool ends_status(const struct talk *t, u32 direction, u32 at)
{
	return at == t->sent[direction] || (direction == EGRESS && at == t->unsent_from) || strchr(" \r\n", t->streams[direction][at]);
}

/* Where a status line with this status begins, in these bytes or beyond: its first byte is in [from, to); -1 if nowhere. */
static s64 find_status(const struct talk *t, u32 direction, u32 from, u32 to, u16 status)
{
	const u8 *s = t->streams[direction];

	for (u32 i = from; i < to && i + 12 <= t->sent[direction]; i++)
		if (same(s + i, "HTTP/1.", 7) && s[i + 8] == ' ' &&
		    (s[i + 9] - '0') * 100 + (s[i + 10] - '0') * 10 + s[i + 11] - '0' == status && ends_status(t, direction, i + 12))
			return i;
	return -1;
}

/* The answer stands in the call that is said to have begun it, after the answers of the records before. */
static void check_response(struct talk *t, const struct record *r, u32 direction)
{
	s64 at = -1;

	if (!r->status) {
		CHECK(!r->response_body_bytes);
		return;
	}
	for (u32 i = 0; i < t->moved_count && at < 0; i++)
		if (t->moved[i].direction == direction && t->moved[i].begin_ns == r->first_byte_ktime_ns) {
			u32 from = t->moved[i].from;

			if (t->response_at >= (s64)from)
				from = t->response_at + 1;
			at = find_status(t, direction, from, t->moved[i].to, r->status);
		}
	CHECK(at > t->response_at);
	CHECK(r->first_byte_ktime_ns >= r->start_ktime_ns && r->first_byte_ktime_ns <= r->end_ktime_ns);
	CHECK(r->response_body_bytes <= t->sent[direction] - at);
	t->response_at = at;
}

/* A record of this connection holds nothing that was not moved over it. */
static void check_record(struct talk *t, const struct record *r)
{
	u32 requests = r->role == ROLE_CLIENT ? EGRESS : INGRESS, from;

	talking = t;
	check_bounds(r);
	CHECK(t->role == ROLE_UNKNOWN || r->role == t->role);
	if (t->family == AF_UNIX_)
		return;
	CHECK(r->tcp_seq > t->request_at);
	t->request_at = r->tcp_seq;
	from = check_request_line(t, r, requests);
	check_text(t, requests, from, r->host, r->host_bytes);
	check_text(t, requests, from, r->user_agent, r->user_agent_bytes);
	check_text(t, requests, from, r->traceparent, r->traceparent_bytes);
	check_text(t, requests, from, r->tracestate, r->tracestate_bytes);
	CHECK(r->request_body_bytes <= t->sent[requests] - from);
	check_response(t, r, !requests);
}

/* The ledger's equation, exactly. */
static void check_ledger(void)
{
	u64 *n = counters_values, in_flight = 0;

	for (u32 i = 0; i < exchanges_map.end; i++)
		in_flight += exchanges_used[i] && exchanges_values[i].confirmed == CONFIRMED;
	CHECK(n[COUNTER_SEEN] == n[COUNTER_RECORDED] + in_flight + n[COUNTER_FILTERED] + n[COUNTER_LOST_RING_FULL] +
					 n[COUNTER_LOST_PIPELINE_FULL] + n[COUNTER_LOST_TABLE_FULL] + n[COUNTER_LOST_DESYNC]);
}

/* What has ended leaves nothing behind. */
static void check_gone(const struct talk *t, u64 identity)
{
	CHECK(!connection_of_talk(t));
	for (u32 i = 0; i < exchanges_map.end; i++)
		CHECK(!exchanges_used[i] || exchanges_keys[i].connection != identity);
}

static void check_all_gone(void)
{
	CHECK(!connections_map.end);
	CHECK(!exchanges_map.end);
	CHECK(!calls_map.end);
	CHECK(!attempts_map.end);
	CHECK(!readers_map.end);
	CHECK(!client_ends_map.end);
	CHECK(!causes_map.end);
	for (u32 i = 0; i < servers_map.end; i++)
		CHECK(!servers_used[i] || !servers_values[i].open);
}
