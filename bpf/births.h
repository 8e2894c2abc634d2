/* Processes as they begin: what tells who they are, for those that are gone when it is asked. */
#pragma once

/* Read a part of the running process's memory that may be longer than there is room; returns how
 * much was read. */
#define READ_PART(to, from, end, CAPACITY)                                        \
	({                                                                        \
		u64 n_ = (end) > (from) ? (end) - (from) : 0;                     \
		n_ = min_u64(n_, CAPACITY);                                       \
		OPAQUE(n_);                                                       \
		if (n_ > CAPACITY || bpf_probe_read_user(to, n_, (void *)(from))) \
			n_ = 0;                                                   \
		n_;                                                               \
	})

static __always_inline void exec_succeeded(struct linux_binprm *program)
{
	u64 mm = 0, from = 0, end = 0;
	void *task = CURRENT_TASK();
	const char *filename = 0;
	struct birth *b;
	int zero = 0;

	if (!process_wanted())
		return;
	FIELD(mm, task, struct task_struct, mm);
	b = newborns.lookup(&zero);
	if (!b || !mm)
		return;
	b->tgid = bpf_get_current_pid_tgid() >> 32;
	b->process_start_ns = process_start_ns();
	b->ktime_ns = bpf_ktime_get_ns();
	b->cgroup = bpf_get_current_cgroup_id();
	b->image = image_of(mm);
	FIELD(from, mm, struct mm_struct, arg_start);
	FIELD(end, mm, struct mm_struct, arg_end);
	b->arguments_bytes = READ_PART(b->arguments, from, end, ARGUMENTS_MAX);
	FIELD(from, mm, struct mm_struct, env_start);
	FIELD(end, mm, struct mm_struct, env_end);
	b->environment_bytes = READ_PART(b->environment, from, end, ENVIRONMENT_MAX);
	/* Not filename: of a script that is the script, and this what runs it. */
	READ(filename, program->interp);
	bpf_probe_read_kernel_str(b->filename, sizeof(b->filename), filename);
	if (emit_birth(b))
		count(COUNTER_PROCESSES_LOST_RING_FULL);
}
