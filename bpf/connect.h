/* connect(): attempts that fail become records of their own, once each, with the reason. */
#pragma once

/* The kernel's functions are given the address in its own memory. */
#ifdef CAPTURE_TCP
#define read_address(to, bytes, from) read_kernel(to, bytes, from)
#else
#define read_address(to, bytes, from) read_user(to, bytes, from)
#endif

/* Read where a connect() goes; false if it goes nowhere (AF_UNSPEC disconnects). */
static __always_inline bool read_destination(struct attempt *a, u64 address, u64 bytes)
{
	u16 family = 0, port = 0;

	read_address(&family, sizeof(family), address);
	a->family = family;
	if (family == AF_UNIX_) {
		bytes -= 2;
		OPAQUE(bytes);
		if (bytes <= UNIX_PATH_MAX)
			read_address(a->unix_path, bytes, address + 2);
		return true;
	}
	if (family != AF_INET_ && family != AF_INET6_)
		return false;
	read_address(&port, sizeof(port), address + 2);
	a->port = host16(port);
	if (family == AF_INET_)
		read_address(a->address, 4, address + 4);
	else
		read_address(a->address, 16, address + 8);
	return true;
}

static __always_inline void forget_attempt(u64 socket)
{
	attempts.delete(&socket);
	forget_cause(socket);
}

/* What a connect() does that begins. */
enum beginning {
	BEGINS_NOTHING = 0, /* a question about an earlier attempt, or no socket of ours */
	BEGINS_ATTEMPT,
	BEGINS_OWN, /* one of ringspan's */
	BEGINS_DISCONNECT,
};

static __always_inline void fill_attempt(struct attempt *a, const struct stream *s, u64 now)
{
	a->begin_ns = now;
	a->in_call = 1;
	a->own = is_own_process();
	a->inode = inode_of(s);
	a->pid_tgid = bpf_get_current_pid_tgid();
	a->namespace_tgid = pid_in_namespace();
	a->process_start_ns = process_start_ns();
	a->judged = judge_executable() == VERDICT_WANTED;
	a->netns = network_namespace(s->sk);
	bpf_get_current_comm(a->comm, sizeof(a->comm));
}

static __always_inline u32 note_attempt(const struct stream *s, u64 address, u64 bytes, u64 now)
{
	struct call call = {.begin_ns = now, .purpose = PURPOSE_CONNECT, .sk = (u64)s->sk};
	struct socket_summary summary = {};
	u64 key = (u64)s->sk, thread = bpf_get_current_pid_tgid();
	struct attempt *a;
	u16 family = 0;
	int zero = 0;

	read_address(&family, sizeof(family), address);
	if (family == AF_UNSPEC_)
		return BEGINS_DISCONNECT;
	summarise(s->sk, &summary);
	if (s->state >= SS_CONNECTING_ || !is_followed(s->sk, summary.family))
		return BEGINS_NOTHING;
	a = blank_attempts.lookup(&zero);
	call.seen = this_copy();
	if (!a || attempts.update(&key, a) || calls.update(&thread, &call))
		count(COUNTER_CONNECTS_TABLE_FULL);
	a = attempts.lookup(&key);
	if (!a)
		return BEGINS_NOTHING;
	fill_attempt(a, s, now);
	if (read_destination(a, address, bytes))
		return a->own ? BEGINS_OWN : BEGINS_ATTEMPT;
	attempts.delete(&key);
	calls.delete(&thread);
	return BEGINS_NOTHING;
}

/* connect() begins, to an address of so many bytes; returns the socket that it disconnects, if it
 * does that. */
static __always_inline u64 begin_connect(const struct stream *s, u64 address, u64 bytes, u64 now)
{
	u32 begins = note_attempt(s, address, bytes, now);

	if (begins == BEGINS_ATTEMPT)
		note_cause((u64)s->sk);
	return begins == BEGINS_DISCONNECT ? (u64)s->sk : 0;
}

static __always_inline bool attempt_admitted(const struct attempt *a)
{
#ifdef FILTER_ROLE
	if (FILTER_ROLE != ROLE_CLIENT)
		return false;
#endif
#ifdef FILTER_PORTS
	return a->family != AF_UNIX_ && port_wanted(a->port);
#else
	return true;
#endif
}

static __always_inline void fill_failed_connect(struct record *r, const struct attempt *a, u64 now)
{
	r->version = CONTRACT_VERSION;
	r->kind = RECORD_CONNECT_FAILURE;
	r->role = ROLE_CLIENT;
	r->family = a->family;
	r->start_ktime_ns = a->begin_ns;
	r->end_ktime_ns = now;
	r->socket_inode = a->inode;
	r->netns = a->netns;
	r->tgid = a->pid_tgid >> 32;
	r->tid = a->pid_tgid;
	r->namespace_tgid = a->namespace_tgid;
	r->process_start_ns = a->process_start_ns;
	r->judged = a->judged;
	r->remote_port = a->port;
	__builtin_memcpy(r->remote_address, a->address, 16);
	__builtin_memcpy(r->comm, a->comm, 16);
	__builtin_memcpy(r->unix_path, a->unix_path, UNIX_PATH_MAX);
}

/* An attempt has failed; errno 0: it was given up. A SYN sent again tells a time-out from a change
 * of mind. */
