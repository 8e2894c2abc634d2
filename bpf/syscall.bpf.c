/* Capture by system calls: raw tracepoints only, so that it runs where kprobes and fentry are
 * refused. Assembled by ringspan.probe: the includes below become one text, since BCC rewrites only
 * its main file. A program that would ask too much of the verifier goes on in another by tail call:
 * the verifier forgets what led there. */
#include "contract.h"
#include "http1_states.h"
#include "kernel.h"
#include "sockets.h"
#include "joins_state.h"
#include "tls_state.h"
#include "state.h"
#include "endpoints.h"
#include "copies.h"
#include "maps.h"
#include "http1.h"
#include "lineage.h"
#include "serving.h"
#include "peers.h"
#include "pair.h"
#include "framing.h"
#include "resync.h"
#include "settle.h"
#include "spans.h"
#include "stream.h"
#include "connection.h"
#include "endings.h"
#include "connect.h"
#include "syscall_memory.h"
#include "proxy.h"
#include "work.h"
#include "moves.h"
#include "tls_goroutine.h"
#include "tls_calls.h"
#include "tls_socket.h"
#include "tls_session.h"
#include "tls_sending.h"
#include "tls.h"
#include "tls_go.h"
#include "calls.h"
#include "files.h"
#include "births.h"
#include "evict.h"
#include "gone.h"
#include "programs.h"
#include "tls_programs.h"

/* Raw tracepoints are given a call's registers, then its number (at its exit: the result). Where
 * they may be put aside, perf events take their place: their number comes second too, but then the
 * result.
 */
#ifdef CALLS_BY_EVENTS
#define EXIT_RESULT 2
#else
#define EXIT_RESULT 1
#endif

/* What only a call's entry knows (the time, the socket) is kept for its exit. */
int on_sys_enter(struct bpf_raw_tracepoint_args *ctx)
{
	int kind = kind_of_call(ctx->args[1]);

	count_foreign_call(ctx->args[1]);
	if (kind == CALL_OTHER)
		return 0;
	if (kind == CALL_RECEIVE || kind == CALL_SPLICE)
		enter_receive(ctx->args[0], ctx->args[1]);
	if (kind == CALL_SEND || kind == CALL_SPLICE)
		enter_sending(ctx->args[0], ctx->args[1], kind);
	else if (kind == CALL_CONNECT)
		programs.call(ctx, PROGRAM_CONNECT);
	else if (kind >= CALL_POLL)
		enter_waiting(ctx->args[0], kind);
	else if (kind >= CALL_CLOSE)
		programs.call(ctx, PROGRAM_CLOSE);
	return 0;
}

int on_connect(struct bpf_raw_tracepoint_args *ctx)
{
	if (enter_connecting(ctx->args[0]))
		programs.call(ctx, PROGRAM_FORGET);
	return 0;
}

int on_close(struct bpf_raw_tracepoint_args *ctx)
{
	int kind = kind_of_call(ctx->args[1]);

	if (kind == CALL_CLOSE_RANGE) {
		if (enter_close_range(ctx->args[0]))
			programs.call(ctx, PROGRAM_CLOSE_FILES);
	} else if (enter_close(ctx->args[0], kind)) {
		programs.call(ctx, PROGRAM_FORGET);
	}
	return 0;
}

int on_close_files(struct bpf_raw_tracepoint_args *ctx)
{
	struct closing *closing = closing_of_thread();

	if (!closing)
		return 0;
	if (close_files(closing))
		programs.call(ctx, PROGRAM_FORGET);
	else if (closing->next < closing->end)
		programs.call(ctx, PROGRAM_CLOSE_FILES);
	else
		forget_closing();
	return 0;
}

int on_forget(struct bpf_raw_tracepoint_args *ctx)
{
	if (forget_connection())
		programs.call(ctx, PROGRAM_CLOSE_FILES);
	return 0;
}

int on_process_exit(struct bpf_raw_tracepoint_args *ctx)
{
	if (exit_process())
		programs.call(ctx, PROGRAM_CLOSE_FILES);
	return 0;
}

int on_io_uring(struct bpf_raw_tracepoint_args *ctx)
{
	use_own_stack(ctx);
	enter_io_uring(ctx->args[0], ctx->args[1]);
	return 0;
}

int on_sys_exit(struct bpf_raw_tracepoint_args *ctx)
{
	u64 number = call_number(ctx->args[0]);
	int kind = kind_of_call(number);

	if (kind == CALL_OTHER || kind >= CALL_CLOSE)
		return 0;
	if (exit_call(ctx->args[0], number, kind, ctx->args[EXIT_RESULT]))
		programs.call(ctx, PROGRAM_LAY_OUT);
	return 0;
}
