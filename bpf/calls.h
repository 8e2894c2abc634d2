/* System calls on stream sockets: what each one moved, and when. */
#pragma once

/* A thread that waits for several things at once serves none of them in particular. */
static __always_inline void enter_waiting(u64 registers, int kind)
{
	u64 arguments[4] = {};

	if (kind == CALL_POLL) {
		read_arguments(arguments, registers);
		if (arguments[1] <= 1)
			return;
	}
	stop_serving();
}

/* Count a 32-bit caller's socket call (or any read or write of its); such callers are not followed.
 */
static __always_inline void count_foreign_call(u64 number)
{
	if (is_32bit_number(number) && is_32bit_caller())
		count(COUNTER_UNSEEN_32BIT_CALLS);
}

static __always_inline u64 flags_given(u64 number, const u64 *arguments)
{
	if (number == SYS_RECVFROM || number == SYS_RECVMMSG || number == SYS_SENDTO ||
	    number == SYS_SENDMMSG)
		return arguments[3];
	return number == SYS_RECVMSG || number == SYS_SENDMSG ? arguments[2] : 0;
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
	if (!file || flags_given(number, arguments) & MSG_DONTWAIT_)
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
	forget_tls_calls();
	forget_serving();
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

static __always_inline void enter_send(u64 number, const u64 *arguments, u32 fd, u64 now)
{
	struct call call = {.begin_ns = now, .number = number};
	struct connection *c;
	struct stream s = {};

	if (is_own_process() || !stream_of(fd, &s))
		return;
	c = connection_for_caller(&s);
	if (carries_tls(s.sk, c, EGRESS, number, arguments, 1) || !c || c->off)
		return;
	__builtin_memcpy(call.arguments, arguments, sizeof(call.arguments));
	call.flags = flags_given(number, arguments);
	begin_send(&call, s.sk, c);
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

/* Of a noted socket only the address is known: it was followed when its reader went to sleep. */
static __always_inline struct connection *connection_noted(const struct stream *s)
{
	u64 key = (u64)s->sk;

	return connections.lookup(&key);
}

static __always_inline bool exit_receive(u64 number, const u64 *arguments, u32 fd, s64 result,
					 u64 now)
{
	u64 flags = flags_given(number, arguments);
	struct connection *c;
	struct stream s = {};
	struct work *w;

	if (is_own_process() || !socket_read(fd, &s))
		return false;
	if (!is_telling(s.sk, flags, result)) {
		note_tls_socket();
		return false;
	}
	c = s.inode ? connection_for_caller(&s) : connection_noted(&s);
	if (carries_tls(s.sk, c, INGRESS, number, arguments, result) || !c || c->off)
		return false;
	w = begin_receive(c, s.sk, result, now);
	if (!w)
		return false;
	w->call.number = number;
	w->call.flags = flags;
	w->call.unplaced = number == SYS_RECVMMSG && result > PIECES_MAX;
	__builtin_memcpy(w->call.arguments, arguments, sizeof(w->call.arguments));
	place_receive(w, c);
	return true;
}

static __always_inline void exit_accept(s64 fd)
{
	struct stream s = {};

	if (fd >= 0 && process_wanted() && stream_of(fd, &s))
		accepted(&s);
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
	if (kind != CALL_RECEIVE)
		entered = calls.lookup(&thread);
	if (entered)
		call = *entered;
	if (entered && call.purpose == PURPOSE_CONNECT) {
		calls.delete(&thread);
		exit_connect(&call, result, now);
		return false;
	}
	if (kind == CALL_CONNECT)
		return false;
	if (entered)
		return end_send(&call, result, now);
	if (kind != CALL_RECEIVE && kind != CALL_SPLICE)
		return false;
	return exit_receive(number, arguments, arguments[0], result, now);
}

/* The operations of io_uring that move a stream's bytes (enum io_uring_op in linux/io_uring.h):
 * READV, WRITEV, READ_FIXED, WRITE_FIXED, SENDMSG, RECVMSG, READ, WRITE, SEND, RECV, SPLICE,
 * SEND_ZC, SENDMSG_ZC, READ_MULTISHOT, RECV_ZC. */
#define IO_URING_MOVES                                                                         \
	(1ULL << 1 | 1ULL << 2 | 1ULL << 4 | 1ULL << 5 | 1ULL << 9 | 1ULL << 10 | 1ULL << 22 | \
	 1ULL << 23 | 1ULL << 26 | 1ULL << 27 | 1ULL << 30 | 1ULL << 47 | 1ULL << 48 |         \
	 1ULL << 49 | 1ULL << 58)

/* Before 5.19 the tracepoint does not tell the operation (48863ffd3e81): there any use counts. */
static __always_inline bool moves_bytes(u64 request)
{
#ifdef HAS_IO_URING_REQUEST
	u8 operation = 0;

	READ(operation, ((struct io_kiocb *)request)->opcode);
	return operation < 64 && IO_URING_MOVES >> operation & 1;
#else
	return true;
#endif
}

/* A stream whose bytes io_uring moves is not seen by system calls, from now on. */
static __always_inline void enter_io_uring(u64 request, u32 fd)
{
	struct connection *c;
	struct stream s = {};

	if (is_own_process() || !moves_bytes(request) || !stream_of(fd, &s))
		return;
	c = connection_for_caller(&s);
	if (!c || c->off || !admitted(c))
		return;
	count(COUNTER_UNSEEN_IO_URING);
	if (!lock_if(c, (u64)s.sk))
		return;
	if (outstanding(c))
		settle(c, SETTLE_DESYNC, bpf_ktime_get_ns());
	c->off = 1;
	unlock(c);
}
