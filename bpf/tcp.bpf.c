/* Capture by the kernel's functions for stream sockets: fentry and fexit, else kprobe and
 * kretprobe. Sees io_uring, sendfile and splice, and 32-bit callers; a system call that is no
 * socket's pays nothing. Assembled by ringspan.probe. HAS_f says that this kernel has a function f
 * that not all have, and FLAGS_tcp_recvmsg which of that one's arguments the flags are. */
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
#include "iterators.h"
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
#include "arguments.h"
#include "functions.h"
#include "births.h"
#include "evict.h"
#include "gone.h"
#include "programs.h"
#include "tls_programs.h"

/* A function of its own, since BCC finds no use of a map in a macro. */
static __always_inline void follow(void *ctx)
{
	programs.call(ctx, PROGRAM_LAY_OUT);
}

/* sk or socket, struct msghdr, bytes */
int enter_tcp_sendmsg(CONTEXT *ctx)
{
	u64 a[3] = {};

	use_own_stack(ctx);
	TAKE_ARGUMENTS(a, ctx);
	enter_sending((void *)a[0], (void *)a[1], a[2]);
	return 0;
}

int enter_unix_stream_sendmsg(CONTEXT *ctx)
{
	u64 a[3] = {};

	use_own_stack(ctx);
	TAKE_ARGUMENTS(a, ctx);
	enter_sending(sk_of_socket(a[0]), (void *)a[1], a[2]);
	return 0;
}

#ifdef HAS_tcp_sendpage
/* sk or socket, page, offset, bytes (until 6.5) */
int enter_tcp_sendpage(CONTEXT *ctx)
{
	u64 a[4] = {};

	use_own_stack(ctx);
	TAKE_ARGUMENTS(a, ctx);
	enter_sending((void *)a[0], 0, a[3]);
	return 0;
}

int enter_unix_stream_sendpage(CONTEXT *ctx)
{
	u64 a[4] = {};

	use_own_stack(ctx);
	TAKE_ARGUMENTS(a, ctx);
	enter_sending(sk_of_socket(a[0]), 0, a[3]);
	return 0;
}
#endif

/* sk, struct msghdr, bytes, ..., flags, ... */
int enter_tcp_recvmsg(CONTEXT *ctx)
{
	u64 a[FLAGS_tcp_recvmsg + 1] = {};

	use_own_stack(ctx);
	TAKE_ARGUMENTS(a, ctx);
	enter_receiving((void *)a[0], (void *)a[1], a[FLAGS_tcp_recvmsg]);
	return 0;
}

/* socket, struct msghdr, bytes, flags */
int enter_unix_stream_recvmsg(CONTEXT *ctx)
{
	u64 a[4] = {};

	use_own_stack(ctx);
	TAKE_ARGUMENTS(a, ctx);
	enter_receiving(sk_of_socket(a[0]), (void *)a[1], a[3]);
	return 0;
}

/* socket, position, pipe, bytes, flags of splice */
int enter_splice_read(CONTEXT *ctx)
{
	u64 a[1] = {};

	use_own_stack(ctx);
	TAKE_ARGUMENTS(a, ctx);
	enter_receiving(sk_of_socket(a[0]), 0, 0);
	return 0;
}

#ifndef CAPTURE_FENTRY
/* sk; within a receive, after some of it was copied */
int enter_tcp_rcv_space_adjust(CONTEXT *ctx)
{
	u64 a[1] = {};

	TAKE_ARGUMENTS(a, ctx);
	if (receive_goes_on((void *)a[0]))
		follow(ctx);
	return 0;
}

/* sk, ...; within a send, after what it was given was taken */
int enter_tcp_push(CONTEXT *ctx)
{
	u64 a[1] = {};

	TAKE_ARGUMENTS(a, ctx);
	if (send_goes_on((void *)a[0]))
		follow(ctx);
	return 0;
}

/* Within a receive from a Unix socket, as it has copied a piece. */
int exit_of_unix_read(CONTEXT *ctx)
{
	if (unix_receive_goes_on(result_of(ctx)))
		follow(ctx);
	return 0;
}
#endif

/* socket, address, its bytes, flags */
int enter_stream_connect(CONTEXT *ctx)
{
	u64 a[3] = {};

	use_own_stack(ctx);
	TAKE_ARGUMENTS(a, ctx);
	enter_connecting(a[0], a[1], (u32)a[2]);
	return 0;
}

/* sk, socket. Not accept() itself: listeners for MPTCP have another, and any number of threads may
 * sleep in it. */
int enter_graft(CONTEXT *ctx)
{
	u64 a[2] = {};

	use_own_stack(ctx);
	TAKE_ARGUMENTS(a, ctx);
	joined(a[1]);
	return 0;
}

int enter_unix_release(CONTEXT *ctx)
{
	u64 a[1] = {};

	use_own_stack(ctx);
	TAKE_ARGUMENTS(a, ctx);
	release_unix(a[0]);
	return 0;
}

/* socket, how */
int enter_unix_shutdown(CONTEXT *ctx)
{
	u64 a[2] = {};

	use_own_stack(ctx);
	TAKE_ARGUMENTS(a, ctx);
	shut_unix(a[0], a[1]);
	return 0;
}

int exit_of_send(CONTEXT *ctx)
{
	if (exit_sending(result_of(ctx)))
		follow(ctx);
	return 0;
}

int exit_of_receive(CONTEXT *ctx)
{
	if (exit_receiving(result_of(ctx)))
		follow(ctx);
	return 0;
}

int exit_of_connect(CONTEXT *ctx)
{
	use_own_stack(ctx);
	exit_connecting(result_of(ctx));
	return 0;
}

/* What a thread that was killed in a call leaves. */
int on_thread_exit(struct bpf_raw_tracepoint_args *ctx)
{
	use_own_stack(ctx);
	begins_call();
	forget_tls_calls();
	forget_serving();
	return 0;
}
