/* From a file descriptor to its socket, and what a socket says of itself. */
#pragma once

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

/* A stream socket, found by a file descriptor. */
struct stream {
	struct sock *sk;
	struct inode *inode;
	u16 state; /* of struct socket: SS_CONNECTING_ ... */
};

static __always_inline struct file *file_of(u32 fd)
{
	void *task = CURRENT_TASK();
	u64 files = 0, table = 0, slots = 0;
	struct file *file = 0;
	u64 max = 0;

	FIELD(files, task, struct task_struct, files);
	if (!files)
		return 0;
	FIELD(table, files, struct files_struct, fdt);
	if (!table)
		return 0;
	FIELD(slots, table, struct fdtable, fd);
	FIELD32(max, table, struct fdtable, max_fds);
	if (fd < (u32)max)
		bpf_probe_read_kernel(&file, sizeof(file), (struct file **)slots + fd);
	return file;
}

/* Are the running task's descriptors its own alone? */
static __always_inline bool has_own_files(void)
{
	void *task = CURRENT_TASK();
	u64 files = 0, users = 0;

	FIELD(files, task, struct task_struct, files);
	if (!files)
		return false;
	FIELD32(users, files, struct files_struct, count);
	return (u32)users == 1;
}

/* How many descriptors the running task's table has room for. */
static __always_inline u64 file_slots(void)
{
	void *task = CURRENT_TASK();
	u64 files = 0, table = 0, max = 0;

	FIELD(files, task, struct task_struct, files);
	if (!files)
		return 0;
	FIELD(table, files, struct files_struct, fdt);
	if (table)
		FIELD32(max, table, struct fdtable, max_fds);
	return (u32)max;
}

#define OFFSET_IN_FILE(member) __builtin_offsetof(struct file, member)
#define LOWER(a, b) ((a) < (b) ? (a) : (b))
#define HIGHER(a, b) ((a) > (b) ? (a) : (b))
#define FILE_FROM LOWER(OFFSET_IN_FILE(private_data), OFFSET_IN_FILE(f_inode))
#define FILE_TO (8 + HIGHER(OFFSET_IN_FILE(private_data), OFFSET_IN_FILE(f_inode)))
#define SOCKET_FROM __builtin_offsetof(struct socket, state)
#define SOCKET_TO (8 + __builtin_offsetof(struct socket, sk))
#define PART(words, from, struct_type, member) \
	(*(u64 *)((char *)(words) + __builtin_offsetof(struct_type, member) - (from)))

/* Find the stream socket behind a file; false for every other file. That what private_data points
 * to is a socket, its pointer back to the file tells, in one read. Whether it is TCP or Unix,
 * followed_family says. */
static __always_inline bool stream_of_file(struct file *from, struct stream *s)
{
	u64 file[(FILE_TO - FILE_FROM) / 8] = {}, socket[(SOCKET_TO - SOCKET_FROM + 7) / 8] = {};
	u64 private;

	bpf_probe_read_kernel(file, FILE_TO - FILE_FROM, (char *)from + FILE_FROM);
	private = PART(file, FILE_FROM, struct file, private_data);
	if (!private)
		return false;
	bpf_probe_read_kernel(socket, SOCKET_TO - SOCKET_FROM, (char *)private + SOCKET_FROM);
	if (PART(socket, SOCKET_FROM, struct socket, file) != (u64)from)
		return false;
	if (*(u16 *)((char *)socket + __builtin_offsetof(struct socket, type) - SOCKET_FROM) !=
	    SOCK_STREAM_)
		return false;
	s->inode = (void *)PART(file, FILE_FROM, struct file, f_inode);
	s->state =
		*(u32 *)((char *)socket + __builtin_offsetof(struct socket, state) - SOCKET_FROM);
	s->sk = (void *)PART(socket, SOCKET_FROM, struct socket, sk);
	return s->sk != 0;
}

static __always_inline bool stream_of(u32 fd, struct stream *s)
{
	struct file *file = file_of(fd);

	return file && stream_of_file(file, s);
}

static __always_inline u64 inode_of(const struct stream *s)
{
	u64 number = 0;

	if (s->inode)
		READ(number, s->inode->i_ino);
	return number;
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

/* Bytes have moved that no call was seen to move (one of them may be the FIN of a side that is
 * shut). With kernel TLS, TCP moves others than the calls. */
static __always_inline bool moved_unseen(struct sock *sk, u32 seen_to, u32 stands_at)
{
	s32 unseen = stands_at - seen_to;
	const void *layered = 0;
	u8 shut = 0;

	if (unseen <= 0)
		return false;
	READ(shut, sk->sk_shutdown);
	if (unseen == 1 && shut & SHUTDOWN_MASK_)
		return false;
	READ(layered, ((struct inet_connection_sock *)sk)->icsk_ulp_ops);
	return !layered;
}

static __always_inline u32 sequence_read(struct sock *sk)
{
	u32 sequence = 0;

	READ(sequence, ((struct tcp_sock *)sk)->copied_seq);
	return sequence;
}

/* What a socket says of itself in eight bytes that stand in a row. */
struct socket_summary {
	u16 remote_port; /* in network order */
	u16 local_port;
	u16 family;
	u8 state;
	u8 unused;
};

/* A socket that was reset (before it was accepted, say) has given back its skc_num; inet_sport
 * stays. */
static __always_inline void summarise(struct sock *sk, struct socket_summary *summary)
{
	bpf_probe_read_kernel(summary, sizeof(*summary), &sk->__sk_common.skc_dport);
	summary->remote_port = host16(summary->remote_port);
	if (summary->local_port || summary->family == AF_UNIX_)
		return;
	READ(summary->local_port, ((struct inet_sock *)sk)->inet_sport);
	summary->local_port = host16(summary->local_port);
}

/* TCP or a Unix stream? Other stream sockets (MPTCP, SCTP, vsock) are not followed. */
static __always_inline bool is_followed(struct sock *sk, u16 family)
{
	u16 protocol = 0;

	if (family == AF_UNIX_)
		return true;
	if (family != AF_INET_ && family != AF_INET6_)
		return false;
	READ(protocol, sk->sk_protocol);
	return protocol == IPPROTO_TCP_;
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

/* A number that both ends of a pair of Unix sockets have, and hardly any other. */
static __always_inline u32 unix_pair(struct sock *sk)
{
	struct sock *peer = 0;

	READ(peer, ((struct unix_sock *)sk)->peer);
	return (((u64)sk ^ (u64)peer) * UNIX_PAIR_SALT) >> 32;
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
	if (size <=
	    UNIX_PATH_MAX) /* not 0 too: a sum of both tests is one that old verifiers lose */
		bpf_probe_read_kernel(path, size, (char *)address->name + 2);
}
