/* The programs that every capture has: what follows a call's bytes, by tail calls, and the raw
 * tracepoints that tell of a connection's states and of new processes. */
#pragma once

/* Since Linux 6.13 a program may be given a stack of the processor's (a76ab5731e32), on the
 * strength of its runs being skipped while one is under way there. No one looks at whether what is
 * tail called is under way, nor what runs at a breakpoint of user space: two runs of those, of
 * which one was put aside, would use one stack, and end in a panic. A program that can make a tail
 * call has the thread's own stack. This one is not made: a context is never null. */
static __always_inline void use_own_stack(void *ctx)
{
	void *never = ctx;

	asm volatile("" : "+r"(never)); /* so that the compiler cannot tell */
	if (!never)
		programs.call(ctx, 0);
}

int on_lay_out(struct bpf_raw_tracepoint_args *ctx)
{
	struct work *w = lay_out_call();

	if (w && w->resume)
		programs.call(ctx, PROGRAM_SETTLE);
	else if (w)
		programs.call(ctx, PROGRAM_FOLLOW);
	return 0;
}

int on_follow(struct bpf_raw_tracepoint_args *ctx)
{
	u32 next = follow_call() ? PROGRAM_FOLLOW : finish_call();

	if (next) {
		programs.call(ctx, next);
		overrun_call();
	}
	return 0;
}

int on_join(struct bpf_raw_tracepoint_args *ctx)
{
	use_own_stack(ctx);
	join_followed();
	return 0;
}

int on_settle(struct bpf_raw_tracepoint_args *ctx)
{
	if (settle_call())
		programs.call(ctx, PROGRAM_FOLLOW);
	return 0;
}

int on_process_exec(struct bpf_raw_tracepoint_args *ctx)
{
	use_own_stack(ctx);
	exec_succeeded((void *)ctx->args[2]);
	return 0;
}

int on_set_state(struct bpf_raw_tracepoint_args *ctx)
{
	if (ctx->args[1] == TCP_SYN_SENT_)
		connect_ended((void *)ctx->args[0], ctx->args[2], bpf_ktime_get_ns());
	else
		programs.call(ctx, PROGRAM_STATE);
	return 0;
}

int on_connection_state(struct bpf_raw_tracepoint_args *ctx)
{
	use_own_stack(ctx);
	connection_state((void *)ctx->args[0], ctx->args[1], ctx->args[2], bpf_ktime_get_ns());
	return 0;
}

int on_destroy(struct bpf_raw_tracepoint_args *ctx)
{
	if (destroyed((void *)ctx->args[0]))
		programs.call(ctx, PROGRAM_DESTROYED);
	else
		programs.call(ctx, PROGRAM_FORGET_OWN);
	return 0;
}

int on_destroyed(struct bpf_raw_tracepoint_args *ctx)
{
	use_own_stack(ctx);
	connection_ended(ctx->args[0], bpf_ktime_get_ns());
	return 0;
}

int on_forget_own(struct bpf_raw_tracepoint_args *ctx)
{
	use_own_stack(ctx);
	forget_own((void *)ctx->args[0]);
	return 0;
}

/* Attached to nothing: user space runs it (BPF_PROG_RUN, Linux 5.10) with a struct eviction. */
int on_evict(struct bpf_raw_tracepoint_args *ctx)
{
	struct eviction e;

	use_own_stack(ctx);
	e = (struct eviction){
		.connection = ctx->args[0],
		.identity = ctx->args[1],
		.moved_ns = ctx->args[2],
		.whole = ctx->args[3],
	};

	return evict(&e);
}

/* ... and this one with a struct look. */
int on_look(struct bpf_raw_tracepoint_args *ctx)
{
	struct look l;

	use_own_stack(ctx);
	l = (struct look){
		.connection = ctx->args[0],
		.identity = ctx->args[1],
		.forget = ctx->args[2],
	};

	return is_gone(&l);
}
