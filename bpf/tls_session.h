/* TLS sessions: how they are told by the functions of a library, found, begun and ended. */
#pragma once

#ifdef FOLLOW_TLS
static __always_inline bool tls_receives(u32 function)
{
	return function == TLS_READ || function == TLS_READ_EX || function == TLS_RECEIVE;
}

static __always_inline bool tls_moves(u32 function)
{
	return function >= TLS_READ && function <= TLS_RECEIVE;
}

/* ... what can be read of it: not of a file. */
static __always_inline bool tls_sends(u32 function)
{
	return function >= TLS_WRITE && function <= TLS_WRITE_EX2;
}

static __always_inline bool tls_shakes_hands(u32 function)
{
	return function >= TLS_HANDSHAKE && function <= TLS_ACCEPT;
}

static __always_inline u8 tls_role(u32 function)
{
	if (function == TLS_CONNECT || function == TLS_BEGIN_CLIENT)
		return ROLE_CLIENT;
	return function == TLS_ACCEPT || function == TLS_BEGIN_SERVER ? ROLE_SERVER : ROLE_UNKNOWN;
}

/* Keys of sessions are no kernel addresses: those have the highest bit set. */
static __always_inline u64 new_session_key(void)
{
	return random64() >> 2 | 1;
}

/* Picked up again after an eviction, a session is one in mid-stream, if it was HTTP. */
static __always_inline void resume_session(struct connection *c)
{
	u64 number = session_number(&c->session);
	u64 *note = evicted.lookup(&number);

	if (!note)
		return;
	if (!c->born) {
		c->off = *note & 1;
		c->pipelined = 1;
		c->resumed = 1;
	}
	evicted.delete(&number);
}

/* May this process have one more? A library is what its process says it is: calls alone cost it
 * nothing. */
static __always_inline bool hold_one(const struct tls_key *of)
{
	u32 tgid = of->tgid;
	u64 one = 1, *held = tls_held.lookup(&tgid);

	if (!held) {
		tls_held.update(&tgid, &one);
		return true;
	}
	if ((s64)*held >= TLS_HELD_MAX) /* or a few more: before 5.12 BPF has no atomic add that
					   returns what was there */
		return false;
	__sync_fetch_and_add(held, 1);
	return true;
}

static __always_inline struct connection *session_open(const struct tls_key *of, u64 *key, u8 role,
						       u8 born)
{
	u64 fresh = new_session_key();
	struct connection *c;

	*key = fresh;
	if (!hold_one(of)) {
		count(COUNTER_TLS_HELD_FULL);
		return 0;
	}
	c = connection_new(fresh);
	if (!c)
		return 0;
	c->session = *of;
	c->tls = 1;
	c->fresh = !born;
	begin_streams(c, role, born);
	resume_session(c);
	if (tls_sessions.update((struct tls_key *)of, &fresh))
		count(COUNTER_CONNECTIONS_TABLE_FULL);
	return c;
}

/* Plain text has moved on a session: its first, or what was before has not been seen. */
static __always_inline void note_plain_text(struct connection *c)
{
	if (c->shown)
		return;
	c->shown = 1;
	if (c->hello)
		count(COUNTER_TLS_SHOWN);
	/* as connections are: those that began before the trace, or have sent nothing, are not */
	if (c->socketless && c->born && admitted(c))
		count(COUNTER_TLS_IN_MEMORY);
	if (!c->born && !c->resumed && admitted(c))
		count(COUNTER_TLS_LATE);
}

static __always_inline void name_session(struct tls_key *of, u64 ssl)
{
	of->ssl = ssl;
	of->process_start_ns = process_start_ns();
	of->tgid = bpf_get_current_pid_tgid() >> 32;
}

static __always_inline struct connection *session_known(struct tls_key *of, u64 *key)
{
	u64 *known = tls_sessions.lookup(of);

	if (!known)
		return 0;
	*key = *known;
	return connections.lookup(key);
}

/* The session of an ssl, new if it is not known: from its beginning if this is a handshake. What
 * was freed is another's if it shakes hands. */
static __always_inline struct connection *session_of(u64 ssl, u32 function, u64 *key)
{
	struct tls_key of = {};
	bool begins = tls_shakes_hands(function);
	struct connection *c;

	name_session(&of, ssl);
	c = session_known(&of, key);
	if (c && begins && c->shared && c->fresh && !c->other && !c->shown) {
		begin_streams(c, tls_role(function), 1); /* it was shared before it began */
		c->fresh = 0;
	}
	if (c && !(c->freed && begins))
		return c;
	if (function == TLS_GET_ERROR)
		return 0;
	return session_open(&of, key, tls_role(function), begins);
}

/* One more refers to a session: to let go of it is not its end. */
static __always_inline void session_share(u64 ssl)
{
	struct tls_key of = {};
	struct connection *c;
	u64 key = 0;

	name_session(&of, ssl);
	c = session_known(&of, &key);
	if (!c)
		c = session_open(&of, &key, ROLE_UNKNOWN, 0);
	if (c)
		c->shared = 1;
}

/* Will the end of its socket end this session? */
static __always_inline bool is_carried(const struct connection *session, u64 key)
{
	u64 socket = session->other;
	struct connection *c = socket ? connections.lookup(&socket) : 0;

	return c && c->other == key;
}

/* An ssl begins anew, or is let go of; true if there was a session whose end another program is to
 * see to. Of one whose socket is known, the socket tells the end: there may be more who refer to
 * it, in this process or, after a fork, in others. */
static __always_inline bool session_restart(u64 ssl, u32 function)
{
	struct tls_key of = {};
	u64 thread = bpf_get_current_pid_tgid(), ending = 0, key = 0;
	struct connection *known, *c;
	bool carried, lasts, shared;

	name_session(&of, ssl);
	known = session_known(&of, &ending);
	shared = known && known->shared && !known->freed;
	carried = known && is_carried(known, ending);
	lasts = known && (carried || known->shared);
	if (function == TLS_END) {
		if (lasts)
			known->freed = 1;
		return known && !lasts && !tls_ends.update(&thread, &ending);
	}
	c = session_open(&of, &key, tls_role(function), 1);
	if (c)
		c->shared = shared;
	return known && !carried && !tls_ends.update(&thread, &ending);
}

/* The session that the running thread is to end. */
static __always_inline void session_end(void)
{
	u64 thread = bpf_get_current_pid_tgid(), now = bpf_ktime_get_ns();
	u64 *ending = tls_ends.lookup(&thread), key;
	struct connection *c;

	if (!ending)
		return;
	key = *ending;
	tls_ends.delete(&thread);
	c = connections.lookup(&key);
	if (!c)
		return;
	if (!c->closed_ns)
		c->closed_ns = now;
	connection_forget(c, key, now);
}
#endif
