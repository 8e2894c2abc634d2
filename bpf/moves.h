/* What a send or a receive moved, however it was seen. */
#pragma once

/* Receives that consume nothing of the stream. */
#define UNTOLD_FLAGS (MSG_PEEK_ | MSG_ERRQUEUE_ | MSG_OOB_)

static __always_inline bool is_fatal(s64 result)
{
	return result == -ECONNRESET_ || result == -ETIMEDOUT_ || result == -EPIPE_ ||
	       (result <= -100 && result >= -103) || result == -112 || result == -113;
}

static __always_inline u16 fatal_error(s64 result)
{
	return result == -EPIPE_ ? ECONNRESET_ : -result;
}

/* The peer's end has come, and nothing is unread before it: what read nothing may have asked for
 * nothing. */
static __always_inline bool is_at_end(struct sock *sk)
{
	u32 received = 0, read = 0;
	u16 family = 0;
	u8 shut = 0;

	READ(shut, sk->sk_shutdown);
	if (!(shut & 1))
		return false;
	READ(family, sk->__sk_common.skc_family);
	if (family == AF_UNIX_) {
		READ(received, sk->sk_receive_queue.qlen);
	} else {
		READ(received, ((struct tcp_sock *)sk)->rcv_nxt);
		read = sequence_read(sk);
	}
	return (s32)(received - read) <= (family == AF_UNIX_ ? 0 : 1); /* TCP counts the FIN */
}

/* A call begins here in TCP's sequence: is that where those before it have ended? */
static __always_inline void note_place(struct connection *c, struct sock *sk, u8 direction,
				       u32 place)
{
	u32 *seen_to = &c->moved_to[direction & 1];

	if (moved_unseen(sk, *seen_to, place))
		c->broken = COUNTER_DESYNC_UNSEEN;
	*seen_to = place;
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
	call->sequence = c->sequenced ? sequence_written(sk) : c->moved_to[EGRESS];
	announce(c, call->sequence);
	if (c->sequenced) {
		if (!c->writer || c->writer == thread)
			note_place(c, sk, EGRESS, call->sequence);
	}
	call->seen = this_copy();
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
	if (flags & UNTOLD_FLAGS)
		return false;
	return result > 0 || (result ? is_fatal(result) : is_at_end(sk));
}

/* Begin the work of a receive that tells something, for its call to be filled in; 0 if it cannot be
 * done. */
static __always_inline struct work *begin_receive(struct connection *c, struct sock *sk, s64 result,
						  u64 now)
{
	struct work *w;

	if (c->fresh && result > 0) {
		note_unserved(sk, c, result);
#ifndef CAPTURE_TCP
		c->moved_to[INGRESS] -= result; /* it was opened after them */
#endif
	}
	c->fresh = 0;
	w = begin_work(c, (u64)sk, INGRESS, now);
	if (!w)
		return 0;
	w->moved = result > 0 ? result : 0;
	w->call.helped = 0; /* the send's before it may have been */
	w->ended = !result;
	w->error = result < 0 ? fatal_error(result) : 0;
	return w;
}

/* ... whose call has been filled in. */
static __always_inline void place_receive(struct work *w, struct connection *c)
{
	u32 received, stands_at;

	received = bytes_received(w, w->call.number) - w->call.helped;
	w->call.sequenced = c->sequenced;
	if (!c->sequenced) { /* a Unix socket's bytes are counted from its first */
		w->call.sequence = c->moved_to[INGRESS] - w->call.helped;
		c->moved_to[INGRESS] += received;
		return;
	}
	stands_at = sequence_read((struct sock *)w->connection);
	if (w->call.unplaced) {
		c->moved_to[INGRESS] = stands_at;
	} else {
		note_place(c, (struct sock *)w->connection, INGRESS, stands_at - received);
		c->moved_to[INGRESS] = stands_at;
		w->call.sequence = stands_at - received - w->call.helped;
	}
	w->opaque = (w->call.flags & MSG_TRUNC_) != 0; /* consumed, and shown to no one */
}

/* A connection has been accepted by a process that is asked for. */
static __always_inline void accepted(const struct stream *s)
{
	u64 key = (u64)s->sk;
	struct connection *c = connections.lookup(&key);

	stop_serving();
	if (!c || c->head.inode != inode_of(s)) /* its end may not have been seen */
		connection_open(s, ROLE_SERVER, 1);
}
