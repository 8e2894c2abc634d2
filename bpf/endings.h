/* How connections end: by their sockets' states, their sockets' ends, and with what they carry. */
#pragma once

/* What would have answered the oldest exchange may have moved unseen. */
static __always_inline void note_unseen_answer(struct connection *c, struct sock *sk,
					       const u32 *stands_at)
{
	u32 answers = c->role == ROLE_SERVER ? EGRESS : INGRESS;

	if (c->sequenced && !c->off && !c->broken && outstanding(c) &&
	    moved_unseen(sk, c->moved_to[answers], stands_at[answers]))
		c->broken = COUNTER_DESYNC_UNSEEN;
}

/* TCP's end may come in the midst of a call, whose bytes are told of only at its end: where it came
 * is judged when the socket goes. Between them calls may read on, until tcp_disconnect makes the
 * sequence jump. */
static __always_inline void note_unseen_at_end(struct connection *c, u64 key)
{
	struct sock *sk = (void *)key;
	u16 remote_port = 0;

	if (!c->sequenced)
		return;
	READ(remote_port, sk->__sk_common.skc_dport);
	if (remote_port)
		read_place(sk, c->ended_at);
	note_unseen_answer(c, sk, c->ended_at);
}

/* A call that was not followed to its end is found out only now. */
static __always_inline u32 settlement_of(struct connection *c, u32 how)
{
	if (!c->broken)
		return how;
	count(c->broken);
	c->broken = 0;
	return SETTLE_DESYNC;
}

/* This side closes, for writing at least. */
static __always_inline void close_egress(struct connection *c, u64 key, bool wholly, u64 now)
{
	if (!c->closed_ns)
		c->closed_ns = now;
	if (c->off || !outstanding(c) || !lock_if(c, key))
		return;
	if (wholly || c->broken)
		settle(c, settlement_of(c, SETTLE_CLOSED), now);
	else if (c->role == ROLE_SERVER && ends_here(c, SETTLE_CLOSED))
		finish_oldest(c, now, FAILURE_NONE, 0);
	count_served(c);
	unlock(c);
}

static __always_inline void note_shutdown(struct connection *c, struct sock *sk)
{
	u8 shut = 0;

	READ(shut, sk->sk_shutdown);
	if (shut & 1)
		c->peer_gone = 1;
}

#ifdef FOLLOW_TLS
/* A number of a session that no socket and hardly another session has: those are even. */
static __always_inline u64 session_number(const struct tls_key *of)
{
	return (of->ssl * TLS_SALT ^ of->process_start_ns * of->tgid) | 1;
}

/* A session ends: its ssl may be another's by now. */
static __always_inline void forget_session(struct connection *c, u64 key)
{
	u64 *known = tls_sessions.lookup(&c->session);
	u32 tgid = c->session.tgid;
	u64 *held = tls_held.lookup(&tgid);

	if (known && *known == key)
		tls_sessions.delete(&c->session);
	calls.delete(&key); /* what it was sending */
	if (!held)
		return;
	__sync_fetch_and_add(held, -1);
	if ((s64) * (volatile u64 *)held <= 0)
		tls_held.delete(&tgid);
}
#endif

/* Delete a locked connection. Its memory may be another's at once: whoever waits for the lock
 * finds by the key that he has come too late. */
static __always_inline void let_go(struct connection *c, u64 key)
{
#ifdef FOLLOW_TLS
	if (c->tls)
		forget_session(c, key);
#endif
	leave_peers(c, key);
	c->key = 0;
	unlock(c);
	connections.delete(&key);
}

static __always_inline void connection_forget(struct connection *c, u64 key, u64 now)
{
	bool locked = lock(c); /* its socket is gone: only an eviction may be at work on it */

	if (c->key != key) {
		if (locked)
			unlock(c);
		return;
	}
	c->reset = c->head.family != AF_UNIX_ && !c->closed_ns;
	note_unseen_at_end(c, key);
	if (!c->off && outstanding(c))
		settle(c, settlement_of(c, SETTLE_CLOSED), end_time(c, now));
	let_go(c, key);
}

/* The connection of this key; of a socket that carries a TLS session, the session's: what becomes
 * of the one becomes of the other. */
static __always_inline struct connection *connection_carried(u64 *key)
{
	struct connection *c = connections.lookup(key);

#ifdef FOLLOW_TLS
	if (c && c->other && !c->tls) {
		*key = c->other;
		return connections.lookup(key);
	}
#endif
	return c;
}

/* A socket is gone for good, and with it what it carried; false if it was none that is followed. */
static __always_inline bool connection_ended(u64 key, u64 now)
{
	struct connection *c = connections.lookup(&key);
	bool known = c;

#ifdef FOLLOW_TLS
	if (c && c->other && !c->tls) {
		u64 socket = key;
		bool locked = lock(c);

		key = c->other;
		if (c->key == socket)
			let_go(c, socket);
		else if (locked)
			unlock(c);
		c = connections.lookup(&key);
	}
#endif
	if (c)
		connection_forget(c, key, now);
	return known;
}

/* TCP state changes, in process or interrupt context (no user memory here). */
static __always_inline void connection_state(struct sock *sk, int old, int state, u64 now)
{
	u64 key = (u64)sk;
	struct connection *c = connection_carried(&key);
	u32 stands_at[2];
	bool wholly;
	u16 error;
	u8 shut = 0;

	if (!c)
		return;
	READ(shut, sk->sk_shutdown);
	if (state == TCP_CLOSE_WAIT_) {
		c->peer_gone = 1;
	} else if (state == TCP_CLOSE_) {
		read_place(sk, c->ended_at);
		error = socket_error(sk);
		if (error)
			c->error = error;
		else if (shut & 1 && old == TCP_FIN_WAIT2_) /* the peer's FIN after ours */
			c->peer_gone = 1;
	} else if (state == TCP_FIN_WAIT1_ || state == TCP_LAST_ACK_) {
		wholly = state == TCP_FIN_WAIT1_ && shut == SHUTDOWN_MASK_;
		read_place(sk, stands_at);
		if (wholly || c->role == ROLE_SERVER)
			note_unseen_answer(c, sk, stands_at);
		close_egress(c, key, wholly, now);
	}
}
