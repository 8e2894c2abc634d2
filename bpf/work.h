/* One call's bytes, from where they lie in memory to the exchanges they end: laid out, followed,
 * settled. */
#pragma once

static __always_inline struct span_of_bytes *next_span(struct work *w, u8 direction, u64 begin,
						       u64 end)
{
	struct span_of_bytes *s = &w->spans[w->spans_count & 1];

	__builtin_memset(s, 0, sizeof(*s));
	s->direction = direction;
	s->begin_ns = begin;
	s->end_ns = end;
	w->spans_count++;
	return s;
}

/* Where a program may be put aside for another thread's on the same processor, whose work is then
 * another: a call's work is its thread's. */
#if WORKS > 1
static __always_inline struct work *owned(int i, u64 thread)
{
	struct work *w = works.lookup(&i);

	return w && w->owner == thread ? w : 0;
}

static __always_inline struct work *claimed(int i, u64 thread)
{
	struct work *w = works.lookup(&i);
	u64 owner;

	if (!w)
		return 0;
	owner = __sync_val_compare_and_swap(&w->owner, 0, thread);
	return !owner || owner == thread ? w : 0;
}

#define FIRST_WORK(how, thread)          \
	struct work *w = how(0, thread); \
	if (!w)                          \
		w = how(1, thread);      \
	if (!w)                          \
		w = how(2, thread);      \
	return w

static __always_inline struct work *work_of_thread(void)
{
	u64 thread = bpf_get_current_pid_tgid();

	FIRST_WORK(owned, thread);
}

static __always_inline struct work *claim_work(void)
{
	u64 thread = bpf_get_current_pid_tgid();

	FIRST_WORK(claimed, thread);
}

static __always_inline void release(struct work *w)
{
	__sync_lock_test_and_set(&w->owner, 0);
}
#else
static __always_inline struct work *work_of_thread(void)
{
	int zero = 0;

	return works.lookup(&zero);
}
#define claim_work work_of_thread
#define release(w)
#endif

/* Begin a call's work; 0 if it cannot be done now: the connection then loses sync. */
static __always_inline struct work *begin_work(struct connection *c, u64 connection, u8 direction,
					       u64 now)
{
	struct work *w = claim_work();

	if (!w) {
		c->broken = COUNTER_DESYNC_OVERLAP;
		return 0;
	}
	w->connection = connection;
	w->direction = direction;
	w->now_ns = now;
	w->settle_ns = now;
	w->moved = 0;
	w->opaque = 0;
	w->window_at = 0;
	w->span = 0;
	w->spans_count = 0;
	w->position = 0;
	w->filled = 0;
	w->settle = SETTLE_NOTHING;
	w->ended = 0;
	w->error = 0;
	w->within = 0;
	w->resume = 0;
	w->prepared = 0;
	w->head_read = 0;
	w->answered = 0;
	return w;
}

/* Lay out what a send moved beyond what was followed before. */
static __always_inline void span_sent(struct work *w, const struct call *call, u64 moved, u64 end)
{
	struct span_of_bytes *s = next_span(w, EGRESS, call->begin_ns, end);

	s->left = moved;
	s->sequence = call->sequence;
	s->has_sequence = call->sequenced;
	locate(s, call->number, call->arguments);
	if (call->flags & MSG_OOB_) /* not all of it is for the stream: the last byte is urgent */
		s->opaque = 1;
	s->skip = call->helped;
}

#define NO_HELP ~0ULL /* its bytes are passed over: sync was lost for them */

/* A writer of this process is still inside its call, but the peer has acted on its bytes: follow
 * them first. How many they are, TCP's write sequence says; of a Unix socket, all that the call was
 * given. */
static __always_inline void help_writer(struct work *w, struct connection *c)
{
	u64 writer = c->writer, self = bpf_get_current_pid_tgid();
	struct call *call;
	u64 moved = 0, given;

	if (!writer || writer == self)
		return;
	call = calls.lookup(&writer);
	if (!call || call->sk != w->connection || call->helped == NO_HELP)
		return;
	if (call->number == SYS_SENDMMSG)
		c->pipelined = 1; /* as far as we know */
	given = bytes_given(call);
	moved = call->sequenced ? (u32)(sequence_written((struct sock *)call->sk) - call->sequence)
				: given;
	if (given && moved > given) /* another's are among them */
		moved = given;
	if ((!c->tls && writer >> 32 != self >> 32) || call->number == SYS_SENDMMSG ||
	    (!call->sequenced && !moved)) {
		call->helped = NO_HELP; /* in another process' memory, or in too many pieces */
		lose_sync(w, c, COUNTER_DESYNC_OVERLAP);
		return;
	}
	if (moved <= call->helped)
		return;
	span_sent(w, call, moved, call->begin_ns);
	call->helped = moved;
}

static __always_inline void lay_out_received(struct work *w, struct connection *c)
{
	struct span_of_bytes *s;

	help_writer(w, c);
	if (!w->moved)
		return;
	s = next_span(w, INGRESS, w->now_ns, w->now_ns);
	s->left = w->moved;
	s->has_sequence = w->call.sequenced && !w->call.unplaced;
	s->sequence = w->call.sequence;
	locate(s, w->call.number, w->call.arguments);
	s->opaque |= w->opaque;
	s->skip = w->call.helped;
}

