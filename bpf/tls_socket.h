/* Which socket carries a TLS session: the first one that its first call moves TLS records on. */
#pragma once

#ifdef FOLLOW_TLS
#define TLS_HANDSHAKE_RECORD 22
#define TLS_DATA_RECORD 23
#define TLS_FIRST_RECORD 20 /* RFC 8446 section 5.1: how a record begins */
#define TLS_LAST_RECORD 24
#define TLS_MAJOR 3
#define TLS_PAIR 0x746c7300
#define SUPERSEDED_MAX 4

/* The innermost call of a TLS library that the running thread, or the goroutine on it, is inside.
 */
static __always_inline struct tls_call *tls_call_of_thread(void)
{
	struct tls_call *call = tls_call_on_stack();

	return call ? call : go_call_of_thread();
}

/* The first two of these bytes of a system call, or the one that there is. */
static __always_inline bool read_first(u8 *first, bool alone, u64 number, const u64 *arguments)
{
	struct span_of_bytes s = {.left = 2};

	locate(&s, number, arguments);
	if (!s.base && !next_piece(&s))
		return false;
	return !(alone ? read_user(first, 1, s.base) : read_user(first, 2, s.base));
}

/* The type of the TLS record that these bytes of a system call begin as; 0 if as none. */
static __always_inline u8 tls_record(u64 number, const u64 *arguments)
{
	u8 first[2] = {};

	if (!read_first(first, false, number, arguments) || first[1] != TLS_MAJOR)
		return 0;
	return first[0] >= TLS_FIRST_RECORD && first[0] <= TLS_LAST_RECORD ? first[0] : 0;
}

/* Does a connection begin with TLS? Who serves other protocols on its port as well may receive one
 * byte first. */
static __always_inline bool begins_with_hello(struct connection *c, bool alone, u64 number,
					      const u64 *arguments)
{
	u8 first[2] = {}, looked = c->looked;
	bool read = read_first(first, alone, number, arguments);

	c->looked = LOOKED_AT;
	if (!read)
		return false;
	if (looked == LOOKED_AT_ONE)
		return first[0] == TLS_MAJOR;
	if (alone && first[0] == TLS_HANDSHAKE_RECORD)
		c->looked = LOOKED_AT_ONE;
	return !alone && first[0] == TLS_HANDSHAKE_RECORD && first[1] == TLS_MAJOR;
}

/* Count a connection that begins with TLS: by its first bytes, which a client's hello is. */
static __always_inline void note_hello(struct connection *c, u8 direction, u64 number,
				       const u64 *arguments, s64 moved)
{
	bool alone = direction == INGRESS && moved == 1;

	if (c->looked == LOOKED_AT || !c->born || moved <= 0)
		return;
	if (!begins_with_hello(c, alone, number, arguments) || c->off || !admitted(c))
		return;
	c->hello = HELLO_SEEN;
	count(COUNTER_TLS_CONNECTIONS);
}

/* A connection that begins with TLS has found the session that it carries. */
static __always_inline void note_adopted(struct connection *c, struct connection *session)
{
	if (c->hello != HELLO_SEEN)
		return;
	c->hello = HELLO_ADOPTED;
	session->hello = HELLO_ADOPTED;
	count(COUNTER_TLS_ADOPTED);
}

/* A session has found its socket: what that says of it is the session's too. */
static __always_inline void adopt_socket(struct connection *session, const struct connection *c)
{
	session->head.inode = c->head.inode;
	session->head.netns = c->head.netns;
	session->head.family = c->head.family;
	session->local_port = c->local_port;
	session->remote_port = c->remote_port;
	session->connect_ns = c->connect_ns;
	session->peer_gone = c->peer_gone;
	session->error = c->error;
	__builtin_memcpy(session->local_address, c->local_address, 16);
	__builtin_memcpy(session->remote_address, c->remote_address, 16);
	if (c->head.family == AF_UNIX_)
		__builtin_memcpy(session->unix_path, c->unix_path, UNIX_PATH_MAX);
	if (session->born && c->born)
		session->pair = c->sequenced ? TLS_PAIR : c->pair;
	if (session->role == ROLE_UNKNOWN && c->role_known == ROLE_CERTAIN)
		begin_streams(session, c->role, session->born);
	if (c->sequenced && is_own_peer(c))
		session->off = 1;
}

/* A session that its process has taken over by a fork, from one that had begun it: it goes on where
 * that one stood, if nothing was under way. */
static __always_inline void inherit(struct connection *session, const struct connection *from)
{
	if (session->born || session->shown || !from->born || !is_settled(from) ||
	    from->session.ssl != session->session.ssl ||
	    from->session.tgid == session->session.tgid)
		return;
	begin_streams(session, from->role, 1);
	session->fresh = 0;
	session->hello = from->hello;
	session->shown = from->shown;
}

