/* BCC's maps, and the few functions through which the rest of the code uses them. Sizes come as -D
 * flags from the configuration; none of them grows. */
#pragma once

BPF_RINGBUF_OUTPUT(records, RING_PAGES);
BPF_RINGBUF_OUTPUT(births, BIRTH_PAGES);
BPF_PERCPU_ARRAY(newborns, struct birth, 1);
BPF_PERCPU_ARRAY(counters, u64, COUNTERS);
BPF_ARRAY(layout, struct record, 1);
BPF_ARRAY(automata, struct automaton, 1);
BPF_PERCPU_ARRAY(works, struct work, WORKS);
BPF_PROG_ARRAY(programs, 16);
BPF_HASH(connections, u64, struct connection, CONNECTIONS_MAX);
BPF_HASH(exchanges, struct exchange_key, struct exchange, EXCHANGES_MAX);
BPF_HASH(calls, u64, struct call, CALLS_MAX);
BPF_HASH(evicted, u64, u64, CONNECTIONS_MAX);
BPF_HASH(readers, u64, u64, CONNECTIONS_MAX);
BPF_HASH(closings, u64, struct closing, CALLS_MAX);
BPF_HASH(attempts, u64, struct attempt, ATTEMPTS_MAX);
BPF_ARRAY(blank_attempts, struct attempt, 1);
BPF_HASH(own_endpoints, struct endpoints, u64, 1024);
BPF_ARRAY(blank_connections, struct connection, 1);
BPF_ARRAY(blank_exchanges, struct exchange, 1);
BPF_HASH(wanted_pids, u32, u8, 1024);
BPF_HASH(wanted_ports, u16, u8, 1024);
BPF_HASH(judged_executables, struct executable, u8, EXECUTABLES_MAX);

#ifdef JOINS
BPF_HASH(client_ends, struct endpoints, u64, CONNECTIONS_MAX);
BPF_HASH(servings, u64, struct serving, CALLS_MAX);
BPF_HASH(servers, struct process, struct server, SERVERS_MAX);
BPF_HASH(causes, u64, struct cause, ATTEMPTS_MAX);
BPF_ARRAY(blank_servings, struct serving, 1);
BPF_ARRAY(blank_servers, struct server, 1);
BPF_ARRAY(blank_causes, struct cause, 1);
#endif

#ifdef FOLLOW_TLS
BPF_HASH(tls_sessions, struct tls_key, u64, CONNECTIONS_MAX);
BPF_HASH(tls_held, u32, u64, TLS_PROCESSES_MAX); /* sessions, by process */
BPF_HASH(tls_calls, struct tls_frame, struct tls_call, CALLS_MAX);
BPF_HASH(tls_stacks, struct tls_frame, struct tls_stacks, CALLS_MAX);
BPF_HASH(tls_last, u64, u64, CALLS_MAX); /* of a thread, where its stack is not told */
BPF_ARRAY(blank_tls_stacks, struct tls_stacks, 1);
BPF_HASH(go_calls, struct goroutine, struct tls_calls_of_goroutine, CALLS_MAX);
BPF_ARRAY(blank_go_calls, struct tls_calls_of_goroutine, 1);
BPF_HASH(tls_ends, u64, u64, CALLS_MAX);
#endif

enum program {
	PROGRAM_LAY_OUT = 0,
	PROGRAM_FOLLOW,
	PROGRAM_SETTLE,
	PROGRAM_CLOSE,
	PROGRAM_STATE,
	PROGRAM_CONNECT,
	PROGRAM_FORGET_OWN,
	PROGRAM_CLOSE_FILES,
	PROGRAM_FORGET,
	PROGRAM_DESTROYED,
	PROGRAM_TLS_END,
	PROGRAM_JOIN,
	PROGRAMS,
};

static __always_inline void count_many(u32 which, u64 n)
{
	u64 *value = counters.lookup(&which);

	if (value) /* an interrupt may come between a load and a store */
		__sync_fetch_and_add(value, n);
}

static __always_inline void count(u32 which)
{
	count_many(which, 1);
}

static __always_inline long emit(struct record *r)
{
	/* No wake-up: the consumer looks on its own clock, and a traced thread pays 60 ns instead
	 * of 8 us. */
	return records.ringbuf_output(r, sizeof(*r), BPF_RB_NO_WAKEUP);
}

/* A record in the ring itself; 0 if there is no room. */
static __always_inline struct record *record_new(void)
{
	return records.ringbuf_reserve(sizeof(struct record));
}

static __always_inline void record_done(struct record *r)
{
	records.ringbuf_submit(r, BPF_RB_NO_WAKEUP);
}

static __always_inline long emit_birth(struct birth *b)
{
	return births.ringbuf_output(b, sizeof(*b), BPF_RB_NO_WAKEUP);
}

static __always_inline long read_user(void *to, u64 bytes, u64 from)
{
	return bpf_probe_read_user(to, bytes, (void *)from);
}

static __always_inline long read_kernel(void *to, u64 bytes, u64 from)
{
	return bpf_probe_read_kernel(to, bytes, (void *)from);
}

static __always_inline struct exchange *exchange_get(struct exchange_key *key)
{
	return exchanges.lookup(key);
}

static __always_inline struct exchange *exchange_new(struct exchange_key *key)
{
	int zero = 0;
	struct exchange *blank = blank_exchanges.lookup(&zero);

	if (!blank || exchanges.insert(key, blank))
		return 0;
	return exchanges.lookup(key);
}

static __always_inline void exchange_drop(struct exchange_key *key)
{
	exchanges.delete(key);
}

static __always_inline u64 random64(void)
{
	return (u64)bpf_get_prandom_u32() << 32 | bpf_get_prandom_u32();
}

