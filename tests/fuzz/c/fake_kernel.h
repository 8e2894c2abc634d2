/* Stands in for the kernel's types and for BPF's helpers and maps, so that clang builds the whole program (syscall.bpf.c
 * with all it includes) for user space. Only what the program reads is there. */
#pragma once

#include <sanitizer/asan_interface.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/uio.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t s32;
typedef int64_t s64;

#define RINGSPAN_X86_64 1
#define OWN_TGID 1
#define UNIX_PAIR_SALT 0x9e3779b97f4a7c15ULL
#define RING_PAGES 1
#define BIRTH_PAGES 1
#define CONNECTIONS_MAX 8
#define EXCHANGES_MAX 512
#define CALLS_MAX 8
#define ATTEMPTS_MAX 8
#define EXECUTABLES_MAX 1
#define SERVERS_MAX 8
#define JOINS 1
#define TAIL_CALLS_MAX 33
#define FILTER_PIDS 1
#define RECORDS_MAX 1024


struct bpf_raw_tracepoint_args {
	u64 args[8];
};

struct pt_regs {
	u64 di, si, dx, r10, orig_ax;
};

struct inode {
	u64 i_ino;
	struct super_block *i_sb;
	s64 i_ctime_sec;
	u32 i_ctime_nsec;
};

struct super_block {
	u32 s_dev;
};

struct file {
	s64 f_count;
	void *private_data;
	struct inode *f_inode;
	u32 f_flags;
};

struct socket {
	u32 state;
	u16 type;
	struct file *file;
	struct sock *sk;
};

struct fdtable {
	u32 max_fds;
	struct file **fd;
};

struct files_struct {
	u32 count;
	struct fdtable *fdt;
};

struct mm_struct {
	u64 start_brk, arg_start, arg_end, env_start, env_end;
	struct file *exe_file;
};

struct linux_binprm {
	const char *filename;
	const char *interp;
};

struct upid {
	int nr;
};

struct pid {
	u32 level;
	struct upid numbers[1];
};

struct task_struct {
	struct {
		u32 status;
	} thread_info;
	struct files_struct *files;
	struct mm_struct *mm;
	struct task_struct *group_leader, *real_parent;
	struct pid *thread_pid;
	u64 start_boottime, nvcsw, parent_exec_id, self_exec_id;
	u32 tgid, flags;
};

struct net {
	struct {
		u32 inum;
	} ns;
};

struct unix_address {
	s32 len;
	char name[128];
};

struct sock {
	struct {
		u16 skc_dport, skc_num, skc_family;
		u8 skc_state, unused;
		u32 skc_rcv_saddr, skc_daddr;
		char skc_v6_rcv_saddr[16], skc_v6_daddr[16];
		struct {
			struct net *net;
		} skc_net;
	} __sk_common;
	u16 sk_protocol;
	s32 sk_err;
	u8 sk_shutdown;
	struct {
		u32 qlen;
	} sk_receive_queue;
	u32 write_seq, copied_seq, rcv_nxt, lsndtime, total_retrans;
	u64 bytes_sent, bytes_received;
	struct {
		u32 lrcvtime;
	} icsk_ack;
	const void *icsk_ulp_ops;
	u16 inet_sport;
	struct socket *sk_socket;
	struct sock *peer;
	struct unix_address *addr;
};
#define tcp_sock sock
#define inet_sock sock
#define inet_connection_sock sock
#define unix_sock sock
struct user_msghdr {
	void *msg_name;
	u64 msg_namelen;
	struct iovec *msg_iov;
	u64 msg_iovlen;
};

/* What runs now, and what it can do. */
static struct {
	u64 now_ns;
	u64 thread;
	struct task_struct task;
	u64 random;
	u32 recorded;
	u32 records_max;
	u8 wanted_role; /* --role; 0: both */
	u32 tail_calls;
	int next_program;
	void *trampoline[5];
} cpu;

/* A filter that is chosen when the program is built may be chosen anew for each input: without one, the role at hand (that
 * of the connection `c`, or a connect's) is the wanted one. */
static const struct {
	u8 role;
} connecting = {1}, *const c = &connecting;
#define FILTER_ROLE (cpu.wanted_role ? cpu.wanted_role : c->role)

static inline u64 bpf_ktime_get_ns(void)
{
	return cpu.now_ns;
}

static inline u64 bpf_get_current_pid_tgid(void)
{
	return cpu.thread;
}

static inline u64 bpf_get_current_task(void)
{
	return (u64)&cpu.task;
}

static inline u64 bpf_get_current_cgroup_id(void)
{
	return 1;
}

static inline u32 bpf_get_prandom_u32(void)
{
	return ++cpu.random;
}

static inline long bpf_get_current_comm(void *to, u32 bytes)
{
	memset(to, 0, bytes);
	memcpy(to, "fuzzed", 6);
	return 0;
}

static inline long bpf_probe_read_kernel(void *to, u64 bytes, const void *from)
{
	memcpy(to, from, bytes);
	return 0;
}

static inline long bpf_probe_read_kernel_str(void *to, u64 bytes, const void *from)
{
	strncpy(to, from, bytes);
	return 0;
}

static bool may_read(u64 from, u64 bytes);
static void wrong(const char *what, int line);

