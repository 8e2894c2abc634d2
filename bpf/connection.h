/* Connections: how they are found, opened and locked. */
#pragma once

#define LOCK_SPINS 600

/* Before 5.12 BPF has no compare-and-exchange (kernel commit 5ffa25502b5a): there a plain flag
 * catches what it can. */
static __always_inline bool take_lock(struct connection *c)
{
#ifdef HAS_ATOMICS
	return !__sync_val_compare_and_swap(&c->head.lock, 0, 1);
#else
	if (*(volatile u64 *)&c->head.lock)
		return false;
	*(volatile u64 *)&c->head.lock = 1;
	return true;
#endif
}

/* Two threads may be in calls on one connection at once. Holders never sleep, but interrupts come
 * between, and a hypervisor may take their processor away: it is waited for half a millisecond. */
static __always_inline bool lock(struct connection *c)
{
	int i, j;

#pragma nounroll
	for (i = 0; i < LOCK_SPINS; i++) {
		if (take_lock(c))
			return true;
#pragma unroll
		for (j = 0; j < 32; j++)
			bpf_ktime_get_ns();
	}
	return false;
}

static __always_inline void unlock(struct connection *c)
{
#ifdef HAS_ATOMICS
	__sync_lock_test_and_set(&c->head.lock, 0);
#else
	*(volatile u64 *)&c->head.lock = 0;
#endif
}

/* Lock the connection of this key; false if it was evicted since it was looked up: its memory may
 * be another's by now. */
static __always_inline bool lock_if(struct connection *c, u64 key)
{
	if (!lock(c))
		return false;
	if (c->key == key)
		return true;
	unlock(c);
	return false;
}

/* Lock; failing that, what this call moved is lost, and with it the place in the stream. */
static __always_inline bool lock_or_break(struct connection *c, u64 key)
{
	if (lock_if(c, key))
		return true;
	if (c->key == key)
		c->broken = COUNTER_DESYNC_OVERLAP;
	return false;
}

/* Is this the far end of a connection of ringspan's own (its exports)? */
static __always_inline bool is_own_peer(const struct connection *c)
{
	struct endpoints e = {};

	reverse_endpoints(c, &e);
	unmap_endpoints(&e);
	return own_endpoints.lookup(&e) != 0;
}

/* Picked up in mid-stream: wait for the peer to move first. */
static __always_inline void wait_for_peer(struct connection *c, u8 direction)
{
	c->desync_ns = bpf_ktime_get_ns();
	c->directions[direction & 1].last_ns = c->desync_ns;
}

/* Picked up at a send, while something that was sent before is not answered: what is sent now could
 * get that answer. */
static __always_inline void note_unanswered(struct sock *from, struct connection *c)
{
	struct tcp_sock *sk = (void *)from;
	u64 bytes_sent = 0, bytes_received = 0;
	u32 sent = 0, received = 0;

	READ(sent, sk->lsndtime);
	READ(received, ((struct inet_connection_sock *)sk)->icsk_ack.lrcvtime);
	READ(bytes_sent, sk->bytes_sent);
	READ(bytes_received, sk->bytes_received);
	if ((s32)(sent - received) > 0 || (bytes_sent && !bytes_received))
		wait_for_peer(c, EGRESS);
}

/* ... at a receive, while something that was received before is not answered. */
static __always_inline void note_unserved(struct sock *from, struct connection *c, u64 moved)
{
	struct tcp_sock *sk = (void *)from;
	u64 bytes_sent = 0, bytes_received = 0;

	READ(bytes_sent, sk->bytes_sent);
	READ(bytes_received, sk->bytes_received);
	if (!bytes_sent && bytes_received > moved)
		wait_for_peer(c, INGRESS);
}

/* Picked up again after an eviction: what was unanswered then may be answered yet, so no request is
 * taken up before the peer has moved and all was quiet. */
static __always_inline void resume_evicted(struct connection *c, u64 key)
{
	u64 any = 0, *one = evicted.lookup(&key), *unnoted = evicted.lookup(&any);
	bool noted = one && *one >> 1 == c->head.inode;

	if (noted)
		c->off = *one & 1;
	if (noted || (unnoted && *unnoted)) {
		c->desync_ns = bpf_ktime_get_ns();
		c->pipelined = 1;
	}
	if (one)
		evicted.delete(&key);
}

