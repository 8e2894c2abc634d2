/* The parsing and pairing of ringspan's BPF program as a shared library for unit tests: one connection at a time, driven
 * call by call as calls.h and connection.h drive it in the kernel. */
#include "shim.h"

#include "http1.h"
#include "pair.h"
#include "resync.h"
#include "settle.h"
#include "stream.h"

/* The kernel allows 33 tail calls: one to lay a call out, one to settle it, and these to follow it. */
#define ROUNDS 31
#define PIECES_MAX 4096

enum ending {
	ENDING_PEER_FIN = 0, /* the peer's FIN has come, not yet read */
	ENDING_SHUTDOWN, /* this side has closed for writing */
	ENDING_CLOSE, /* this side has closed, and the socket is gone */
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
static struct connection connection;
static struct work work;
static struct iovec iovecs[2][PIECES_MAX];
static struct mmsghdr_user messages[2][PIECES_MAX];

void harness_load(const u8 *table)
{
	memcpy(automaton.next, table, sizeof(automaton.next));
}

u32 harness_record_bytes(void)
{
	return sizeof(struct record);
}

/* As connection_open. */
void harness_open(u32 role, u32 born)
{
	struct connection *c = &connection;

	memset(c, 0, sizeof(*c));
	memset(&work, 0, sizeof(work));
	for (u32 i = 0; i < SLOTS; i++)
		world.slots[i].used = false;
	memset(world.counters, 0, sizeof(world.counters));
	world.slots_max = SLOTS;
	world.records_max = RECORDS_MAX;
	world.recorded = 0;
	world.next_id = 0;
	world.refuse = false;
	c->head.identity = 0x5eed;
	c->head.inode = 4242;
	c->head.family = 2;
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

/* Fill the tables up before the test: how many exchanges and records fit, and whether traffic is asked for. */
void harness_limit(u32 exchanges, u32 records, u32 refuse)
{
	world.slots_max = min_u64(exchanges, SLOTS);
	world.records_max = min_u64(records, RECORDS_MAX);
	world.refuse = refuse;
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
static u32 follow(void)
{
	struct connection *c = &connection;
	u32 round = 1;

	while (take_turns(&work, c, &automaton))
		if (++round > ROUNDS) {
			c->broken = COUNTER_DESYNC_OVERRUN;
			direction_of(&work, c)->last_ns = work.now_ns;
			return round;
		}
	if (end_of_call(&work, c)) {
		settle(c, work.settle, settle_time(&work));
		work.settle = SETTLE_NOTHING;
	}
	return round;
}

/* One call: the bytes of one span, or of two (a writer that is helped, then the reader's own); then, for a receive, the end
 * of the stream or an error. Returns the rounds it took, 0 if the connection is no longer looked at. */
u32 harness_call(const struct given *given, u32 count_given, u64 now, u32 ended, u32 error)
{
	struct connection *c = &connection;

	if (c->off)
		return 0;
	begin(now);
	work.ended = ended;
	work.error = error;
	if (c->broken) {
		count(c->broken);
		c->broken = 0;
		settle(c, SETTLE_DESYNC, last_moved_ns(c));
	}
	for (u32 i = 0; i < count_given && i < 2; i++)
		lay_out(&given[i], i);
	return follow();
}

/* As exit_send and connection_state learn of an error. */
void harness_error(u32 error)
{
	if (!connection.off && !connection.error)
		connection.error = error;
}

/* As close_egress. */
static void close_egress(bool wholly, u64 now)
{
	struct connection *c = &connection;

	if (!c->closed_ns)
		c->closed_ns = now;
	if (c->off || !outstanding(c))
		return;
	if (wholly)
		settle(c, SETTLE_CLOSED, now);
	else if (c->role == ROLE_SERVER && ends_here(c, SETTLE_CLOSED))
		finish_oldest(c, now, FAILURE_NONE, 0);
}

/* As connection_state and connection_forget. */
void harness_end(u32 ending, u64 now)
{
	struct connection *c = &connection;

	if (ending == ENDING_PEER_FIN) {
		c->peer_gone = 1;
	} else if (ending == ENDING_SHUTDOWN) {
		close_egress(false, now);
	} else {
		if (!c->error)
			close_egress(!c->peer_gone, now);
		if (!c->off && outstanding(c))
			settle(c, SETTLE_CLOSED, c->closed_ns ? c->closed_ns : now);
	}
}

u32 harness_recorded(void)
{
	return world.recorded;
}

void harness_records(struct record *to, u32 count_wanted)
{
	memcpy(to, world.records, count_wanted * sizeof(*to));
}

void harness_counters(u64 *to)
{
	memcpy(to, world.counters, sizeof(world.counters));
}

/* How many exchanges still have a place. */
u32 harness_in_flight(void)
{
	u32 n = 0;

	for (u32 i = 0; i < SLOTS; i++)
		n += world.slots[i].used;
	return n;
}

u32 harness_is_off(void)
{
	return connection.off;
}
