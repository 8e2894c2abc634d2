/* The kernel as this program needs it: reads, registers, system call numbers, socket walks. */
#pragma once

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif
#define READ(dst, src) bpf_probe_read_kernel(&(dst), sizeof(dst), &(src))
#define min_u64(a, b) ((a) < (b) ? (a) : (b))

/* Keeps clang from rewriting a bound it has proved into one that the verifier cannot follow. */
#define OPAQUE(x) asm volatile("" : "+r"(x))

/* Makes clang read memory anew, so that the verifier finds every turn of a loop alike and walks it
 * once. */
#define FORGET() asm volatile("" : : : "memory")

#define EPERM_ 1
#define EINTR_ 4
#define EAGAIN_ 11
#define EPIPE_ 32
#define ECONNRESET_ 104
#define EISCONN_ 106
#define ETIMEDOUT_ 110
#define EALREADY_ 114
#define EINPROGRESS_ 115
#define ERESTARTSYS_ 512
#define ERESTART_LAST_ 516

#define AF_UNIX_ 1
#define AF_INET_ 2
#define AF_INET6_ 10
#define SOCK_STREAM_ 1
#define IPPROTO_TCP_ 6
#define MSG_PEEK_ 0x2
#define MSG_TRUNC_ 0x20
#define MSG_ERRQUEUE_ 0x2000
#define SHUT_RD_ 0
#define SHUTDOWN_MASK_ 3
#define SS_CONNECTING_ 2
#define S_IFMT_ 0170000
#define S_IFSOCK_ 0140000

enum tcp_states {
	TCP_ESTABLISHED_ = 1,
	TCP_SYN_SENT_ = 2,
	TCP_FIN_WAIT1_ = 4,
	TCP_CLOSE_ = 7,
	TCP_CLOSE_WAIT_ = 8,
	TCP_LAST_ACK_ = 9,
};

/* System calls by kind. Numbers differ per architecture; registers are read through one macro. */
#if defined(RINGSPAN_X86_64)
#define SYS_READ 0
#define SYS_WRITE 1
#define SYS_CLOSE 3
#define SYS_READV 19
#define SYS_WRITEV 20
#define SYS_SENDFILE 40
#define SYS_CONNECT 42
#define SYS_ACCEPT 43
#define SYS_SENDTO 44
#define SYS_RECVFROM 45
#define SYS_SENDMSG 46
#define SYS_RECVMSG 47
#define SYS_SHUTDOWN 48
#define SYS_SPLICE 275
#define SYS_ACCEPT4 288
#define SYS_RECVMMSG 299
#define SYS_SENDMMSG 307
#define CALL_NUMBER(regs, to) READ(to, (regs)->orig_ax)
#define CALL_ARGUMENTS(regs, a)            \
	do {                               \
		READ((a)[0], (regs)->di);  \
		READ((a)[1], (regs)->si);  \
		READ((a)[2], (regs)->dx);  \
		READ((a)[3], (regs)->r10); \
	} while (0)
#elif defined(RINGSPAN_ARM64)
#define SYS_READ 63
#define SYS_WRITE 64
#define SYS_CLOSE 57
#define SYS_READV 65
#define SYS_WRITEV 66
#define SYS_SENDFILE 71
#define SYS_CONNECT 203
#define SYS_ACCEPT 202
#define SYS_SENDTO 206
#define SYS_RECVFROM 207
#define SYS_SENDMSG 211
#define SYS_RECVMSG 212
#define SYS_SHUTDOWN 210
#define SYS_SPLICE 76
#define SYS_ACCEPT4 242
#define SYS_RECVMMSG 243
#define SYS_SENDMMSG 269
#define CALL_NUMBER(regs, to)                    \
	do {                                     \
		s32 number = -1;                 \
		READ(number, (regs)->syscallno); \
		(to) = number;                   \
	} while (0)
#define CALL_ARGUMENTS(regs, a)                \
	do {                                   \
		READ((a)[0], (regs)->orig_x0); \
		READ((a)[1], (regs)->regs[1]); \
		READ((a)[2], (regs)->regs[2]); \
		READ((a)[3], (regs)->regs[3]); \
	} while (0)
#else
#error "ringspan: no register layout for this architecture"
#endif

enum call_kind {
	CALL_OTHER = 0,
	CALL_RECEIVE,
	CALL_SEND,
	CALL_SPLICE,
	CALL_CONNECT,
	CALL_ACCEPT,
	CALL_CLOSE,
	CALL_SHUTDOWN,
};

static __always_inline int kind_of_call(u64 number)
{
	switch (number) {
	case SYS_READ:
	case SYS_READV:
	case SYS_RECVFROM:
	case SYS_RECVMSG:
	case SYS_RECVMMSG:
		return CALL_RECEIVE;
	case SYS_WRITE:
	case SYS_WRITEV:
	case SYS_SENDTO:
	case SYS_SENDMSG:
	case SYS_SENDMMSG:
	case SYS_SENDFILE:
		return CALL_SEND;
	case SYS_SPLICE:
		return CALL_SPLICE;
	case SYS_CONNECT:
		return CALL_CONNECT;
	case SYS_ACCEPT:
	case SYS_ACCEPT4:
		return CALL_ACCEPT;
	case SYS_CLOSE:
		return CALL_CLOSE;
	case SYS_SHUTDOWN:
		return CALL_SHUTDOWN;
	}
	return CALL_OTHER;
}

