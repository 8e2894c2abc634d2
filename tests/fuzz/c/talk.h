/* A connection with what has been moved over it so far, so that records can be held against it. */
#pragma once

#include <stdio.h>
#include <stdlib.h>

#define STREAM_MAX (1 << 13)
#define MOVED_MAX 256
#define IOVECS_MAX 1024

/* What a call moved: a part of its direction's stream. */
struct moved {
	u64 begin_ns;
	u32 from;
	u32 to;
	u8 direction;
	u8 opaque;
};

/* How a call hands its bytes over. */
struct manner {
	u32 piece; /* bytes of an iovec, 0: no iovecs */
	u32 repeated; /* how often the bytes stand there */
	u8 opaque;
	u8 unreadable;
	u8 as_messages;
	u8 sleeps;
};

/* The memory of one call. */
struct call_memory {
	struct iovec iovecs[IOVECS_MAX];
	struct mmsghdr_user messages[IOVECS_MAX];
	struct user_msghdr message;
	const u8 *from, *to;
};

struct talk {
	u32 fd;
	u64 inode;
	u64 thread;
	u8 role;
	u16 family;
	u32 sent[2];
	u32 moved_count;
	u32 records;
	s64 request_at; /* where the last record's request begins, and its response */
	s64 response_at;
	u32 unsent_from; /* where a send begins that failed after it had entered its call; 0: none did */
	struct moved moved[MOVED_MAX];
	u8 streams[2][STREAM_MAX];
};

static struct call_memory ordinary, lingering;
static struct sockaddr_named {
	u16 family;
	char data[26];
} address;
static const struct talk *talking;
static const struct record *checked;

static void print_bytes(const char *name, const void *bytes, u32 count_bytes)
{
	fprintf(stderr, "%s ", name);
	for (u32 i = 0; i < count_bytes && i < 300; i++) {
		u8 byte = ((const u8 *)bytes)[i];

		if (byte == '\n')
			fputs("\\n", stderr);
		else if (byte == '\r')
			fputs("\\r", stderr);
		else if (byte < ' ' || byte > '~' || byte == '\\')
			fprintf(stderr, "\\x%02x", byte);
		else
			fputc(byte, stderr);
	}
	fputc('\n', stderr);
}

static void print_moved(const struct talk *t, const struct moved *m)
{
	char name[64];

	snprintf(name, sizeof(name), "%8llu %s%s", (unsigned long long)m->begin_ns, m->direction == INGRESS ? "<" : ">",
		 m->opaque ? "?" : "");
	print_bytes(name, &t->streams[m->direction][m->from], m->to - m->from);
}

static void print_record(const struct record *r)
{
	fprintf(stderr, "record: tcp_seq %u, status %u, failure %u, times %llu %llu %llu, bodies %llu %llu, truncated %u\n",
		r->tcp_seq, r->status, r->failure, (unsigned long long)r->start_ktime_ns,
		(unsigned long long)r->first_byte_ktime_ns, (unsigned long long)r->end_ktime_ns,
		(unsigned long long)r->request_body_bytes, (unsigned long long)r->response_body_bytes, r->truncated);
	print_bytes(" method", r->method, r->method_bytes);
	print_bytes(" target", r->target, r->target_bytes);
	print_bytes(" host", r->host, r->host_bytes);
	print_bytes(" user-agent", r->user_agent, r->user_agent_bytes);
	print_bytes(" traceparent", r->traceparent, r->traceparent_bytes);
	print_bytes(" tracestate", r->tracestate, r->tracestate_bytes);
}

/* Say what does not hold, after which calls, and end. */
static void wrong(const char *what, int line)
{
	fprintf(stderr, "does not hold (line %d): %s\n", line, what);
	if (talking) {
		fprintf(stderr, "role %u, family %u, calls (< received, > sent, ? not readable):\n", talking->role, talking->family);
		for (u32 i = 0; i < talking->moved_count; i++)
			print_moved(talking, &talking->moved[i]);
	}
	if (checked)
		print_record(checked);
	abort();
}