/* With --port, a connection in mid-stream tells by its ports which side this is. */
static __always_inline u8 role_by_port(const struct socket_summary *summary, u8 role)
{
#ifdef FILTER_PORTS
	bool local = port_wanted(summary->local_port), remote = port_wanted(summary->remote_port);

	if (role == ROLE_UNKNOWN && local != remote)
		return local ? ROLE_SERVER : ROLE_CLIENT;
#endif
	return role;
}

/* Why a socket is closed, if an error has closed it. */
static __always_inline u16 socket_error(struct sock *sk)
{
	s32 error = 0;

	READ(error, sk->sk_err);
	return error == EPIPE_ ? ECONNRESET_ : error;
}

/* The peer may have left before the connection is first seen: before it was accepted, say. */
static __always_inline void note_departure(struct connection *c, struct sock *sk, u8 state)
{
	u8 shut = 0;

	READ(shut, sk->sk_shutdown);
	c->peer_gone = shut & 1;
	if (state == TCP_CLOSE_ && c->sequenced)
		c->error = socket_error(sk);
}

/* What is to come on a new connection. */
static __always_inline void begin_streams(struct connection *c, u8 role, u8 born)
{
	c->role = role;
	c->role_known = role != ROLE_UNKNOWN ? ROLE_CERTAIN : ROLE_GUESSED;
	c->born = born;
	c->directions[INGRESS].state =
		role == ROLE_CLIENT ? STATE_RESPONSE_START : STATE_REQUEST_START;
	c->directions[EGRESS].state =
		role == ROLE_SERVER ? STATE_RESPONSE_START : STATE_REQUEST_START;
	if (born) {
		c->directions[INGRESS].phase = PHASE_HEAD;
		c->directions[EGRESS].phase = PHASE_HEAD;
	}
}

/* Where TCP's sequence stands, by direction. */
static __always_inline void read_place(struct sock *sk, u32 *stands_at)
{
	stands_at[EGRESS] = sequence_written(sk);
	stands_at[INGRESS] = sequence_read(sk);
}

/* A blank connection under this key; 0 if there is no room. */
static __always_inline struct connection *connection_new(u64 key)
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
	return c;
}

static __always_inline struct connection *connection_open(const struct stream *s, u8 role, u8 born)
{
	u64 key = (u64)s->sk;
	struct connection *c, *known;
	struct socket_summary summary = {};

	summarise(s->sk, &summary);
#ifdef FILTER_PORTS
	if (summary.family == AF_UNIX_ ||
	    !(port_wanted(summary.local_port) || port_wanted(summary.remote_port)))
		return 0;
#endif
	if (!is_followed(s->sk, summary.family))
		return 0;
	if (summary.family != AF_UNIX_ &&
	    (!summary.remote_port || (!born && summary.state == TCP_SYN_SENT_)))
		return 0; /* not connected yet: TCP Fast Open */
	role = role_by_port(&summary, role);
	known = connections.lookup(&key);
	if (known) /* its end was not seen */
		leave_peers(known, key);
	c = connection_new(key);
	if (!c)
		return 0;
	c->head.inode = inode_of(s);
	c->head.family = summary.family;
	c->sequenced = summary.family != AF_UNIX_;
	c->local_port = summary.local_port;
	c->remote_port = summary.remote_port;
	c->head.netns = network_namespace(s->sk);
	begin_streams(c, role, born);
	note_departure(c, s->sk, summary.state);
	if (c->head.family == AF_UNIX_) {
		read_unix_path(s->sk, c->unix_path);
		c->pair = unix_pair(s->sk);
	} else {
		read_addresses(s->sk, c->head.family, c->local_address, c->remote_address);
		c->fresh = !born;
		read_place(s->sk, c->moved_to);
		read_place(s->sk, c->ended_at);
	}
	if (!born)
		resume_evicted(c, key);
	if (c->role == ROLE_CLIENT)
		list_client(c);
	if (c->sequenced && is_own_peer(c))
		c->off = 1;
	return c;
}

/* The connection of a socket if it is followed already. */
static __always_inline struct connection *connection_known(const struct stream *s)
{
	u64 key = (u64)s->sk;
	struct connection *c = connections.lookup(&key);

	if (c && (c->head.family != AF_UNIX_ || c->head.inode == inode_of(s)))
		return c;
	return 0;
}

/* The connection of a socket; opened in mid-stream if it was not seen before. A TCP socket's end is
 * always seen; a Unix socket's memory may have been another's before, which the inode number tells.
 */
static __always_inline struct connection *connection_of(const struct stream *s)
{
	struct connection *c = connection_known(s);

	return c ? c : connection_open(s, ROLE_UNKNOWN, 0);
}
