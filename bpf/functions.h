/* The kernel's own functions for stream sockets, from entry to return. */
#pragma once

/* The stream that a struct socket stands for. */
static __always_inline bool stream_of_socket(u64 address, struct stream *s)
{
	struct socket *socket = (void *)address;
	struct file *file = 0;
	u32 state = 0;
	u16 type = 0;

	READ(s->sk, socket->sk);
	READ(file, socket->file);
	READ(state, socket->state);
	READ(type, socket->type);
	s->state = state;
	if (file)
		READ(s->inode, file->f_inode);
	return s->sk != 0 && type == SOCK_STREAM_;
}

static __always_inline struct sock *sk_of_socket(u64 address)
{
	struct sock *sk = 0;

	READ(sk, ((struct socket *)address)->sk);
	return sk;
}

/* The connection whose bytes the running thread is about to move. Each socket's end is seen, so an
 * address that is known is the same socket's. */
static __always_inline struct connection *connection_to_move(struct sock *sk)
{
	u64 key = (u64)sk, socket = 0;
	struct connection *c = connections.lookup(&key);
	struct stream s = {};

	if (c || is_own_process() || !process_wanted())
		return c;
	READ(socket, sk->sk_socket);
	if (!socket || !stream_of_socket(socket, &s))
		return 0;
	return connection_open(&s, ROLE_UNKNOWN, 0);
}

#if defined(HAS_unix_stream_read_actor) && !defined(CAPTURE_FENTRY)
#define READS_UNIX_WITHIN 1
#else
#define READS_UNIX_WITHIN 0
#endif

/* What a call moved is known without its return: by TCP's sequence, of a send if it was pushed; of
 * what is read from a Unix socket piece by piece. */
static __always_inline bool is_followed_within(const struct call *call)
{
	if (!call->sequenced)
		return READS_UNIX_WITHIN && call->purpose == PURPOSE_RECEIVE &&
		       call->number != BYTES_UNSEEN;
	return call->purpose == PURPOSE_RECEIVE || call->pushed;
}

/* A thread that begins a call is in no other: a return was not seen, nor (but for most calls) what
 * that call moved. False if the call has been noted. */
static __always_inline bool begins_call(void)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct call *left = calls.lookup(&thread);
	struct connection *c;

	if (!left)
		return true;
	if (seen_by_copy(&left->seen))
		return false;
	count(COUNTER_MISSED_RETURNS);
	c = connections.lookup(&left->sk);
	if (c && c->head.identity == left->identity) {
		if (!is_followed_within(left))
			c->broken = COUNTER_DESYNC_OVERLAP;
		if (c->writer == thread)
			c->writer = 0;
	}
	calls.delete(&thread);
	return true;
}

static __always_inline void remember(struct call *call, struct connection *c)
{
	u64 thread = bpf_get_current_pid_tgid();

	call->seen = this_copy();
	if (!calls.update(&thread, call))
		return;
	count(COUNTER_CALLS_TABLE_FULL);
	if (c)
		c->broken = COUNTER_DESYNC_OVERLAP;
}

static __always_inline void enter_sending(struct sock *sk, struct msghdr *message, u64 bytes)
{
	struct call call = {.begin_ns = bpf_ktime_get_ns(), .number = BYTES_UNSEEN};
	struct connection *c;

	if (!begins_call())
		return;
	c = connection_to_move(sk);
	if ((!c || c->off) && !tls_call_of_thread())
		return;
	if (message) {
		take_iterator(&call, message, bytes);
		READ(call.flags, message->msg_flags);
	}
	call.arguments[ARGUMENT_BYTES] = bytes;
	if (carries_tls(sk, c, EGRESS, call.number, call.arguments, 1) || !c || c->off)
		return;
	begin_send(&call, sk, c);
}

static __always_inline void enter_receiving(struct sock *sk, struct msghdr *message, u64 flags)
{
	struct call call = {.number = BYTES_UNSEEN, .purpose = PURPOSE_RECEIVE, .flags = flags};
	struct connection *c;

	if (!begins_call() || flags & UNTOLD_FLAGS)
		return;
	note_tls_socket();
	c = connection_to_move(sk);
	if (!c || c->off)
		return;
	call.sk = (u64)sk;
	call.identity = c->head.identity;
	call.sequenced = c->sequenced;
	if (call.sequenced)
		call.sequence = sequence_read(sk);
	if (message)
		take_iterator(&call, message, 0);
	remember(&call, c);
}

/* A socket is given the end of a connection: within accept(), and nowhere else for streams. */
static __always_inline void joined(u64 socket)
{
	struct stream s = {};

	if (!is_own_process() && process_wanted() && stream_of_socket(socket, &s))
		accepted(&s);
}

/* connect(): to somewhere, or (AF_UNSPEC) to nowhere, which ends what it was connected to. */
static __always_inline void enter_connecting(u64 socket, u64 address, u64 bytes)
{
	u64 now = bpf_ktime_get_ns(), ended;
	struct stream s = {};

	if (!begins_call() || !(is_own_process() || process_wanted()) ||
	    !stream_of_socket(socket, &s))
		return;
	ended = begin_connect(&s, address, bytes, now);
	if (ended)
		connection_ended(ended, now);
}

