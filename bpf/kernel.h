/* The kernel as this program needs it: reads, registers, system call numbers, the running task. */
#pragma once

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif
#define READ(dst, src) bpf_probe_read_kernel(&(dst), sizeof(dst), &(src))
#define min_u64(a, b) ((a) < (b) ? (a) : (b))

/* Keeps clang from rewriting a bound it has proved into one that the verifier cannot follow. */
#define OPAQUE(x) asm volatile("" : "+r"(x))

/* Says a bound that verifiers before 6.12 do not find by themselves. */
#define BOUND(x, mask)         \
	do {                   \
		OPAQUE(x);     \
		(x) &= (mask); \
	} while (0)

/* Makes clang read memory anew, so that the verifier finds every turn of a loop alike and walks it
 * once. */
#define FORGET() asm volatile("" : : : "memory")

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

#define AF_UNSPEC_ 0
#define AF_UNIX_ 1
#define AF_INET_ 2
#define AF_INET6_ 10
#define SOCK_STREAM_ 1
#define IPPROTO_TCP_ 6
#define MSG_OOB_ 0x1
#define MSG_PEEK_ 0x2
#define MSG_TRUNC_ 0x20
#define MSG_ERRQUEUE_ 0x2000
#define MSG_DONTWAIT_ 0x40
#define O_NONBLOCK_ 04000
#define SHUT_RD_ 0
#define SHUTDOWN_MASK_ 3
#define SS_CONNECTING_ 2

