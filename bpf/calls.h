/* System calls on stream sockets: what each one moved, and when. */
#pragma once

/* Count a 32-bit caller's socket call (or any read or write of its); such callers are not followed.
 */
static __always_inline void count_foreign_call(u64 number)
{
	if (is_32bit_number(number) && is_32bit_caller())
		count(COUNTER_UNSEEN_32BIT_CALLS);
}

static __always_inline u64 receive_flags(u64 number, const u64 *arguments)
{
	if (number == SYS_RECVFROM || number == SYS_RECVMMSG)
		return arguments[3];
	return number == SYS_RECVMSG ? arguments[2] : 0;
}

/* A connection that is followed is so for all who move its bytes, asked for or not. */
static __always_inline struct connection *connection_for_caller(const struct stream *s)
{
	return process_wanted() ? connection_of(s) : connection_known(s);
}

/* While a thread sleeps in a call, another may put a new file in the place of its descriptor: such
 * a reader's socket is noted. (A call that cannot sleep, or a thread without others, needs no
 * note.) */
static __always_inline void enter_receive(u64 registers, u64 number)
{
	u64 arguments[4] = {}, thread = bpf_get_current_pid_tgid(), sk;
	struct file *file;
	struct stream s = {};
	u32 flags = 0;

	if (has_own_files() || is_32bit_caller())
		return;
	readers.delete(&thread); /* of a call in which its last sibling went */
	read_arguments(arguments, registers);
	file = file_of(arguments[0]);
	if (!file || receive_flags(number, arguments) & MSG_DONTWAIT_)
		return;
	READ(flags, file->f_flags);
	if (flags & O_NONBLOCK_ || !stream_of_file(file, &s))
		return;
	sk = (u64)s.sk;
	if (connections.lookup(&sk) && readers.update(&thread, &sk))
		count(COUNTER_READERS_TABLE_FULL);
}

/* What is kept of a thread's calls lives no longer than the thread. */
static __always_inline void forget_thread(void)
{
	u64 thread = bpf_get_current_pid_tgid();

	calls.delete(&thread);
	readers.delete(&thread);
}

/* The socket that a call has read: the noted one, else what its descriptor now stands for. */
static __always_inline bool socket_read(u32 fd, struct stream *s)
{
	u64 thread = bpf_get_current_pid_tgid(), *noted;

	if (has_own_files())
		return stream_of(fd, s);
	noted = readers.lookup(&thread);
	if (!noted)
		return stream_of(fd, s);
	s->sk = (void *)*noted;
	readers.delete(&thread);
	return true;
}

/* A thread that ends: its note is still there if it woke up alone (its siblings went meanwhile). */
static __always_inline void forget_reader(void)
{
	u64 thread = bpf_get_current_pid_tgid();

	readers.delete(&thread);
}

static __always_inline void enter_send(u64 number, const u64 *arguments, u32 fd, u64 now)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct call call = {.begin_ns = now, .number = number};
	struct connection *c;
	struct stream s = {};

	if (is_own_process() || !stream_of(fd, &s))
		return;
	c = connection_for_caller(&s);
	if (!c || c->off)
		return;
	if (c->fresh)
		note_unanswered(s.sk, c);
	c->fresh = 0;
	call.sleeps = sleeps();
	call.sk = (u64)s.sk;
	call.identity = c->head.identity;
	call.family = c->head.family;
	__builtin_memcpy(call.arguments, arguments, sizeof(call.arguments));
	if (c->head.family != AF_UNIX_)
		call.sequence = sequence_written(s.sk);
	if (!calls.update(&thread, &call)) {
		c->writer = thread;
	} else {
		count(COUNTER_CALLS_TABLE_FULL);
		c->broken = COUNTER_DESYNC_OVERLAP; /* its bytes will be missing */
	}
}

static __always_inline void enter_sending(u64 registers, u64 number, int kind)
{
	u64 arguments[4] = {};
	u64 now = bpf_ktime_get_ns();

	if (is_32bit_caller())
		return;
	read_arguments(arguments, registers);
	enter_send(number, arguments, arguments[kind == CALL_SPLICE ? 2 : 0], now);
}

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