/* The call of the running thread that now returns; false if it was not noted. */
static __always_inline bool take_call(struct call *call, u32 purpose)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct call *entered = calls.lookup(&thread);

	if (!entered || entered->purpose != purpose)
		return false;
	*call = *entered;
	if (purpose != PURPOSE_SEND) /* whose helpers look at it until it is laid out */
		calls.delete(&thread);
	return true;
}

/* Within a send: TCP has taken all up to where its sequence now stands, and sends it. */
static __always_inline bool send_goes_on(struct sock *sk)
{
	u64 thread = bpf_get_current_pid_tgid(), key = (u64)sk, so_far;
	struct call *entered = calls.lookup(&thread);
	struct connection *c = connections.lookup(&key);
	struct work *w;

	if (!entered || entered->purpose != PURPOSE_SEND || entered->sk != (u64)sk ||
	    !entered->sequenced || entered->helped == NO_HELP)
		return false;
	so_far = (u32)(sequence_written(sk) - entered->sequence);
	if (so_far <= entered->pushed || !c || c->off || c->head.identity != entered->identity)
		return false;
	w = begin_work(c, (u64)sk, EGRESS, bpf_ktime_get_ns());
	if (!w)
		return false;
	w->call = *entered;
	w->moved = so_far;
	w->within = 1;
	return true;
}

/* All that a send moved was followed from within: nothing is left but to forget it. */
static __always_inline bool forget_sent(const struct call *call, s64 result)
{
	u64 thread = bpf_get_current_pid_tgid(), key = call->sk;
	struct connection *c = connections.lookup(&key);

	if (result <= 0 || call->pushed != result || call->helped != result)
		return false;
	calls.delete(&thread);
	if (c && c->writer == thread)
		c->writer = 0;
	return true;
}

static __always_inline bool exit_sending(s64 result)
{
	struct call call;

	return take_call(&call, PURPOSE_SEND) && !forget_sent(&call, result) &&
	       end_send(&call, result, bpf_ktime_get_ns());
}

/* Follow what a receive has moved so far, or (below 0) how it has failed; true if there is work. */
static __always_inline bool follow_receive(const struct call *call, s64 so_far)
{
	struct connection *c = connections.lookup(&call->sk);
	struct work *w;

	if (carries_tls((struct sock *)call->sk, c, INGRESS, call->number, call->arguments,
			so_far) ||
	    !c || c->off || c->head.identity != call->identity)
		return false;
	w = begin_receive(c, (struct sock *)call->sk, so_far, bpf_ktime_get_ns());
	if (!w)
		return false;
	w->call = *call;
	place_receive(w, c);
	return true;
}

/* Within a receive: TCP has given its caller all up to where its sequence now stands. Returns of
 * functions are seen of a few threads at once only, and any number may sleep in a receive: so a
 * receive is followed from here, where none sleeps. */
static __always_inline bool receive_goes_on(struct sock *sk)
{
	u64 thread = bpf_get_current_pid_tgid(), so_far;
	struct call *entered = calls.lookup(&thread), call;

	if (!entered || entered->purpose != PURPOSE_RECEIVE || entered->sk != (u64)sk)
		return false;
	so_far = (u32)(sequence_read(sk) - entered->sequence);
	call = *entered;
	if (so_far <= call.helped)
		return false;
	entered->helped = so_far;
	return follow_receive(&call, so_far);
}

/* ... of a Unix socket: so many bytes more have been given to its caller. */
static __always_inline bool unix_receive_goes_on(s64 more)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct call *entered = calls.lookup(&thread), call;

	if (more <= 0 || !entered || entered->purpose != PURPOSE_RECEIVE || entered->sequenced)
		return false;
	call = *entered;
	entered->helped += more;
	return follow_receive(&call, call.helped + more);
}

static __always_inline bool exit_receiving(s64 result)
{
	struct call call;

	if (!take_call(&call, PURPOSE_RECEIVE) ||
	    !is_telling((struct sock *)call.sk, call.flags, result))
		return false;
	if (result > 0 && result <= call.helped)
		return false;
	return follow_receive(&call, result);
}

static __always_inline void exit_connecting(s64 result)
{
	struct call call;

	if (take_call(&call, PURPOSE_CONNECT))
		exit_connect(&call, result, bpf_ktime_get_ns());
}

/* A Unix socket tells of its end by no state. */
static __always_inline void release_unix(u64 socket)
{
	u64 key = (u64)sk_of_socket(socket), carried = key;
	struct connection *c = connection_carried(&carried);

	begins_call();
	evicted.delete(&key);
	if (c)
		note_shutdown(c, (struct sock *)key);
	connection_ended(key, bpf_ktime_get_ns());
}

static __always_inline void shut_unix(u64 socket, int how)
{
	u64 sk = (u64)sk_of_socket(socket), key = sk;
	struct connection *c = connection_carried(&key);

	begins_call();
	if (!c)
		return;
	note_shutdown(c, (struct sock *)sk);
	if (how != SHUT_RD_)
		close_egress(c, key, false, bpf_ktime_get_ns());
}