/* The first pages are never mapped. */
static inline long bpf_probe_read_user(void *to, u64 bytes, const void *from)
{
	if ((u64)from < 1 << 20)
		return -14;
	if (!may_read((u64)from, bytes))
		wrong("a call reads its own bytes", __LINE__);
	memcpy(to, from, bytes);
	return 0;
}

/* Maps: keys and values side by side, of which those up to `end` may be in use. */
struct map {
	char *keys, *values;
	u8 *used;
	u32 key_bytes, value_bytes, max, end;
};

/* Not what is tested: neither checked nor counted. */
#define PLAIN __attribute__((no_sanitize("address", "undefined", "coverage")))

PLAIN static bool same_key(const char *a, const char *b, u32 bytes)
{
	u32 i = 0;

	for (; i + 8 <= bytes; i += 8)
		if (*(const u64 *)(a + i) != *(const u64 *)(b + i))
			return false;
	for (; i < bytes; i++)
		if (a[i] != b[i])
			return false;
	return true;
}

PLAIN static void *map_find(struct map *m, const void *key)
{
	for (u32 i = 0; i < m->end; i++)
		if (m->used[i] && same_key(m->keys + i * m->key_bytes, key, m->key_bytes))
			return m->values + i * m->value_bytes;
	return 0;
}

PLAIN static long map_put(struct map *m, const void *key, const void *value, bool new)
{
	char *found = map_find(m, key);
	u32 i = 0;

	if (found && new)
		return -17;
	if (!found) {
		while (i < m->max && m->used[i])
			i++;
		if (i == m->max)
			return -7;
		m->used[i] = 1;
		memcpy(m->keys + i * m->key_bytes, key, m->key_bytes);
		found = m->values + i * m->value_bytes;
		if (i >= m->end)
			m->end = i + 1;
	}
	memcpy(found, value, m->value_bytes);
	return 0;
}

PLAIN static long map_drop(struct map *m, const void *key)
{
	char *found = map_find(m, key);

	if (!found)
		return -2;
	m->used[(found - m->values) / m->value_bytes] = 0;
	while (m->end && !m->used[m->end - 1])
		m->end--;
	return 0;
}

static inline void map_clear(struct map *m)
{
	memset(m->used, 0, m->end);
	m->end = 0;
}

/* BCC's maps have methods. */
#define BPF_HASH(name, K, V, N)                                                                                     \
	static K name##_keys[N];                                                                                    \
	static V name##_values[N];                                                                                  \
	static u8 name##_used[N];                                                                                   \
	static struct map name##_map = {(char *)name##_keys, (char *)name##_values, name##_used, sizeof(K), sizeof(V), N, 0}; \
	static V *name##_lookup(const void *key)                                                                    \
	{                                                                                                           \
		return map_find(&name##_map, key);                                                                  \
	}                                                                                                           \
	static long name##_update(const void *key, const V *value)                                                  \
	{                                                                                                           \
		return map_put(&name##_map, key, value, false);                                                     \
	}                                                                                                           \
	static long name##_insert(const void *key, const V *value)                                                  \
	{                                                                                                           \
		return map_put(&name##_map, key, value, true);                                                      \
	}                                                                                                           \
	static long name##_delete(const void *key)                                                                  \
	{                                                                                                           \
		return map_drop(&name##_map, key);                                                                  \
	}                                                                                                           \
	static const struct {                                                                                       \
		V *(*lookup)(const void *);                                                                         \
		long (*update)(const void *, const V *);                                                            \
		long (*insert)(const void *, const V *);                                                            \
		long (*delete)(const void *);                                                                       \
	} name = {name##_lookup, name##_update, name##_insert, name##_delete}

#define BPF_ARRAY(name, V, N)                                \
	static V name##_values[N];                           \
	static V *name##_lookup(const void *index)           \
	{                                                    \
		u32 i = *(const u32 *)index;                 \
		return i < (N) ? &name##_values[i] : 0;      \
	}                                                    \
	static const struct {                                \
		V *(*lookup)(const void *);                  \
	} name = {name##_lookup}
#define BPF_PERCPU_ARRAY BPF_ARRAY

#define BPF_RB_NO_WAKEUP 1
#define BPF_RINGBUF_OUTPUT(name, pages)                                 \
	static long name##_output(const void *what, u64 bytes, u64 flags); \
	static void *name##_reserve(u64 bytes);                         \
	static void name##_submit(void *what, u64 flags);               \
	static const struct {                                           \
		long (*ringbuf_output)(const void *, u64, u64);         \
		void *(*ringbuf_reserve)(u64);                          \
		void (*ringbuf_submit)(void *, u64);                    \
	} name = {name##_output, name##_reserve, name##_submit}

/* A tail call does not return; one too many does nothing. (Not checked: AddressSanitizer would clear the stack's marks, slowly.) */
__attribute__((noinline)) PLAIN static void tail_call(void *context, int program)
{
	(void)context;
	if (cpu.tail_calls++ >= TAIL_CALLS_MAX)
		return;
	cpu.next_program = program;
	__builtin_longjmp(cpu.trampoline, 1);
}
#define BPF_PROG_ARRAY(name, N)               \
	static const struct {                 \
		void (*call)(void *, int);    \
	} name = {tail_call}