/* Of a connection that begins with TLS, one session says that plain text has moved. */
static __always_inline void take_hello(struct connection *session, struct connection *before)
{
	if (!before->hello || before->shown || session->shown)
		return;
	session->hello = before->hello;
	before->hello = HELLO_NONE;
}

/* What a session had outstanding another goes on with, in a process that knows nothing of it. */
static __always_inline void lose_superseded(struct connection *before)
{
	int i;

	if (!outstanding(before))
		return;
	count(COUNTER_DESYNC_UNSEEN);
#pragma nounroll
	for (i = 0; i < SUPERSEDED_MAX; i++) {
		FORGET();
		if (!outstanding(before))
			break;
		lose_oldest(before, COUNTER_LOST_DESYNC);
	}
}

/* A socket carries another session than before. */
static __always_inline void supersede(struct connection *session, u64 key)
{
	struct connection *before = connections.lookup(&key);

	if (!before || !lock_if(before, key))
		return;
	inherit(session, before);
	take_hello(session, before);
	lose_superseded(before);
	if (!outstanding(before)) {
		let_go(before, key);
		return;
	}
	before->broken = COUNTER_DESYNC_UNSEEN; /* the rest is lost when it is freed */
	unlock(before);
}

/* Are these a session's own records? Its library may call the application back, which may move
 * another session's. What is known from its birth begins with a hello, which a client sends and a
 * server receives; what wraps another session goes by that one's socket. */
static __always_inline bool begins_here(const struct connection *session,
					const struct tls_call *call, const struct connection *c,
					u8 direction, u8 type)
{
	u8 role = session->role;

	if (!type || call->within)
		return false;
	if (!session->born || (session->wraps && c && c->other))
		return true;
	if (role == ROLE_UNKNOWN && c && c->role_known == ROLE_CERTAIN)
		role = c->role;
	return type == TLS_HANDSHAKE_RECORD &&
	       (role == ROLE_UNKNOWN || (role == ROLE_CLIENT) == (direction == EGRESS));
}

/* Ports that are not asked for have no connection that could be adopted, nor would end it. */
static __always_inline void refuse_port(struct connection *session, struct sock *sk)
{
#ifdef FILTER_PORTS
	struct socket_summary summary = {};

	summarise(sk, &summary);
	if (summary.family == AF_UNIX_ ||
	    !(port_wanted(summary.local_port) || port_wanted(summary.remote_port))) {
		session->off = 1;
		session->refused = 1;
	}
#endif
}

/* A session's socket was read by a function that is not followed (BIO_read,
 * gnutls_record_recv_packet): of the answer that is awaited nothing may be known. */
static __always_inline void note_read_unseen(const struct connection *c, u64 number,
					     const u64 *arguments)
{
	u64 key = c->other;
	struct connection *session = connections.lookup(&key);

	if (session && session->role == ROLE_CLIENT && outstanding(session) &&
	    tls_record(number, arguments) == TLS_DATA_RECORD)
		session->broken = COUNTER_DESYNC_UNSEEN;
}

/* A send begins, or a receive has ended, on a socket whose connection is `c` (0: none is followed).
 * True if the bytes are a TLS session's, which is followed in their place. */
static __always_inline bool carries_tls(struct sock *sk, struct connection *c, u8 direction,
					u64 number, const u64 *arguments, s64 moved)
{
	struct connection *session;
	struct tls_call *call;

	if (c)
		note_hello(c, direction, number, arguments, moved);
	if (c && c->next_request && !c->off)
		return false;
	call = tls_call_of_thread();
	if (!call && c && c->other && direction == INGRESS && moved > 0)
		note_read_unseen(c, number, arguments);
	if (!call)
		return c && c->other;
	session = connections.lookup(&call->connection);
	if (!session)
		return c && c->other;
	call->sockets = 1;
	if (session->other != (u64)sk) {
		if (session->other || session->refused || session->socketless || moved <= 0 ||
		    !begins_here(session, call, c, direction, tls_record(number, arguments)))
			return false;
		if (!c) {
			refuse_port(session, sk);
			return false;
		}
		session->other = (u64)sk;
		adopt_socket(session, c);
	}
	if (!c)
		return false;
	note_adopted(c, session);
	if (c->other && c->other != call->connection)
		supersede(session, c->other);
	c->other = call->connection;
	c->off = 1;
	c->head.moved_ns = call->begin_ns;
	return true;
}
/* A call on a socket that tells nothing of its stream. */
static __always_inline void note_tls_socket(void)
{
	struct tls_call *call = tls_call_of_thread();

	if (call)
		call->sockets = 1;
}
#else
#define tls_call_of_thread() 0
#define note_tls_socket()
#define carries_tls(sk, c, direction, number, arguments, moved) false
#endif