/* A 32-bit caller's numbers and layouts are others (TS_COMPAT on x86, TIF_32BIT on arm64). */
static __always_inline bool is_32bit_caller(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();
#if defined(RINGSPAN_X86_64)
	u32 status = 0;

	READ(status, task->thread_info.status);
	return status & 2;
#else
	u64 flags = 0;

	READ(flags, task->thread_info.flags);
	return flags & (1ULL << 22);
#endif
}

/* Voluntary context switches of this thread: unchanged over a call, the call did not sleep. */
static __always_inline u64 sleeps(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	u64 count = 0;

	READ(count, task->nvcsw);
	return count;
}

/* The count behind a file lost its old name in kernel commit 90ee6ed776c0 (6.13), where 0 stands
 * for one. */
static __always_inline bool is_last_reference(struct file *file)
{
	s64 references = 0;

#ifdef HAS_FILE_REF
	READ(references, file->f_ref);
	return references == 0;
#else
	READ(references, file->f_count);
	return references == 1;
#endif
}

struct stream {
	struct sock *sk;
	u64 inode;
	u16 family;
	u16 state; /* of struct socket: SS_CONNECTING_ ... */
};

static __always_inline struct file *file_of(u32 fd)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct files_struct *files = 0;
	struct fdtable *table = 0;
	struct file **slots = 0, *file = 0;
	u32 max = 0;

	READ(files, task->files);
	READ(table, files->fdt);
	READ(slots, table->fd);
	READ(max, table->max_fds);
	if (fd < max)
		bpf_probe_read_kernel(&file, sizeof(file), slots + fd);
	return file;
}

/* Find the TCP or Unix stream socket behind a file; false for every other file. */
static __always_inline bool stream_of_file(struct file *file, struct stream *s)
{
	struct inode *inode = 0;
	struct socket *socket = 0;
	u64 number = 0;
	u16 mode = 0, protocol = 0;
	s16 type = 0;
	s32 state = 0;

	READ(inode, file->f_inode);
	READ(mode, inode->i_mode);
	if ((mode & S_IFMT_) != S_IFSOCK_)
		return false;
	READ(socket, file->private_data);
	READ(type, socket->type);
	READ(s->sk, socket->sk);
	if (type != SOCK_STREAM_ || !s->sk)
		return false;
	READ(s->family, s->sk->__sk_common.skc_family);
	if (s->family != AF_UNIX_) {
		READ(protocol, s->sk->sk_protocol);
		if ((s->family != AF_INET_ && s->family != AF_INET6_) || protocol != IPPROTO_TCP_)
			return false;
	}
	READ(number, inode->i_ino);
	READ(state, socket->state);
	s->inode = number;
	s->state = state;
	return true;
}

static __always_inline bool stream_of(u32 fd, struct stream *s)
{
	struct file *file = file_of(fd);

	return file && stream_of_file(file, s);
}

static __always_inline u16 host16(u16 x)
{
	return (x >> 8) | (x << 8);
}

static __always_inline u32 sequence_written(struct sock *sk)
{
	u32 sequence = 0;

	READ(sequence, ((struct tcp_sock *)sk)->write_seq);
	return sequence;
}

static __always_inline u32 sequence_read(struct sock *sk)
{
	u32 sequence = 0;

	READ(sequence, ((struct tcp_sock *)sk)->copied_seq);
	return sequence;
}

static __always_inline void read_ports(struct sock *sk, u16 *local, u16 *remote)
{
	u16 port = 0;

	READ(*local, sk->__sk_common.skc_num);
	READ(port, sk->__sk_common.skc_dport);
	*remote = host16(port);
}

/* Addresses in network order; IPv4 in the first four bytes. */
static __always_inline void read_addresses(struct sock *sk, u16 family, void *local, void *remote)
{
	if (family == AF_INET_) {
		bpf_probe_read_kernel(local, 4, &sk->__sk_common.skc_rcv_saddr);
		bpf_probe_read_kernel(remote, 4, &sk->__sk_common.skc_daddr);
	} else {
		bpf_probe_read_kernel(local, 16, &sk->__sk_common.skc_v6_rcv_saddr);
		bpf_probe_read_kernel(remote, 16, &sk->__sk_common.skc_v6_daddr);
	}
}

static __always_inline u32 network_namespace(struct sock *sk)
{
	struct net *net = 0;
	u32 number = 0;

	READ(net, sk->__sk_common.skc_net.net);
	READ(number, net->ns.inum);
	return number;
}

/* The path of a Unix stream socket: its own (a server's), else its peer's. */
static __always_inline void read_unix_path(struct sock *sk, char *path)
{
	struct unix_sock *self = (void *)sk;
	struct unix_address *address = 0;
	struct sock *peer = 0;
	u64 size;
	s32 bytes = 0;

	READ(address, self->addr);
	if (!address) {
		READ(peer, self->peer);
		if (!peer)
			return;
		READ(address, ((struct unix_sock *)peer)->addr);
		if (!address)
			return;
	}
	READ(bytes, address->len);
	size = (u32)bytes - 2;
	OPAQUE(size);
	if (size > 0 && size <= UNIX_PATH_MAX)
		bpf_probe_read_kernel(path, size, (char *)address->name + 2);
}