static __always_inline bool port_wanted(u16 port)
{
#ifdef FILTER_PORTS
	return wanted_ports.lookup(&port) != 0;
#else
	return true;
#endif
}

/* Is this connection's traffic asked for? Final once the role is known. */
static __always_inline bool admitted(struct connection *c)
{
#ifdef FILTER_ROLE
	if (c->role != ROLE_UNKNOWN && c->role != FILTER_ROLE)
		return false;
#endif
#ifdef FILTER_PORTS
	if (c->head.family == AF_UNIX_)
		return false;
	if (c->role == ROLE_CLIENT)
		return port_wanted(c->remote_port);
	if (c->role == ROLE_SERVER)
		return port_wanted(c->local_port);
	return port_wanted(c->local_port) || port_wanted(c->remote_port);
#else
	return true;
#endif
}

/* The running process's number as ringspan's /proc has it; 0 if it is not in there. */
static __always_inline u32 number_in_proc(void)
{
#ifdef OWN_NAMESPACE
	struct bpf_pidns_info number = {};

	bpf_get_ns_current_pid_tgid(OWN_NAMESPACE_DEVICE, OWN_NAMESPACE, &number, sizeof(number));
	return number.tgid; /* of others the kernel leaves it 0 */
#else
	return bpf_get_current_pid_tgid() >> 32;
#endif
}

static __always_inline bool is_own_process(void)
{
	return number_in_proc() == OWN_TGID;
}

enum verdict {
	VERDICT_NONE = 0,
	VERDICT_UNWANTED,
	VERDICT_WANTED,
};

/* When an inode was last changed; the members have had three names (until 6.5, until 6.10, since).
 * From 6.13 on a bit of the nanoseconds says whether someone has looked. */
static __always_inline u64 changed_ns(struct inode *inode)
{
	struct {
		s64 seconds;
		u32 nanoseconds;
	} time = {};

#ifdef INODE_CTIME
	bpf_probe_read_kernel(&time, 12, &inode->INODE_CTIME);
#else
	READ(time.seconds, inode->i_ctime_sec);
	READ(time.nanoseconds, inode->i_ctime_nsec);
#endif
	return time.seconds * 1000000000ULL + (time.nanoseconds & 0x3fffffff);
}

static __always_inline u8 judge_executable(void)
{
#ifdef FILTER_EXECUTABLES
	struct task_struct *task = (void *)bpf_get_current_task();
	struct executable key = {};
	struct mm_struct *mm = 0;
	struct file *file = 0;
	struct inode *inode = 0;
	struct super_block *super = 0;
	u32 device = 0;
	u8 *verdict;

	READ(mm, task->mm);
	/* By offset: of a member of an anonymous struct, BCC's rewriter takes the wrong address. */
	bpf_probe_read_kernel(&file, sizeof(file),
			      (char *)mm + __builtin_offsetof(struct mm_struct, exe_file));
	READ(inode, file->f_inode);
	READ(key.inode, inode->i_ino);
	READ(super, inode->i_sb);
	READ(device, super->s_dev);
	key.device = device;
	key.changed_ns = changed_ns(inode);
	verdict = judged_executables.lookup(&key);
	if (!verdict)
		return VERDICT_NONE;
	return *verdict ? VERDICT_WANTED : VERDICT_UNWANTED;
#else
	return VERDICT_WANTED;
#endif
}

/* What an exec is told by in all that run it: the exec's process, and what that forks, as its
 * parent is another once the one that forked is gone. /proc/PID/stat has both numbers. */
static __always_inline u64 image_of(u64 mm)
{
	u64 arguments = 0, heap = 0;

	FIELD(arguments, mm, struct mm_struct, arg_start);
	FIELD(heap, mm, struct mm_struct, start_brk);
	return arguments ^ heap << 16;
}

/* Who a process that was only forked is, its parent tells. (Exec counts up the one number of which
 * fork has made the two alike.) */
static __always_inline void fill_parent(struct record *r)
{
	void *task = CURRENT_TASK();
	u64 mm = 0, leader = 0, parent = 0, tgid = 0, own = 0, inherited = 0;

	FIELD(mm, task, struct task_struct, mm);
	if (mm)
		r->image = image_of(mm);
	FIELD(leader, task, struct task_struct, group_leader);
	if (!leader)
		return;
	FIELD(own, leader, struct task_struct, self_exec_id);
	FIELD(inherited, leader, struct task_struct, parent_exec_id);
	r->executed = own != inherited;
	FIELD(parent, leader, struct task_struct, real_parent); /* the thread that forked */
	if (parent)
		FIELD(parent, parent, struct task_struct, group_leader);
	if (!parent)
		return;
	FIELD32(tgid, parent, struct task_struct, tgid);
	FIELD(r->parent_start_ns, parent, struct task_struct, start_boottime);
	r->parent_tgid = tgid;
}

static __always_inline void fill_caller(struct record *r)
{
	u64 pid_tgid = bpf_get_current_pid_tgid();

	r->tgid = pid_tgid >> 32;
	r->tid = pid_tgid;
	r->namespace_tgid = pid_in_namespace();
	r->process_start_ns = process_start_ns();
	fill_parent(r);
	r->judged = judge_executable() == VERDICT_WANTED;
	bpf_get_current_comm(r->comm, sizeof(r->comm));
}

static __always_inline bool process_wanted(void)
{
	if (is_own_process())
		return false;
#ifdef FILTER_PIDS
	u32 tgid = number_in_proc();

	if (!wanted_pids.lookup(&tgid))
		return false;
#endif
	/* One not judged yet passes: user space, which can read its path, judges it and its
	 * records. */
	return judge_executable() != VERDICT_UNWANTED;
}