#define CHECK(holds)                             \
	do {                                     \
		if (!(holds))                    \
			wrong(#holds, __LINE__); \
	} while (0)

static bool within(const void *from, const void *to, u64 at, u64 bytes)
{
	return at >= (u64)from && at + bytes <= (u64)to;
}

static bool memory_holds(const struct call_memory *m, u64 at, u64 bytes)
{
	return within(m->from, m->to, at, bytes) || within(m, &m->from, at, bytes);
}

static bool may_read(u64 at, u64 bytes)
{
	return memory_holds(&ordinary, at, bytes) || memory_holds(&lingering, at, bytes) ||
	       within(&address, &address + 1, at, bytes);
}

static struct sock *sock_of(const struct talk *t)
{
	return &socks[t->fd];
}

static struct connection *connection_of_talk(const struct talk *t)
{
	u64 key = (u64)sock_of(t);

	return connections.lookup(&key);
}

static void connect_talk(struct talk *t)
{
	struct pt_regs regs = {.orig_ax = SYS_CONNECT, .di = t->fd, .si = (u64)&address, .dx = sizeof(address)};

	address.family = t->family;
	memcpy(address.data, t->family == AF_UNIX_ ? "/run/x" : "\x08\xae\x7f\0\0\x01", 7);
	sockets[t->fd].state = 1;
	enter(&regs);
	if (t->family != AF_UNIX_)
		change_state(sock_of(t), TCP_SYN_SENT_, TCP_ESTABLISHED_);
	sockets[t->fd].state = 3;
	leave(&regs, 0);
}

/* A new connection: accepted, or connected, or (of no role) older than the trace. */
static void begin_talk(struct talk *t, u32 fd, u64 inode, u32 role)
{
	t->fd = fd;
	t->inode = inode;
	t->thread = THREAD(fd);
	t->role = role;
	memset(t->sent, 0, sizeof(t->sent));
	t->moved_count = 0;
	t->records = 0;
	t->request_at = -1;
	t->response_at = -1;
	t->unsent_from = 0;
	cpu.thread = t->thread;
	open_socket(fd, inode, t->family);
	if (role == ROLE_SERVER)
		system_call(SYS_ACCEPT4, 9, 0, 0, 0, fd);
	else if (role == ROLE_CLIENT)
		connect_talk(t);
}

/* Lay bytes out as iovecs, the last with so much room to spare; returns how many. */
static u32 lay_iovecs(struct call_memory *m, u32 piece, u32 spare)
{
	u32 n = 0, left = m->to - m->from;
	const u8 *at = m->from;

	while (left) {
		u32 bytes = n == IOVECS_MAX - 1 ? left : min_u64(piece, left);

		m->iovecs[n] = (struct iovec){.iov_base = (void *)at, .iov_len = bytes + (bytes == left ? spare : 0)};
		m->messages[n] = (struct mmsghdr_user){.iov = (u64)&m->iovecs[n], .iov_count = 1, .bytes = bytes};
		at += bytes;
		left -= bytes;
		n++;
	}
	return n;
}

/* Which system call hands these bytes over in this manner; what it returns goes to *result. */
static struct pt_regs choose_call(const struct talk *t, struct call_memory *m, bool sends, const struct manner *how, s64 *result)
{
	u64 bytes = m->to - m->from, at = how->unreadable ? 16 : (u64)m->from;
	u32 spare = sends ? 0 : 7; /* a reader's buffer is larger than what it gets */
	struct pt_regs regs = {.di = t->fd, .si = at, .dx = bytes + spare};
	/* Of more messages at once than are added up, where their bytes stand is not said. */
	u32 least = how->as_messages && !sends ? bytes / PIECES_MAX + 1 : 1;
	u32 n = how->piece ? lay_iovecs(m, how->piece < least ? least : how->piece, spare) : 0;

	*result = bytes;
	if (how->opaque) {
		regs.orig_ax = sends ? SYS_SENDFILE : SYS_SPLICE;
	} else if (!n) {
		regs.orig_ax = bytes & 1 ? (sends ? SYS_WRITE : SYS_READ) : (sends ? SYS_SENDTO : SYS_RECVFROM);
	} else if (how->as_messages) {
		regs.orig_ax = sends ? SYS_SENDMMSG : SYS_RECVMMSG;
		regs.si = (u64)m->messages;
		regs.dx = *result = n;
	} else if (n & 1) {
		regs.orig_ax = sends ? SYS_WRITEV : SYS_READV;
		regs.si = (u64)m->iovecs;
		regs.dx = n;
	} else {
		m->message = (struct user_msghdr){.msg_iov = m->iovecs, .msg_iovlen = n};
		regs.orig_ax = sends ? SYS_SENDMSG : SYS_RECVMSG;
		regs.si = (u64)&m->message;
		regs.dx = 0;
	}
	return regs;
}

/* Put bytes at the end of a direction's stream, as a call's memory; false if there is no room to keep them. */
static bool keep_moved(struct talk *t, u32 direction, struct call_memory *m, const u8 *data, u32 bytes, u32 repeated)
{
	u32 all = bytes * (repeated ? repeated : 1), at = t->sent[direction];
	u8 *to = &t->streams[direction][at];

	if (!bytes || at + all > STREAM_MAX || t->moved_count == MOVED_MAX)
		return false;
	for (u32 i = 0; i < all; i += bytes)
		memcpy(to + i, data, bytes);
	m->from = to;
	m->to = to + all;
	t->sent[direction] += all;
	t->moved[t->moved_count++] = (struct moved){0, at, at + all, direction, 0};
	return true;
}

/* Move bytes over a connection by one call; false if there is no room to keep them. */
static bool move_by(struct talk *t, u32 direction, const u8 *data, u32 bytes, const struct manner *how)
{
	bool sends = direction == EGRESS;
	struct pt_regs regs;
	struct moved *m = &t->moved[t->moved_count];
	s64 result;

	if (!keep_moved(t, direction, &ordinary, data, bytes, how->repeated))
		return false;
	m->opaque = how->opaque || how->unreadable;
	regs = choose_call(t, &ordinary, sends, how, &result);
	enter(&regs);
	m->begin_ns = cpu.now_ns + (sends ? 0 : 5);
	cpu.task.nvcsw += how->sleeps;
	if (sends)
		sock_of(t)->write_seq = t->sent[EGRESS];
	else
		sock_of(t)->copied_seq = t->sent[INGRESS];
	leave(&regs, result);
	return true;
}