static __always_inline void fail_connect(const struct attempt *a, u64 socket, u32 error,
					 bool resent)
{
	u64 now = a->closed_ns ? a->closed_ns : bpf_ktime_get_ns();
	struct lineage lineage;
	int zero = 0;
	struct exchange *blank = blank_exchanges.lookup(&zero);
	struct record *r;

	if (!blank || a->own)
		return;
	count(COUNTER_CONNECT_FAILURES_SEEN);
	if (!attempt_admitted(a)) {
		count(COUNTER_CONNECT_FAILURES_FILTERED);
		return;
	}
	r = record_new();
	if (!r) {
		count(COUNTER_CONNECT_FAILURES_LOST_RING_FULL);
		return;
	}
	bpf_probe_read_kernel(r, sizeof(*r), blank);
	fill_failed_connect(r, a, now);
	if (caused(socket, &lineage)) {
		take_lineage(r, &lineage);
	} else {
		begin_trace(r);
		note_self_starting(a->pid_tgid >> 32, a->process_start_ns);
	}
	if (error == ETIMEDOUT_ || (!error && resent))
		r->failure = FAILURE_TIMEOUT;
	else
		r->failure = error ? FAILURE_ERRNO : FAILURE_CANCELLED;
	r->error_number = error;
	record_done(r);
	count(COUNTER_CONNECT_FAILURES_RECORDED);
}

static __always_inline bool syn_was_resent(struct sock *sk)
{
	u32 resent = 0;

	READ(resent, ((struct tcp_sock *)sk)->total_retrans);
	return resent != 0;
}

static __always_inline void read_own(struct sock *sk, struct endpoints *e)
{
	struct socket_summary summary = {};

	summarise(sk, &summary);
	read_addresses(sk, summary.family, e->local_address, e->remote_address);
	e->local_port = summary.local_port;
	e->remote_port = summary.remote_port;
	e->netns = network_namespace(sk);
	unmap_endpoints(e);
}

static __always_inline void remember_own(struct sock *sk)
{
	struct endpoints e = {};
	u64 key = (u64)sk;

	read_own(sk, &e);
	if (own_endpoints.update(&e, &key))
		count(COUNTER_OWN_TABLE_FULL);
}

static __always_inline void connect_succeeded(struct sock *sk, const struct attempt *a, u64 now)
{
	struct stream s = {.sk = sk};
	struct connection *c;

	if (a->own) {
		if (a->family != AF_UNIX_)
			remember_own(sk);
		return;
	}
	c = connection_open(&s, ROLE_CLIENT, 1);
	if (!c)
		return;
	c->head.inode = a->inode;
	if (!a->put_off) /* when it began is not known */
		c->connect_ns = now - a->begin_ns;
	take_cause(c, (u64)sk);
}

static __always_inline bool is_still_pending(s64 result)
{
	return result == -EINPROGRESS_ || result == -EINTR_ || result == -EALREADY_ ||
	       result == -EISCONN_ || (result <= -ERESTARTSYS_ && result >= -ERESTART_LAST_);
}

/* By TCP_FASTOPEN_CONNECT a connect() succeeds at once, and connects with the first send. */
static __always_inline bool is_put_off(u64 socket, const struct attempt *a, s64 result)
{
	u8 state = 0;

	if (result || a->family == AF_UNIX_)
		return false;
	READ(state, ((struct sock *)socket)->__sk_common.skc_state);
	return state == TCP_SYN_SENT_;
}

static __always_inline void exit_connect(const struct call *call, s64 result, u64 now)
{
	u64 key = call->sk;
	struct attempt *a = attempts.lookup(&key);

	if (!a)
		return; /* established meanwhile */
	a->in_call = 0;
	if (is_put_off(key, a, result)) {
		a->put_off = 1;
		return;
	}
	if (!result)
		connect_succeeded((struct sock *)key, a, now);
	else if (!is_still_pending(result))
		fail_connect(a, key, -result, false);
	else if (a->closed_ns)
		fail_connect(a, key, a->error, syn_was_resent((struct sock *)key));
	else if (a->family != AF_UNIX_) /* which, interrupted, begins anew */
		return;
	forget_attempt(key);
}

/* SYN_SENT has ended. Inside connect() its own result says more than the socket, so that is left to
 * the exit. */
static __always_inline void connect_ended(struct sock *sk, int state, u64 now)
{
	u64 key = (u64)sk;
	struct attempt *a = attempts.lookup(&key);
	s32 error = 0;

	if (!a)
		return;
	if (state == TCP_ESTABLISHED_) {
		connect_succeeded(sk, a, now);
	} else {
		READ(error, sk->sk_err);
		if (a->in_call) {
			a->closed_ns = now;
			a->error = error;
			return;
		}
		if (error || !a->put_off) /* else nothing may have been sent */
			fail_connect(a, key, error, syn_was_resent(sk));
	}
	forget_attempt(key);
}

/* ringspan's own connections have no entry in `connections`, but one here. */
static __always_inline void forget_own(struct sock *sk)
{
	struct endpoints e = {};

	read_own(sk, &e);
	own_endpoints.delete(&e);
}

/* A TCP socket is gone for good; true if it is one that is followed, whose connection is to be
 * forgotten. */
static __always_inline bool destroyed(struct sock *sk)
{
	u64 key = (u64)sk;
	struct attempt *a = attempts.lookup(&key);

	if (a && a->in_call && a->closed_ns) /* its connect() has returned unseen */
		fail_connect(a, key, a->error, syn_was_resent(sk));
	forget_attempt(key);
	evicted.delete(&key);
	return connections.lookup(&key) != 0;
}
