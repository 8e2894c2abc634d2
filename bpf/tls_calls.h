/* Calls of a TLS library that are under way. Each is known by where the stack stood as it began: a
 * program may switch stacks within it (coroutines), and go on in another thread. Which of them the
 * running code is inside, the nearest that began above on its stack tells: they are listed by parts
 * of the stack. */
#pragma once

#ifdef FOLLOW_TLS
#define TLS_NEAR_BITS 14 /* how deep a library's own calls go, at most */
#define TLS_NEAR (1ULL << TLS_NEAR_BITS)

static __always_inline void frame_at(u64 stack, struct tls_frame *frame)
{
	frame->stack = stack;
	frame->process_start_ns = process_start_ns();
	frame->tgid = bpf_get_current_pid_tgid() >> 32;
}

static __always_inline struct tls_stacks *stacks_near(const struct tls_frame *frame, int parts)
{
	struct tls_frame part = *frame;

	part.stack = (frame->stack >> TLS_NEAR_BITS) + parts;
	return tls_stacks.lookup(&part);
}

static __always_inline u64 nearest_above(const struct tls_stacks *s, u64 stack, u64 nearest)
{
	int i;

#pragma unroll
	for (i = 0; s && i < TLS_DEPTH; i++) {
		if (s->at[i] > stack && s->at[i] < nearest)
			nearest = s->at[i];
	}
	return nearest;
}

/* Where another tracer's uretprobes have functions return to. */
static __always_inline u64 uretprobes_return_to(void)
{
	u64 vaddr = 0;
#ifdef HAS_XOL_AREA
	void *task = CURRENT_TASK();
	u64 mm = 0, area = 0;

	FIELD(mm, task, struct task_struct, mm);
	bpf_probe_read_kernel(&area, sizeof(area),
			      (void *)mm +
				      __builtin_offsetof(struct mm_struct, uprobes_state.xol_area));
	bpf_probe_read_kernel(&vaddr, sizeof(vaddr),
			      (void *)area + __builtin_offsetof(struct xol_area, vaddr));
#endif
	return vaddr;
}

/* Is a call still under way? Its return may go unseen; then its caller's next call puts another
 * return address in the place of its own. */
static __always_inline bool is_under_way(const struct tls_call *call)
{
#if defined(RINGSPAN_X86_64)
	u64 back = 0;

	if (read_user(&back, sizeof(back), call->stack))
		return false;
	return back == call->back || back == uretprobes_return_to();
#else
	return true;
#endif
}

/* The innermost call that a stack which has grown to here is inside. */
static __always_inline struct tls_call *call_around(const struct tls_frame *frame)
{
	struct tls_frame found = *frame;
	u64 limit = frame->stack + TLS_NEAR;
	struct tls_call *call;

	found.stack = nearest_above(stacks_near(frame, 0), frame->stack, limit);
	if (found.stack == limit)
		found.stack = nearest_above(stacks_near(frame, 1), frame->stack, limit);
	call = found.stack == limit ? 0 : tls_calls.lookup(&found);
	return call && is_under_way(call) ? call : 0;
}

/* What began where the stack now ends, or below, has ended unseen: it went on in a function that
 * only it knew, or was left by longjmp. */
static __always_inline void forget_ended_in(struct tls_stacks *s, const struct tls_frame *frame,
					    struct tls_call *last)
{
	struct tls_frame of = *frame;
	struct tls_call *call;
	int i;

#pragma unroll
	for (i = 0; s && i < TLS_DEPTH; i++) {
		of.stack = s->at[i];
		if (!of.stack || frame->stack - of.stack >= TLS_NEAR)
			continue;
		s->at[i] = 0;
		call = tls_calls.lookup(&of);
		if (!call)
			continue;
		*last = *call;
		tls_calls.delete(&of);
	}
}

static __always_inline void forget_ended(const struct tls_frame *frame, struct tls_call *last)
{
	forget_ended_in(stacks_near(frame, -1), frame, last);
	forget_ended_in(stacks_near(frame, 0), frame, last);
}

/* Before Linux 5.15 a system call's stack is not told: there its thread's last call is taken. */
static __always_inline void note_last(u64 stack)
{
#ifndef HAS_CALL_REGISTERS
	u64 thread = bpf_get_current_pid_tgid();

	if (stack)
		tls_last.update(&thread, &stack);
	else
		tls_last.delete(&thread);
#endif
}

static __always_inline bool push_call(const struct tls_frame *frame, struct tls_call *call)
{
	struct tls_frame of = *frame, part = *frame;
	struct tls_stacks *s = stacks_near(frame, 0), *blank;
	int zero = 0;
	u32 at;

	if (!s) {
		part.stack >>= TLS_NEAR_BITS;
		blank = blank_tls_stacks.lookup(&zero);
		if (blank)
			tls_stacks.update(&part, blank);
		s = stacks_near(frame, 0);
	}
	if (!s || tls_calls.update(&of, call)) {
		count(COUNTER_CALLS_TABLE_FULL);
		return false;
	}
	note_last(call->stack);
	at = s->next++;
	BOUND(at, TLS_DEPTH - 1);
	s->at[at] = call->stack;
	return true;
}

static __always_inline bool pop_call(struct tls_call *call, u64 stack)
{
	struct tls_frame frame = {};
	struct tls_stacks *s;
	struct tls_call *known;
	u64 left = 0;
	int i;

	frame_at(stack, &frame);
	known = tls_calls.lookup(&frame);
	if (!known)
		return false;
	*call = *known;
	tls_calls.delete(&frame);
	note_last(0);
	s = stacks_near(&frame, 0);
#pragma unroll
	for (i = 0; s && i < TLS_DEPTH; i++) {
		if (s->at[i] == stack)
			s->at[i] = 0;
		left |= s->at[i];
	}
	frame.stack >>= TLS_NEAR_BITS;
	if (s && !left)
		tls_stacks.delete(&frame);
	return true;
}

/* The innermost call of a TLS library that the running thread's system call is inside. */
static __always_inline struct tls_call *tls_call_on_stack(void)
{
#ifdef HAS_CALL_REGISTERS
	struct tls_frame frame = {};
	u64 stack = 0;

	REGISTER(stack, REGISTERS(0), sp);
	frame_at(stack, &frame);
	return call_around(&frame);
#else
	u64 thread = bpf_get_current_pid_tgid(), *last = tls_last.lookup(&thread);
	struct tls_frame frame = {};

	if (!last)
		return 0;
	frame_at(*last, &frame);
	return tls_calls.lookup(&frame);
#endif
}

/* What a thread leaves that ends inside a call. */
static __always_inline void forget_tls_calls(void)
{
	u64 thread = bpf_get_current_pid_tgid();

	tls_ends.delete(&thread);
	note_last(0);
}
#else
#define forget_tls_calls()
#endif
