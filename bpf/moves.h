/* What a send or a receive moved, however it was seen. */
#pragma once

static __always_inline bool is_fatal(s64 result)
{
	return result == -ECONNRESET_ || result == -ETIMEDOUT_ || result == -EPIPE_ ||
	       (result <= -100 && result >= -103) || result == -112 || result == -113;
}

static __always_inline u16 fatal_error(s64 result)
{
	return result == -EPIPE_ ? ECONNRESET_ : -result;
}

static __always_inline bool is_at_end(struct sock *sk)
{
	u8 shut = 0;

	READ(shut, sk->sk_shutdown);
	return shut & 1;
}

/* A send begins on a connection that is followed. */
static __always_inline void begin_send(struct call *call, struct sock *sk, struct connection *c)
{
	u64 thread = bpf_get_current_pid_tgid();

	if (c->fresh)
		note_unanswered(sk, c);
	c->fresh = 0;
	call->sleeps = sleeps();
	call->sk = (u64)sk;
	call->identity = c->head.identity;
	call->sequenced = c->sequenced;
	if (c->sequenced)
		call->sequence = sequence_written(sk);
	if (!calls.update(&thread, call)) {
		c->writer = thread;
	} else {
		count(COUNTER_CALLS_TABLE_FULL);
		c->broken = COUNTER_DESYNC_OVERLAP; /* its bytes will be missing */
	}
}

static __always_inline bool end_send(const struct call *call, s64 result, u64 now)
{
	u64 key = call->sk, thread = bpf_get_current_pid_tgid();
	struct connection *c = connections.lookup(&key);
	struct work *w = 0;

	if (c && !c->off && c->head.identity == call->identity)
		w = begin_work(c, key, EGRESS, now);
	if (!w) {
		calls.delete(&thread);
		return false;
	}
	if (result < 0 && is_fatal(result) && !c->error)
		c->error = fatal_error(result);
	w->call = *call;
	w->moved = result > 0 ? result : 0;
	return true;
}

/* Does a receive's result say anything of the stream? */
static __always_inline bool is_telling(struct sock *sk, u64 flags, s64 result)
{
	if (flags & (MSG_PEEK_ | MSG_ERRQUEUE_))
		return false;
	return result > 0 || (result ? is_fatal(result) : is_at_end(sk));
}

/* Begin the work of a receive that tells something, for its call to be filled in; 0 if it cannot be
 * done. */
static __always_inline struct work *begin_receive(struct connection *c, struct sock *sk, s64 result,
						  u64 now)
{
	struct work *w;

	if (c->fresh && result > 0)
		note_unserved(sk, c, result);
	c->fresh = 0;
	w = begin_work(c, (u64)sk, INGRESS, now);
	if (!w)
		return 0;
	w->moved = result > 0 ? result : 0;
	w->ended = !result;
	w->error = result < 0 ? fatal_error(result) : 0;
	return w;
}

/* ... whose call has been filled in. */
static __always_inline void place_receive(struct work *w, const struct connection *c)
{
	w->call.sequenced = c->sequenced;
	if (!c->sequenced)
		return;
	/* A client's are not asked for; but a guess at the role may be taken back. */
	if (c->role != ROLE_CLIENT || c->role_known != ROLE_CERTAIN)
		w->call.sequence = sequence_read((struct sock *)w->connection) -
				   bytes_received(w, w->call.number);
	w->opaque = (w->call.flags & MSG_TRUNC_) != 0; /* consumed, and shown to no one */
}

/* A connection has been accepted by a process that is asked for. */
static __always_inline void accepted(const struct stream *s)
{
	u64 key = (u64)s->sk;

	if (!connections.lookup(&key))
		connection_open(s, ROLE_SERVER, 1);
}
