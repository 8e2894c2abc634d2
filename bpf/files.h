/* Descriptors that are closed. TCP tells of its closing by state changes; a Unix socket tells no
 * one, so its end is the end of its last descriptor: by close, dup2, close_range or exit. (By exec:
 * user space sweeps.) */
#pragma once

#define FILES_AT_ONCE 32
#define CLOSE_RANGE_CLOEXEC_ 4

static __always_inline struct closing *closing_of_thread(void)
{
	u64 thread = bpf_get_current_pid_tgid();

	return closings.lookup(&thread);
}

static __always_inline void forget_closing(void)
{
	u64 thread = bpf_get_current_pid_tgid();

	closings.delete(&thread);
}

static __always_inline bool begin_closing(u64 from, u64 to, u64 key, u64 now)
{
	struct closing closing = {.next = from, .end = to, .key = key, .now_ns = now};
	u64 thread = bpf_get_current_pid_tgid();

	if (!closings.update(&thread, &closing))
		return true;
	count(COUNTER_CALLS_TABLE_FULL);
	return false;
}

/* Have one connection forgotten by the program that follows. */
static __always_inline bool forget_next(u64 key, u64 now)
{
	return begin_closing(0, 0, key, now);
}

/* The connection of a file that is a Unix socket's and followed, else 0. */
static __always_inline struct connection *unix_connection(struct file *file, struct stream *s)
{
	struct connection *c;

	if (!file || !stream_of_file(file, s))
		return 0;
	c = connection_known(s);
	return c && c->head.family == AF_UNIX_ ? c : 0;
}

/* close, shutdown or dup2; true if the connection of the descriptor is to be forgotten. */
static __always_inline bool enter_close(u64 registers, int kind)
{
	u64 arguments[4] = {};
	u64 now = bpf_ktime_get_ns();
	struct stream s = {};
	struct connection *c;
	struct file *file;
	u64 replaced, key;

	if (is_32bit_caller())
		return false;
	read_arguments(arguments, registers);
	replaced = arguments[1];
	OPAQUE(replaced); /* not a choice of two addresses, which the verifier refuses */
	if (kind == CALL_DUP && ((u32)arguments[0] == (u32)arguments[1] || !file_of(arguments[0])))
		return false;
	file = file_of(kind == CALL_DUP ? replaced : arguments[0]);
	if (!unix_connection(file, &s))
		return false;
	key = (u64)s.sk;
	c = connection_carried(&key);
	if (c)
		note_shutdown(c, s.sk);
	if (kind == CALL_SHUTDOWN) {
		if (c && arguments[1] != SHUT_RD_)
			close_egress(c, key, false, now);
		return false;
	}
	return is_last_reference(file) && forget_next((u64)s.sk, now);
}

static __always_inline bool enter_close_range(u64 registers)
{
	u64 arguments[4] = {};

	if (is_32bit_caller())
		return false;
	read_arguments(arguments, registers);
	if (arguments[2] & CLOSE_RANGE_CLOEXEC_)
		return false;
	return begin_closing((u32)arguments[0], (u64)(u32)arguments[1] + 1, 0, bpf_ktime_get_ns());
}

static __always_inline bool exit_process(void)
{
	forget_thread();
	return has_own_files() && begin_closing(0, 1ULL << 32, 0, bpf_ktime_get_ns());
}

/* connect(); true if it disconnects a socket whose connection is to be forgotten. */
static __always_inline bool enter_connecting(u64 registers)
{
	u64 arguments[4] = {}, now = bpf_ktime_get_ns(), ended;
	struct stream s = {};

	if (is_32bit_caller() || !(is_own_process() || process_wanted()))
		return false;
	read_arguments(arguments, registers);
	if (!stream_of(arguments[0], &s))
		return false;
	ended = begin_connect(&s, arguments[1], arguments[2], now);
	return ended && forget_next(ended, now);
}

/* Look at some of the descriptors; true if one was the last of a Unix connection (`key`). */
static __always_inline bool close_files(struct closing *closing)
{
	u64 count = file_slots();
	int i;

	closing->end = min_u64(closing->end, count);
#pragma nounroll
	for (i = 0; i < FILES_AT_ONCE; i++) {
		struct stream s = {};
		struct connection *c;
		struct file *file;

		FORGET();
		if (closing->next >= closing->end)
			return false;
		file = file_of(closing->next++);
		c = unix_connection(file, &s);
		if (!c || !is_last_reference(file))
			continue;
		note_shutdown(c, s.sk);
		closing->key = (u64)s.sk;
		return true;
	}
	return false;
}

/* Forget the connection whose last descriptor has been found; true if there are more to look at. */
static __always_inline bool forget_connection(void)
{
	struct closing *closing = closing_of_thread();

	if (!closing)
		return false;
	connection_ended(closing->key, closing->now_ns);
	if (closing->next < closing->end)
		return true;
	forget_closing();
	return false;
}
