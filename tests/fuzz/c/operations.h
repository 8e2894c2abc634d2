/* The fuzz input, played on the hostile connection: text, and between the calls a byte 0xff with an operation's byte after it.
 * An operation ends the call before it. So HTTP stays HTTP under any mutation, and a call may be cut by inserting two bytes. */
#pragma once

#define MARK 0xff
#define IDLE_NS 30000000ULL

/* What an operation's byte says, by its upper half. */
enum operation {
	OP_CALL = 0, /* begin a call: 1 response, 2 in iovecs, 4 small ones, 8 as messages */
	OP_ODD_CALL = 1, /* begin a call: 1 response, 2 opaque, 4 unreadable, 8 it sleeps */
	OP_REPEAT = 2, /* begin a call whose bytes stand there 2^n times: 1 response, else n */
	OP_WAIT = 3, /* 2^n times 10 ns, or 30 ms and more */
	OP_EVENT = 4,
	OP_VALID = 5, /* the valid exchange goes on by so many bytes */
	OP_VALID_FAR = 6,
	OP_RUN = 7, /* text: 2^n times the byte before, in the same call */
};

static void receive_nothing(s64 result)
{
	system_call(SYS_READ, HOSTILE_FD, (u64)&address, 1, 0, result);
	hostile.ended[INGRESS] = 1;
}

static void meet_fin(void)
{
	struct sock *sk = sock_of(&hostile.talk);

	sk->sk_shutdown |= 1;
	if (hostile.talk.family == AF_UNIX_)
		return;
	if (hostile.ended[EGRESS])
		change_state(sk, TCP_FIN_WAIT2_, TCP_CLOSE_);
	else
		change_state(sk, TCP_ESTABLISHED_, TCP_CLOSE_WAIT_);
}

/* This side's FIN: by shutdown, or by close. */
static void send_fin(u8 shutdown_mask)
{
	struct sock *sk = sock_of(&hostile.talk);
	int to = sk->sk_shutdown & 1 ? TCP_LAST_ACK_ : TCP_FIN_WAIT1_;

	sk->sk_shutdown |= shutdown_mask;
	if (hostile.talk.family != AF_UNIX_ && !hostile.ended[EGRESS])
		change_state(sk, TCP_ESTABLISHED_, to);
	hostile.ended[EGRESS] = 1;
}

static void break_off(s32 error)
{
	struct sock *sk = sock_of(&hostile.talk);

	sk->sk_err = error;
	if (hostile.talk.family != AF_UNIX_)
		change_state(sk, TCP_ESTABLISHED_, TCP_CLOSE_);
	hostile.ended[EGRESS] = 1;
	receive_nothing(-error);
}

/* A connect() to nowhere lets go of the connection. */
static void disconnect(void)
{
	address.family = AF_UNSPEC_;
	system_call(SYS_CONNECT, HOSTILE_FD, (u64)&address, sizeof(address), 0, 0);
	change_state(sock_of(&hostile.talk), TCP_ESTABLISHED_, TCP_CLOSE_);
}

/* The socket is gone: closed, or broken off, or (by a connect to nowhere) let go of. */
static void end_hostile(u32 event)
{
	const struct connection *at = connection_of_talk(&hostile.talk);
	struct sock *sk = sock_of(&hostile.talk);
	u64 identity = at ? at->head.identity : 0;

	return_send(event == EVENT_CLOSE ? hostile.result : -EPIPE_);
	limit();
	if (hostile.talk.family == AF_UNIX_ && event == EVENT_RESET) {
		all_files.count = 1;
		run_program(on_process_exit, 0, 0, 0);
	} else if (hostile.talk.family == AF_UNIX_) {
		system_call(SYS_CLOSE, HOSTILE_FD, 0, 0, 0, 0);
	} else {
		if (event == EVENT_CLOSE)
			send_fin(SHUTDOWN_MASK_);
		else if (event == EVENT_DISCONNECT)
			disconnect();
		else if (event == EVENT_RESET)
			change_state(sk, TCP_ESTABLISHED_, TCP_CLOSE_);
		destroy_socket(sk);
	}
	unlimit();
	take_records();
	check_gone(&hostile.talk, identity);
}

static void happen(u32 event)
{
	if (event == EVENT_CLOSE || event == EVENT_RESET || event == EVENT_DISCONNECT) {
		end_hostile(event);
		open_hostile(hostile.setting);
		return;
	}
	if (event >= EVENT_SEND_LINGERS && event <= EVENT_SEND_LINGERS_ELSEWHERE)
		hostile.linger = event;
	if (event == EVENT_SEND_RETURNS)
		return_send(hostile.result);
	if (event == EVENT_SEND_RETURNS_SHORT)
		return_send_short();
	if (event == EVENT_OTHER_PROCESS || event == EVENT_SAME_PROCESS)
		hostile.maker = event == EVENT_OTHER_PROCESS ? OTHER_PROCESS(0) : THREAD(HOSTILE_FD);
	limit();
	if ((event == EVENT_FIN || event == EVENT_STREAM_ENDS) && !hostile.ended[INGRESS])
		meet_fin();
	if (event == EVENT_STREAM_ENDS)
		receive_nothing(0);
	if (event == EVENT_SHUTDOWN) {
		send_fin(2);
		system_call(SYS_SHUTDOWN, HOSTILE_FD, 1, 0, 0, 0);
	}
	if (event == EVENT_RECEIVE_RESET || event == EVENT_RECEIVE_TIMES_OUT)
		break_off(event == EVENT_RECEIVE_RESET ? ECONNRESET_ : ETIMEDOUT_);
	if (event == EVENT_SEND_FAILS && !hostile.lingers)
		system_call(SYS_WRITE, HOSTILE_FD, (u64)&address, 1, 0, -EPIPE_);
	unlimit();
	take_records();
}

static void begin_call(u32 operation, u32 n)
{
	hostile.is_response = n & 1;
	if (operation == OP_CALL) {
		hostile.how.piece = n & 2 ? (n & 4 ? 1 : 61) : 0;
		hostile.how.as_messages = n & 2 && n & 8;
	} else if (operation == OP_ODD_CALL) {
		hostile.how.opaque = !!(n & 2);
		hostile.how.unreadable = !!(n & 4);
		hostile.how.sleeps = !!(n & 8);
	} else {
		hostile.how.repeated = 1 << (n >> 1);
	}
}

static void repeat_byte(u32 n)
{
	u32 times = min_u64(1U << n, STREAM_MAX - hostile.bytes);

	if (hostile.bytes && times) {
		memset(hostile.data + hostile.bytes, hostile.data[hostile.bytes - 1], times);
		hostile.bytes += times;
	}
}

static void operate(u8 byte)
{
	u32 operation = (byte >> 4) & 7, n = byte & 15;

	if (operation == OP_RUN) {
		repeat_byte(n & 11);
		return;
	}
	end_call();
	if (operation <= OP_REPEAT)
		begin_call(operation, n);
	else if (operation == OP_WAIT)
		cpu.now_ns += n < 12 ? 10U << n : (n - 11) * IDLE_NS;
	else if (operation == OP_EVENT)
		happen(n);
	else
		advance_valid(operation == OP_VALID ? n + 1 : 30 * (n + 1), n & 1 ? 1 + n : 0);
	take_records();
}

static void play_hostile(const u8 *data, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++) {
		if (data[i] == MARK && i + 1 < bytes)
			operate(data[++i]);
		else if (hostile.bytes < STREAM_MAX)
			hostile.data[hostile.bytes++] = data[i];
	}
	end_call();
}
