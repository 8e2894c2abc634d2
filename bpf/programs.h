/* The programs that every capture has: what follows a call's bytes, by tail calls, and the raw
 * tracepoints that tell of a connection's states and of new processes. */
#pragma once

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
	connection_ended(ctx->args[0], bpf_ktime_get_ns());
	return 0;
}

int on_forget_own(struct bpf_raw_tracepoint_args *ctx)
{
	forget_own((void *)ctx->args[0]);
	return 0;
}

/* Attached to nothing: user space runs it (BPF_PROG_RUN, Linux 5.10) with a struct eviction. */
int on_evict(struct bpf_raw_tracepoint_args *ctx)
{
	struct eviction e = {
		.connection = ctx->args[0],
		.identity = ctx->args[1],
		.moved_ns = ctx->args[2],
		.whole = ctx->args[3],
	};

	return evict(&e);
}