/* As `calls` is keyed: by the thread, since its call ends where it began; of a TLS session, whose
 * call may end in another, by the session. */
static __always_inline u64 sender_of(const struct work *w, const struct connection *c)
{
	return c->tls ? w->connection : bpf_get_current_pid_tgid();
}

/* The call that a send's work is of, as it stands under the lock. */
static __always_inline void take_sent(struct work *w, struct connection *c)
{
	u64 sender = sender_of(w, c);
	struct call *entered = calls.lookup(&sender);

	if (entered && c->tls && entered->begin_ns != w->call.begin_ns)
		return;
	if (entered) /* a helper may have followed some of it, under the lock */
		w->call.helped = entered->helped;
	if (w->within) {
		if (entered && w->call.helped < w->moved)
			entered->helped = w->moved;
		if (entered)
			entered->pushed = w->moved;
		return;
	}
	calls.delete(&sender);
	if (c->writer == sender)
		c->writer = 0;
	end_announcing(c, bpf_get_current_pid_tgid());
}

static __always_inline void lay_out_sent(struct work *w, struct connection *c)
{
	take_sent(w, c);
	c->moved_to[EGRESS] +=
		w->call.number == SYS_SENDMMSG
			? sequence_written((struct sock *)w->connection) - w->call.sequence
			: w->moved - w->call.pushed;
	if (w->call.helped == NO_HELP)
		c->directions[EGRESS].last_ns = w->call.begin_ns;
	else if (w->call.helped > w->moved)
		lose_sync(w, c, COUNTER_DESYNC_OVERLAP);
	else if (w->moved) /* a call that slept sent its last byte at its end; one that did not, at
			      its beginning */
		span_sent(w, &w->call, w->moved,
			  sleeps() == w->call.sleeps ? w->call.begin_ns : w->now_ns);
}

/* Lay out the bytes that a call has moved, as spans; returns the work to do, if the connection can
 * be had. */
static __always_inline struct work *lay_out_call(void)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct work *w = work_of_thread();
	struct connection *c;

	if (!w)
		return 0;
	c = connections.lookup(&w->connection);
	if (!c || !lock_or_break(c, w->connection)) {
		calls.delete(&thread);
		calls.delete(&w->connection); /* what a TLS session sends */
		release(w);
		return 0;
	}
	c->head.moved_ns = w->now_ns;
	if (c->broken) {
		count(c->broken);
		c->broken = 0;
		w->settle = SETTLE_DESYNC;
		w->resume = 1;
	}
	if (w->direction == INGRESS)
		lay_out_received(w, c);
	else
		lay_out_sent(w, c);
	FORGET();
	skip_proxy_header(w, c);
	FORGET();
	prepare_lineage(w, c);
	return w;
}

static __always_inline struct connection *connection_of_work(struct work **w)
{
	struct connection *c = 0;

	*w = work_of_thread();
	if (*w)
		c = connections.lookup(&(*w)->connection);
	if (*w && !c)
		release(*w);
	return c;
}

/* Let go of both. */
static __always_inline void end_work(struct work *w, struct connection *c)
{
	unlock(c);
	release(w);
}

/* Take turns over the spans; true if there is more. */
static __always_inline bool follow_call(void)
{
	int zero = 0;
	struct automaton *a = automata.lookup(&zero);
	struct work *w = 0;
	struct connection *c = connection_of_work(&w);

	return a && c && take_turns(w, c, a);
}

/* The bytes are dealt with: which program is to go on, before the connection is let go; 0: none. */
static __always_inline u32 finish_call(void)
{
	struct work *w = 0;
	struct connection *c = connection_of_work(&w);

	if (!c)
		return 0;
	if (end_of_call(w, c))
		return PROGRAM_SETTLE;
	note_progress(c);
	if (needs_join(w, c))
		return PROGRAM_JOIN;
	end_work(w, c);
	return 0;
}

/* Say what a call's messages tell of whose requests are whose. */
static __always_inline void join_followed(void)
{
	struct work *w = 0;
	struct connection *c = connection_of_work(&w);

	if (!c)
		return;
	join_call(w, c);
	end_work(w, c);
}

/* No tail call is left. */
static __always_inline void overrun_call(void)
{
	struct work *w = 0;
	struct connection *c = connection_of_work(&w);

	if (!c)
		return;
	overrun(w, c);
	end_work(w, c);
}

/* Settle a call's connection; true if its bytes are still to be followed. */
static __always_inline bool settle_call(void)
{
	struct work *w = 0;
	struct connection *c = connection_of_work(&w);

	if (!c)
		return false;
	settle(c, w->settle, w->resume ? last_moved_ns(c) : settle_time(w));
	w->settle = SETTLE_NOTHING;
	if (w->resume) {
		w->resume = 0;
		return true;
	}
	count_served(c);
	end_work(w, c);
	return false;
}
