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
static __always_inline void resume_session(struct connection *c, u64 key)
{
	u64 *note = evicted.lookup(&key);

	if (!note)
		return;
	c->off = *note & 1;
	c->pipelined = 1;
	evicted.delete(&key);
}

static __always_inline struct connection *session_open(const struct tls_key *of, u64 key, u8 role,
						       u8 born)
{
	int zero = 0;
	struct connection *c = blank_connections.lookup(&zero);

	if (!c || connections.update(&key, c)) {
		count(COUNTER_CONNECTIONS_TABLE_FULL);
		return 0;
	}
	c = connections.lookup(&key);
	if (!c)
		return 0;
	c->key = key;
	c->head.identity = random64();
	c->head.moved_ns = bpf_ktime_get_ns();
	c->session = *of;
	c->tls = 1;
	c->fresh = !born;
	begin_streams(c, role, born);
	return c;
}

/* Open the session of an ssl that was evicted: one in mid-stream, whose socket has been counted. */
static __always_inline struct connection *session_reopen(const struct tls_key *of, u64 key, u8 role)
{
	struct connection *c = session_open(of, key, role, 0);

	if (!c)
		return 0;
	resume_session(c, key);
	c->resumed = 1;
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
	if (!c->born && !c->resumed && admitted(c))
		count(COUNTER_TLS_LATE);
}

/* The session of an ssl, new if it is not known: from its beginning if this is a handshake. */
static __always_inline struct connection *session_of(u64 ssl, u32 function, u64 *key)
{
	struct tls_key of = {.ssl = ssl, .process_start_ns = process_start_ns()};
	struct connection *c = 0;
	u64 *known, fresh;

	of.tgid = bpf_get_current_pid_tgid() >> 32;
	known = tls_sessions.lookup(&of);
	if (known) {
		*key = *known;
		c = connections.lookup(key);
		return c ? c : session_reopen(&of, *key, tls_role(function));
	}
	if (function == TLS_GET_ERROR)
		return 0;
	fresh = new_session_key();
	*key = fresh;
	if (tls_sessions.update(&of, &fresh)) {
		count(COUNTER_CONNECTIONS_TABLE_FULL);
		return 0;
	}
	return session_open(&of, fresh, tls_role(function), tls_shakes_hands(function));
}

/* An ssl begins anew, or ends; true if there was a session whose end another program is to see to.
 */
static __always_inline bool session_restart(u64 ssl, u32 function)
{
	struct tls_key of = {.ssl = ssl, .process_start_ns = process_start_ns()};
	u64 thread = bpf_get_current_pid_tgid(), *known, ending = 0, fresh;

	of.tgid = thread >> 32;
	known = tls_sessions.lookup(&of);
	if (known)
		ending = *known;
	if (function != TLS_END) {
		fresh = new_session_key();
		if (tls_sessions.update(&of, &fresh))
			count(COUNTER_CONNECTIONS_TABLE_FULL);
		else
			session_open(&of, fresh, tls_role(function), 1);
	} else if (known) {
		tls_sessions.delete(&of);
	}
	return ending && !tls_ends.update(&thread, &ending);
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
	evicted.delete(&key);
	c = connections.lookup(&key);
	if (!c)
		return;
	if (!c->closed_ns)
		c->closed_ns = now;
	connection_forget(c, key, now);
}
#endif
