/* Drives the parsing and pairing of ringspan's BPF program in user space, call by call, as calls.h, work.h and connection.h
 * drive it in the kernel. */
#pragma once

#include "shim.h"

#include "http1.h"
#include "lineage.h"
#include "pair.h"
#include "framing.h"
#include "resync.h"
#include "settle.h"
#include "spans.h"
#include "stream.h"

#include "proxy.h" /* reads by what stream.h has */

/* The kernel allows 33 tail calls: one to lay a call out, one to settle it, and these to follow it. */
#define ROUNDS 31
#define PIECES_MAX 4096

enum ending {
	ENDING_PEER_FIN = 0, /* the peer's FIN has come, not yet read */
	ENDING_SHUTDOWN, /* this side has closed for writing */
	ENDING_CLOSE, /* this side has closed, and the socket is gone */
	ENDING_RESET, /* the socket is gone without a FIN of this side, if it has not sent one before */
};

/* Where bytes lie: plainly if there are no pieces, else as that many iovecs, or as messages of one iovec each. */
struct given {
	u64 begin_ns;
	u64 end_ns;
	u64 bytes;
	const void *data; /* 0: memory that cannot be read */
	const u32 *pieces;
	u32 pieces_count;
	u32 sequence;
	u32 skip;
	u8 direction;
	u8 opaque;
	u8 as_messages;
	u8 _pad;
};

static struct automaton automaton;
static struct work work;
static struct iovec iovecs[2][PIECES_MAX];
static struct mmsghdr_user messages[2][PIECES_MAX];

/* As connection_open. */
static void open_connection(struct connection *c, u64 identity, u32 role, u32 born)
{
	memset(c, 0, sizeof(*c));
	c->head.identity = identity;
	c->head.inode = 4242;
	c->head.family = 2;
	c->sequenced = 1;
	c->local_port = 1111;
	c->remote_port = 2222;
	c->role = role;
	c->role_known = role != ROLE_UNKNOWN ? ROLE_CERTAIN : ROLE_GUESSED;
	c->born = born;
	c->directions[INGRESS].state = role == ROLE_CLIENT ? STATE_RESPONSE_START : STATE_REQUEST_START;
	c->directions[EGRESS].state = role == ROLE_SERVER ? STATE_RESPONSE_START : STATE_REQUEST_START;
	if (born) {
		c->directions[INGRESS].phase = PHASE_HEAD;
		c->directions[EGRESS].phase = PHASE_HEAD;
	}
}

/* As begin_work. */
static void begin(u64 now)
{
	struct work *w = &work;

	w->now_ns = now;
	w->settle_ns = now;
	w->window_at = 0;
	w->span = 0;
	w->spans_count = 0;
	w->position = 0;
	w->filled = 0;
	w->settle = SETTLE_NOTHING;
	w->ended = 0;
	w->error = 0;
	w->resume = 0;
	w->prepared = 0;
}

/* As next_span and locate. */
static void lay_out(const struct given *g, u32 index)
{
	struct span_of_bytes *s = &work.spans[index];
	const char *at = g->data;

	memset(s, 0, sizeof(*s));
	s->direction = g->direction;
	s->begin_ns = g->begin_ns;
	s->end_ns = g->end_ns;
	s->sequence = g->sequence;
	s->has_sequence = 1;
	s->left = g->bytes;
	s->skip = g->skip;
	s->opaque = g->opaque;
	work.spans_count++;
	if (!g->pieces_count) {
		s->base = (u64)at;
		s->length = g->bytes;
		return;
	}
	for (u32 i = 0; i < g->pieces_count && i < PIECES_MAX; i++) {
		iovecs[index][i] = (struct iovec){.iov_base = (void *)at, .iov_len = g->pieces[i]};
		messages[index][i] = (struct mmsghdr_user){.iov = (u64)&iovecs[index][i], .iov_count = 1, .bytes = g->pieces[i]};
		at += g->pieces[i];
	}
	if (g->as_messages) {
		s->messages = (u64)messages[index];
		s->message_count = g->pieces_count;
		s->left = 0;
	} else {
		s->iov = (u64)iovecs[index];
		s->iov_count = g->pieces_count;
	}
}

/* As the programs follow, settle and overrun_call; returns the rounds it took. */
static u32 follow(struct connection *c)
{
	u32 round = 1;

	while (take_turns(&work, c, &automaton))
		if (++round > ROUNDS) {
			overrun(&work, c);
			return round;
		}
	if (end_of_call(&work, c)) {
		settle(c, work.settle, settle_time(&work));
		work.settle = SETTLE_NOTHING;
	} else {
		note_progress(c);
	}
	return round;
}

/* As settlement_of. */
static u32 settlement(struct connection *c, u32 how)
{
	if (!c->broken)
		return how;
	count(c->broken);
	c->broken = 0;
	return SETTLE_DESYNC;
}

/* What a receive met after its bytes. */
struct met {
	u32 ended;
	u32 error;
};

/* One call: the bytes of one span, or of two (a writer that is helped, then the reader's own); then, for a receive, the end
 * of the stream or an error. Returns the rounds it took, 0 if the connection is no longer looked at. */
static u32 move_bytes(struct connection *c, const struct given *given, u32 count_given, u64 now, struct met met)
{
	if (c->off)
		return 0;
	begin(now);
	work.ended = met.ended;
	work.error = met.error;
	if (c->broken)
		settle(c, settlement(c, SETTLE_NOTHING), last_moved_ns(c));
	for (u32 i = 0; i < count_given && i < 2; i++)
		lay_out(&given[i], i);
	skip_proxy_header(&work, c);
	return follow(c);
}

/* As exit_sending and connection_state learn of an error. */
static void meet_error(struct connection *c, u32 error)
{
	if (!c->off && !c->error)
		c->error = error;
}

/* As close_egress. */
static void close_egress(struct connection *c, bool wholly, u64 now)
{
	if (!c->closed_ns)
		c->closed_ns = now;
	if (c->off || !outstanding(c))
		return;
	if (wholly || c->broken)
		settle(c, settlement(c, SETTLE_CLOSED), now);
	else if (c->role == ROLE_SERVER && ends_here(c, SETTLE_CLOSED))
		finish_oldest(c, now, FAILURE_NONE, 0);
}

/* As connection_forget. */
static void forget_connection(struct connection *c, u64 now)
{
	c->reset = c->head.family != AF_UNIX_ && !c->closed_ns;
	if (!c->off && outstanding(c))
		settle(c, settlement(c, SETTLE_CLOSED), end_time(c, now));
}

/* As connection_state, then connection_forget. */
static void end_connection(struct connection *c, u32 ending, u64 now)
{
	if (ending == ENDING_PEER_FIN) {
		c->peer_gone = 1;
	} else if (ending == ENDING_SHUTDOWN) {
		close_egress(c, false, now);
	} else {
		if (ending == ENDING_CLOSE && !c->error && !c->closed_ns)
			close_egress(c, !c->peer_gone, now);
		forget_connection(c, now);
	}
}

/* How many exchanges still have a place. */
static u32 exchanges_in_flight(void)
{
	u32 n = 0;

	for (u32 i = 0; i < world.slots_end; i++)
		n += world.slots[i].used;
	return n;
}