/* Of a noted socket only the address is known: it was followed when its reader went to sleep. */
static __always_inline struct connection *connection_noted(const struct stream *s)
{
	u64 key = (u64)s->sk;

	return connections.lookup(&key);
}

/* How many bytes a receive has moved. */
static __always_inline u64 bytes_received(const struct work *w, u64 number)
{
	struct mmsghdr_user message = {};
	u64 sum = 0;
	int i;

	if (number != SYS_RECVMMSG)
		return w->moved;
#pragma nounroll
	for (i = 0; i < PIECES_MAX; i++) {
		if (i >= w->moved)
			break;
		read_user(&message, sizeof(message), w->call.arguments[1] + i * sizeof(message));
		sum += message.bytes;
	}
	return sum;
}

static __always_inline bool exit_receive(u64 number, const u64 *arguments, u32 fd, s64 result,
					 u64 now)
{
	u64 flags = receive_flags(number, arguments);
	struct connection *c;
	struct stream s = {};
	struct work *w;

	if (is_own_process() || !socket_read(fd, &s))
		return false;
	if ((result < 0 && !is_fatal(result)) || flags & (MSG_PEEK_ | MSG_ERRQUEUE_))
		return false;
	c = s.inode ? connection_for_caller(&s) : connection_noted(&s);
	if (!c || c->off || (!result && !is_at_end(s.sk)))
		return false;
	if (c->fresh && result > 0)
		note_unserved(s.sk, c, result);
	c->fresh = 0;
	w = begin_work((u64)s.sk, INGRESS, now);
	if (!w)
		return false;
	w->call.number = number;
	w->call.family = c->head.family;
	w->call.unplaced = number == SYS_RECVMMSG && result > PIECES_MAX;
	__builtin_memcpy(w->call.arguments, arguments, sizeof(w->call.arguments));
	w->moved = result > 0 ? result : 0;
	w->ended = !result;
	w->error = result < 0 ? fatal_error(result) : 0;
	if (c->head.family != AF_UNIX_) {
		/* A client's are not asked for; but a guess at the role may be taken back. */
		if (c->role != ROLE_CLIENT || c->role_known != ROLE_CERTAIN)
			w->call.sequence = sequence_read(s.sk) - bytes_received(w, number);
		w->opaque = (flags & MSG_TRUNC_) != 0; /* consumed, and shown to no one */
	}
	return true;
}

static __always_inline bool exit_send(const struct call *call, s64 result, u64 now)
{
	u64 key = call->sk, thread = bpf_get_current_pid_tgid();
	struct connection *c = connections.lookup(&key);
	struct work *w = begin_work(key, EGRESS, now);

	if (!w || !c || c->off || c->head.identity != call->identity) {
		calls.delete(&thread);
		return false;
	}
	if (result < 0 && is_fatal(result) && !c->error)
		c->error = fatal_error(result);
	w->call = *call;
	w->moved = result > 0 ? result : 0;
	return true;
}

static __always_inline void exit_accept(s64 fd)
{
	struct stream s = {};
	u64 key;

	if (fd < 0 || !process_wanted() || !stream_of(fd, &s))
		return;
	key = (u64)s.sk;
	if (!connections.lookup(&key))
		connection_open(&s, ROLE_SERVER, 1);
}

/* A call has returned; true if its bytes are to be followed. */
static __always_inline bool exit_call(u64 registers, u64 number, int kind, s64 result)
{
	u64 arguments[4] = {};
	u64 now = bpf_ktime_get_ns(), thread = bpf_get_current_pid_tgid();
	struct call call = {}, *entered = 0;

	if (is_32bit_caller())
		return false;
	read_arguments(arguments, registers);
	if (kind == CALL_ACCEPT) {
		exit_accept(result);
		return false;
	}
	if (kind == CALL_RECEIVE)
		return exit_receive(number, arguments, arguments[0], result, now);
	entered = calls.lookup(&thread);
	if (entered)
		call = *entered;
	if (entered && call.connecting) {
		calls.delete(&thread);
		exit_connect(&call, result, now);
		return false;
	}
	if (kind == CALL_CONNECT)
		return false;
	if (!entered && kind == CALL_SPLICE)
		return exit_receive(number, arguments, arguments[0], result, now);
	if (!entered)
		return false;
	return exit_send(&call, result, now);
}