enum tcp_states {
	TCP_ESTABLISHED_ = 1,
	TCP_SYN_SENT_ = 2,
	TCP_FIN_WAIT1_ = 4,
	TCP_FIN_WAIT2_ = 5,
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
#define SYS_DUP2 33
#define SYS_DUP3 292
#define SYS_SPLICE 275
#define SYS_ACCEPT4 288
#define SYS_RECVMMSG 299
#define SYS_SENDMMSG 307
#define SYS_PREADV2 327
#define SYS_PWRITEV2 328
#define SYS_CLOSE_RANGE 436
#define SYS_POLL 7
#define SYS_SELECT 23
#define SYS_EPOLL_WAIT 232
#define SYS_PSELECT6 270
#define SYS_PPOLL 271
#define SYS_EPOLL_PWAIT 281
#define SYS_EPOLL_PWAIT2 441
#define NUMBER_REGISTER orig_ax
#define ARGUMENT_REGISTERS di, si, dx, r10
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
#define SYS_DUP3 24
#define SYS_SPLICE 76
#define SYS_PREADV2 286
#define SYS_PWRITEV2 287
#define SYS_ACCEPT4 242
#define SYS_RECVMMSG 243
#define SYS_SENDMMSG 269
#define SYS_CLOSE_RANGE 436
#define SYS_PSELECT6 72
#define SYS_PPOLL 73
#define SYS_EPOLL_PWAIT 22
#define SYS_EPOLL_PWAIT2 441
#define NUMBER_REGISTER syscallno
#define ARGUMENT_REGISTERS orig_x0, regs[1], regs[2], regs[3]
#else
#error "ringspan: no register layout for this architecture"
#endif

/* The numbers by which 32-bit callers read, write, connect, send and receive. */
static __always_inline bool is_32bit_number(u64 number)
{
#if defined(RINGSPAN_X86_64)
	return number == 3 || number == 4 || number == 102 || number == 145 || number == 146 ||
	       (number >= 359 && number <= 373);
#else
	return number == 3 || number == 4 || number == 145 || number == 146 ||
	       (number >= 281 && number <= 297);
#endif
}

enum call_kind {
	CALL_OTHER = 0,
	CALL_RECEIVE,
	CALL_SEND,
	CALL_SPLICE,
	CALL_CONNECT,
	CALL_ACCEPT,
	CALL_CLOSE,
	CALL_SHUTDOWN,
	CALL_CLOSE_RANGE,
	CALL_DUP,  /* closes the descriptor that it puts another in the place of */
	CALL_POLL, /* waits for what may be one thing, or several */
	CALL_WAIT, /* ... for several */
};

static __always_inline int kind_of_call(u64 number)
{
	switch (number) {
	case SYS_READ:
	case SYS_READV:
	case SYS_RECVFROM:
	case SYS_RECVMSG:
	case SYS_RECVMMSG:
	case SYS_PREADV2:
		return CALL_RECEIVE;
	case SYS_WRITE:
	case SYS_WRITEV:
	case SYS_SENDTO:
	case SYS_SENDMSG:
	case SYS_SENDMMSG:
	case SYS_PWRITEV2:
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
	case SYS_CLOSE_RANGE:
		return CALL_CLOSE_RANGE;
#ifdef SYS_DUP2
	case SYS_DUP2:
#endif
	case SYS_DUP3:
		return CALL_DUP;
#ifdef JOINS
#ifdef SYS_POLL
	case SYS_POLL:
#endif
	case SYS_PPOLL:
		return CALL_POLL;
#ifdef SYS_SELECT
	case SYS_SELECT:
	case SYS_EPOLL_WAIT:
#endif
	case SYS_PSELECT6:
	case SYS_EPOLL_PWAIT:
	case SYS_EPOLL_PWAIT2:
		return CALL_WAIT;
#endif
	}
	return CALL_OTHER;
}

/* The running task. Where the kernel offers it typed (5.11 on), its members are plain loads,
 * checked against BTF; a probe read is a call of 50 ns. FIELD and FIELD32 read a member of 64 or 32
 * bits. */
#ifdef HAS_TASK_BTF
#define LOAD(width, to, from, type, member)         \
	asm volatile("%0 = *(" width " *)(%1 + %2)" \
		     : "=r"(to)                     \
		     : "r"(from), "i"(__builtin_offsetof(type, member)))
#define FIELD(to, from, type, member) LOAD("u64", to, from, type, member)
#define FIELD32(to, from, type, member) LOAD("u32", to, from, type, member)
#define CURRENT_TASK() ((void *)bpf_get_current_task_btf())
#else
#define FIELD(to, from, type, member) \
	bpf_probe_read_kernel(&(to), sizeof(to), (void *)(from) + __builtin_offsetof(type, member))
#define FIELD32(to, from, type, member) \
	bpf_probe_read_kernel(&(to), 4, (void *)(from) + __builtin_offsetof(type, member))
#define CURRENT_TASK() ((void *)bpf_get_current_task())
#endif

/* The registers of the running system call. Where the kernel offers them typed (5.15 on) they are
 * plain loads too. */
#ifdef HAS_CALL_REGISTERS
#define REGISTERS(given) ((void *)bpf_task_pt_regs((void *)bpf_get_current_task_btf()))
#define REGISTER(to, regs, name) FIELD(to, regs, struct pt_regs, name)
#define REGISTER32(to, regs, name) FIELD32(to, regs, struct pt_regs, name)
#else
#define REGISTERS(given) ((void *)(given))
#define REGISTER(to, regs, name) \
	bpf_probe_read_kernel(&(to), 8, (regs) + __builtin_offsetof(struct pt_regs, name))
#define REGISTER32(to, regs, name) \
	bpf_probe_read_kernel(&(to), 4, (regs) + __builtin_offsetof(struct pt_regs, name))
#endif

static __always_inline u32 call_number(u64 registers)
{
	void *regs = REGISTERS(registers);
	u64 number = 0;

	REGISTER32(number, regs, NUMBER_REGISTER);
	return number;
}

#define READ_ARGUMENTS(arguments, regs, a, b, c, d) \
	REGISTER((arguments)[0], regs, a);          \
	REGISTER((arguments)[1], regs, b);          \
	REGISTER((arguments)[2], regs, c);          \
	REGISTER((arguments)[3], regs, d)
#define READ_ARGUMENTS_(arguments, regs, names) READ_ARGUMENTS(arguments, regs, names)

static __always_inline void read_arguments(u64 *arguments, u64 registers)
{
	void *regs = REGISTERS(registers);

	READ_ARGUMENTS_(arguments, regs, ARGUMENT_REGISTERS);
}

/* A 32-bit caller's numbers and layouts are others (TS_COMPAT on x86, TIF_32BIT on arm64). */
static __always_inline bool is_32bit_caller(void)
{
	void *task = CURRENT_TASK();
	u64 word = 0;

#if defined(RINGSPAN_X86_64)
	FIELD32(word, task, struct task_struct, thread_info.status);
	return word & 2;
#else
	FIELD(word, task, struct task_struct, thread_info.flags);
	return word & (1ULL << 22);
#endif
}

/* When the running process began: unchanged by exec, and no two of one pid have the same. */
static __always_inline u64 process_start_ns(void)
{
	void *task = CURRENT_TASK();
	u64 leader = 0, start = 0;

	FIELD(leader, task, struct task_struct, group_leader);
	if (leader)
		FIELD(start, leader, struct task_struct, start_boottime);
	return start;
}

/* The running process's number in a pid namespace of its own (struct pid: numbers by level); 0: it
 * is in the host's. */
static __always_inline u32 pid_in_namespace(void)
{
	void *task = CURRENT_TASK();
	u64 leader = 0, pid = 0, level = 0;
	u32 number = 0;

	FIELD(leader, task, struct task_struct, group_leader);
	if (leader)
		FIELD(pid, leader, struct task_struct, thread_pid);
	if (pid)
		FIELD32(level, pid, struct pid, level);
	if (level)
		bpf_probe_read_kernel(&number, sizeof(number),
				      (void *)pid + __builtin_offsetof(struct pid, numbers) +
					      (u32)level * sizeof(struct upid) +
					      __builtin_offsetof(struct upid, nr));
	return number;
}

/* Voluntary context switches of this thread: unchanged over a call, the call did not sleep. */
static __always_inline u64 sleeps(void)
{
	void *task = CURRENT_TASK();
	u64 count = 0;

	FIELD(count, task, struct task_struct, nvcsw);
	return count;
}
