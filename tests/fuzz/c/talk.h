/* A connection with what has been moved over it so far, so that records can be held against it. */
#pragma once

#include <stdio.h>
#include <stdlib.h>

#define STREAM_MAX (1 << 13)
#define CALLS_MAX 256

/* What a call moved: a part of its direction's stream. */
struct moved {
	u64 begin_ns;
	u64 end_ns;
	u32 from;
	u32 to;
	u8 direction;
	u8 opaque;
};

struct talk {
	struct connection connection;
	u8 role;
	u8 refused;
	u16 family;
	u32 moved;
	u32 sent[2];
	u32 calls_count;
	u32 records;
	s64 request_at; /* where the last record's request begins, and its response */
	s64 response_at;
	struct moved calls[CALLS_MAX];
	u8 streams[2][STREAM_MAX];
};

static u64 now_ns;
static const struct talk *talking;

static const struct record *checked;

static void print_bytes(const char *name, const void *bytes, u32 count_bytes)
{
	fprintf(stderr, "%s ", name);
	for (u32 i = 0; i < count_bytes && i < 300; i++) {
		u8 c = ((const u8 *)bytes)[i];

		if (c == '\n')
			fputs("\\n", stderr);
		else if (c == '\r')
			fputs("\\r", stderr);
		else if (c < ' ' || c > '~' || c == '\\')
			fprintf(stderr, "\\x%02x", c);
		else
			fputc(c, stderr);
	}
	fputc('\n', stderr);
}

static void print_call(const struct talk *t, const struct moved *m)
{
	char name[64];

	snprintf(name, sizeof(name), "%8llu %s%s", (unsigned long long)m->begin_ns, m->direction == INGRESS ? "<" : ">",
		 m->opaque ? "?" : "");
	print_bytes(name, &t->streams[m->direction][m->from], m->to - m->from);
}

static void print_record(const struct record *r)
{
	fprintf(stderr, "record: tcp_seq %u, status %u, failure %u, times %llu %llu %llu, bodies %llu %llu, truncated %u\n",
		r->tcp_seq, r->status, r->failure, (unsigned long long)r->start_ktime_ns,
		(unsigned long long)r->first_byte_ktime_ns, (unsigned long long)r->end_ktime_ns,
		(unsigned long long)r->request_body_bytes, (unsigned long long)r->response_body_bytes, r->truncated);
	print_bytes(" method", r->method, r->method_bytes);
	print_bytes(" target", r->target, r->target_bytes);
	print_bytes(" host", r->host, r->host_bytes);
	print_bytes(" user-agent", r->user_agent, r->user_agent_bytes);
	print_bytes(" traceparent", r->traceparent, r->traceparent_bytes);
	print_bytes(" tracestate", r->tracestate, r->tracestate_bytes);
}

/* Say what does not hold, after which calls, and end. */
static void wrong(const char *what, int line)
{
	fprintf(stderr, "does not hold (line %d): %s\n", line, what);
	if (talking) {
		fprintf(stderr, "role %u, family %u, calls (< received, > sent, ? not readable):\n", talking->role, talking->family);
		for (u32 i = 0; i < talking->calls_count; i++)
			print_call(talking, &talking->calls[i]);
	}
	if (checked)
		print_record(checked);
	abort();
}

#define CHECK(holds)                              \
	do {                                      \
		if (!(holds))                     \
			wrong(#holds, __LINE__);  \
	} while (0)

static void begin_talk(struct talk *t, u64 identity, u32 role, u32 born)
{
	open_connection(&t->connection, identity, role, born);
	t->connection.head.inode = identity;
	t->role = role;
	t->refused = 0;
	t->family = t->connection.head.family;
	t->sent[INGRESS] = 0;
	t->sent[EGRESS] = 0;
	t->calls_count = 0;
	t->records = 0;
	t->request_at = -1;
	t->response_at = -1;
}

/* How a call hands its bytes over. */
struct manner {
	u32 piece;	/* bytes of an iovec, 0: no iovecs */
	u32 repeated;	/* how often the bytes stand there */
	u8 opaque;
	u8 unreadable;
	u8 as_messages;
	u8 ends;	/* it is a receive that meets the end of the stream, too */
};

static u32 piece_sizes[PIECES_MAX];

/* Cut so many bytes into pieces; the last is larger than what is left, as a reader's buffer is. */
static u32 cut(u32 bytes, const struct manner *how)
{
	u32 n = 0, left = bytes;

	if (!how->piece)
		return 0;
	while (left && n < PIECES_MAX - 1) {
		piece_sizes[n] = min_u64(how->piece, left);
		left -= piece_sizes[n++];
	}
	if (n && !how->as_messages)
		piece_sizes[n - 1] = left + how->piece;
	else if (n)
		piece_sizes[n - 1] += left;
	return n;
}

/* The only memory that a call may read. */
static const u8 *readable_from, *readable_to;

static bool may_read(u64 from, u64 bytes)
{
	u64 to = from + bytes;

	return (from >= (u64)readable_from && to <= (u64)readable_to) ||
	       (from >= (u64)iovecs && to <= (u64)(iovecs + 2)) || (from >= (u64)messages && to <= (u64)(messages + 2));
}

/* Move bytes over a connection by one call; false if there is no room to keep them. */
static bool move_by(struct talk *t, u32 direction, const u8 *data, u32 bytes, const struct manner *how)
{
	u32 all = bytes * (how->repeated ? how->repeated : 1), at = t->sent[direction];
	u8 *to = &t->streams[direction][at];
	struct given given = {.bytes = all, .sequence = at, .direction = direction, .data = to};

	if (!bytes || at + all > STREAM_MAX || t->calls_count == CALLS_MAX)
		return false;
	for (u32 i = 0; i < all; i += bytes)
		memcpy(to + i, data, bytes);
	now_ns += 10;
	given.begin_ns = now_ns;
	given.end_ns = now_ns + 5;
	given.opaque = how->opaque;
	given.as_messages = how->as_messages;
	given.pieces_count = cut(all, how);
	given.pieces = piece_sizes;
	if (how->unreadable)
		given.data = 0;
	readable_from = to;
	readable_to = to + all;
	t->sent[direction] += all;
	t->calls[t->calls_count++] = (struct moved){given.begin_ns, given.end_ns, at, at + all, direction, how->opaque || how->unreadable};
	move_bytes(&t->connection, &given, 1, now_ns + 5, (struct met){how->ends, 0});
	return true;
}
