/* The program on a machine of one processor: its programs run as the kernel runs them at its tracepoints. */
#pragma once

static struct record ring[RECORDS_MAX];

static long records_output(const void *what, u64 bytes, u64 flags)
{
	if (cpu.recorded >= cpu.records_max)
		return -11;
	memcpy(&ring[cpu.recorded++], what, bytes);
	return 0;
}

static void *records_reserve(u64 bytes)
{
	return cpu.recorded >= cpu.records_max ? 0 : memset(&ring[cpu.recorded], 0xaa, bytes);
}

static void records_submit(void *what, u64 flags)
{
	cpu.recorded++;
}

static void *births_reserve(u64 bytes)
{
	return 0;
}

static void births_submit(void *what, u64 flags)
{
}

static long births_output(const void *what, u64 bytes, u64 flags)
{
	return 0;
}

typedef int program_function(struct bpf_raw_tracepoint_args *);
static program_function *const TAIL_CALLED[] = {
	[PROGRAM_LAY_OUT] = on_lay_out,	    [PROGRAM_FOLLOW] = on_follow,   [PROGRAM_SETTLE] = on_settle,
	[PROGRAM_CLOSE] = on_close,	    [PROGRAM_STATE] = on_connection_state, [PROGRAM_CONNECT] = on_connect,
	[PROGRAM_FORGET_OWN] = on_forget_own, [PROGRAM_CLOSE_FILES] = on_close_files, [PROGRAM_FORGET] = on_forget,
	[PROGRAM_DESTROYED] = on_destroyed, [PROGRAM_JOIN] = on_join,
};

#define STACK_BYTES (1 << 13) /* more than a program uses */

/* What a program has left, by a jump, of AddressSanitizer's marks on the stack (longjmp clears all of it, with system calls). */
__attribute__((noinline)) static void clear_stack(void)
{
	char *end = __builtin_frame_address(0);

	__asan_unpoison_memory_region(end - STACK_BYTES, STACK_BYTES);
}

/* Run a program, then those that are called in its tail. */
__attribute__((noinline, disable_tail_calls)) static void run_program(program_function *first, u64 a, u64 b, u64 c)
{
	static struct bpf_raw_tracepoint_args context;

	context = (struct bpf_raw_tracepoint_args){.args = {a, b, c}};
	cpu.tail_calls = 0;
	if (!__builtin_setjmp(cpu.trampoline)) {
		first(&context);
		return;
	}
	clear_stack();
	TAIL_CALLED[cpu.next_program](&context);
}

#define DESCRIPTORS_MAX 4

static struct net network;
static struct file files[DESCRIPTORS_MAX];
static struct socket sockets[DESCRIPTORS_MAX];
static struct inode inodes[DESCRIPTORS_MAX];
static struct sock socks[DESCRIPTORS_MAX];
static struct file *descriptors[DESCRIPTORS_MAX];
static struct fdtable table = {DESCRIPTORS_MAX, descriptors};
static struct files_struct all_files = {1, &table};

#define THREAD(n) ((u64)1000 << 32 | (1000 + (n)))
#define OTHER_PROCESS(n) ((u64)2000 << 32 | (2000 + (n)))

/* As a new process finds it; what of the maps is in use, a run has left empty. */
static void boot(void)
{
	u32 tgid = 1000;
	u8 wanted = 1;

	map_clear(&connections_map);
	map_clear(&exchanges_map);
	map_clear(&calls_map);
	map_clear(&readers_map);
	map_clear(&attempts_map);
	map_clear(&own_endpoints_map);
	map_clear(&client_ends_map);
	map_clear(&servings_map);
	map_clear(&servers_map);
	map_clear(&causes_map);
	memset(counters_values, 0, sizeof(counters_values));
	memset(descriptors, 0, sizeof(descriptors));
	wanted_pids.update(&tgid, &wanted);
	exchanges_map.max = EXCHANGES_MAX;
	all_files.count = 1;
	cpu.task.files = &all_files;
	cpu.task.group_leader = &cpu.task;
	cpu.task.real_parent = &cpu.task;
	cpu.task.tgid = 1000;
	cpu.task.start_boottime = 5;
	cpu.task.nvcsw = 0;
	cpu.thread = THREAD(0);
	cpu.now_ns = 1000;
	cpu.wanted_role = 0;
	cpu.random = 0;
	cpu.recorded = 0;
	cpu.records_max = RECORDS_MAX;
}

/* A new stream socket behind a descriptor; its memory may have been another's. */
static struct sock *open_socket(u32 fd, u64 inode, u16 family)
{
	struct sock *sk = &socks[fd];

	memset(sk, 0, sizeof(*sk));
	sk->__sk_common.skc_family = family;
	sk->__sk_common.skc_num = 1111;
	sk->__sk_common.skc_dport = 0xae08;
	sk->__sk_common.skc_net.net = &network;
	sk->sk_protocol = IPPROTO_TCP_;
	sk->sk_socket = &sockets[fd];
	inodes[fd].i_ino = inode;
	sockets[fd] = (struct socket){.state = 3, .type = SOCK_STREAM_, .file = &files[fd], .sk = sk};
	files[fd] = (struct file){.f_count = 1, .private_data = &sockets[fd], .f_inode = &inodes[fd]};
	descriptors[fd] = &files[fd];
	return sk;
}

static void enter(struct pt_regs *regs)
{
	cpu.now_ns += 5;
	run_program(on_sys_enter, (u64)regs, regs->orig_ax, 0);
}

static void leave(struct pt_regs *regs, s64 result)
{
	cpu.now_ns += 5;
	run_program(on_sys_exit, (u64)regs, result, 0);
}

static void system_call(u64 number, u64 a, u64 b, u64 c, u64 d, s64 result)
{
	struct pt_regs regs = {.orig_ax = number, .di = a, .si = b, .dx = c, .r10 = d};

	enter(&regs);
	leave(&regs, result);
}

static void change_state(struct sock *sk, int from, int to)
{
	cpu.now_ns += 5;
	run_program(on_set_state, (u64)sk, from, to);
}

static void destroy_socket(struct sock *sk)
{
	cpu.now_ns += 5;
	run_program(on_destroy, (u64)sk, 0, 0);
}
