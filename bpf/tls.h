/* The plain text of TLS: a session is a connection of its own, whose bytes the calls of a TLS
 * library move. The stream below, ciphertext, is looked at no more. */
#pragma once

#ifdef FOLLOW_TLS

/* Which function a program is at: told by what it was attached with (uprobe_multi, 6.6), else by
 * user space, which has loaded it once for each. */
#ifdef HAS_UPROBE_MULTI
#define TLS_FUNCTION(ctx) ((u32)bpf_get_attach_cookie(ctx))
#else
#define TLS_FUNCTION(ctx) ((u32)number_here())
#endif

#if defined(RINGSPAN_X86_64)
#define TLS_PARAMETERS(to, ctx) u64 to[5] = {(ctx)->di, (ctx)->si, (ctx)->dx, (ctx)->cx, (ctx)->r8}
#define TLS_RESULT(ctx) ((s64)(s32)(ctx)->ax)
#else
#define TLS_PARAMETERS(to, ctx) \
	u64 to[5] = {(ctx)->regs[0], (ctx)->regs[1], (ctx)->regs[2], (ctx)->regs[3], (ctx)->regs[4]}
#define TLS_RESULT(ctx) ((s64)(s32)(ctx)->regs[0])
#endif

#define SSL_ERROR_SSL_ 1
#define SSL_ERROR_SYSCALL_ 5
#define SSL_ERROR_ZERO_RETURN_ 6

/* A function that does its work by another one: of the same library, on the same session (a
 * handshake clears its ssl first); or of another library, which knows the session by an object of
 * its own, on the same bytes. */
static __always_inline bool is_wrapped(const struct tls_call *outer, const struct tls_call *call)
{
	u32 function = call->function;

	if (outer->ssl == call->ssl && outer->function == TLS_WITHIN)
		return true;
	if (outer->ssl == call->ssl && function >= TLS_HANDSHAKE)
		return function != TLS_GET_ERROR;
	return tls_moves(function) && tls_moves(outer->function) &&
	       tls_receives(function) == tls_receives(outer->function) &&
	       (outer->ssl == call->ssl || call->buffer - outer->buffer < (u32)outer->bytes);
}

/* A call of another session begins within one: what moves on sockets from here on need not be the
 * outer one's. What shakes hands there (of a library that wraps this one, or carried by this one)
 * does it on the outer one's socket. */
static __always_inline void note_within(struct tls_call *outer, const struct tls_call *call)
{
	if (outer->ssl == call->ssl)
		return;
	if (!outer->within)
		outer->within = WITHIN_CALLED;
	if (!tls_shakes_hands(call->function))
		return;
	outer->within = WITHIN_SHAKEN;
	outer->sockets = 1;
}

/* A session whose first call was on no socket keeps its bytes in memory: who carries them cannot be
 * told. (A socket that its application is called back to use is not taken for theirs.) */
static __always_inline void judge_socketless(struct connection *c, const struct tls_call *call)
{
	if (c->socketless || c->other || call->sockets || call->function == TLS_GET_ERROR)
		return;
	c->socketless = 1;
}

/* A call has ended unseen: if it was on no socket, that can be told of it by now; what it has moved
 * is missing. */
static __always_inline void judge_ended(const struct tls_call *ended, const struct tls_call *call)
{
	struct connection *c = 0;
	bool goes_on = ended->stack == call->stack && ended->ssl == call->ssl &&
		       call->function != TLS_GET_ERROR; /* in another of the library's */

	if (ended->stack)
		forget_sending(ended);
	if (ended->stack && !goes_on)
		c = connections.lookup((void *)&ended->connection);
	if (!c)
		return;
	judge_socketless(c, ended);
	if (tls_moves(ended->function))
		c->broken = COUNTER_DESYNC_OVERLAP;
}

/* A library's caller sends one thing at a time on a session: what is noted yet has ended unseen. */
static __always_inline void begin_sending(const struct tls_call *call)
{
	if (tls_sends(call->function) && calls.lookup((void *)&call->connection)) {
		note_unfollowed(call);
		calls.delete((void *)&call->connection);
	}
	note_sending(call);
}

/* True if a session has ended that another program is to see to. */
static __always_inline bool enter_tls(struct pt_regs *ctx)
{
	u32 function = TLS_FUNCTION(ctx);
	TLS_PARAMETERS(a, ctx);
	struct tls_call call = {
		.stack = ctx->sp,
		.ssl = a[0],
		.buffer = a[1],
		.function = function,
	};
	struct tls_call ended = {};
	struct tls_call *outer;
	struct tls_frame frame = {};
	struct connection *c;

	if (!process_wanted())
		return false;
	frame_at(ctx->sp, &frame);
	forget_ended(&frame, &ended);
	judge_ended(&ended, &call);
	outer = call_around(&frame);
	if (outer && is_wrapped(outer, &call))
		return false;
	if (outer)
		note_within(outer, &call);
	if (function == TLS_SHARE) {
		session_share(a[0]);
		return false;
	}
	if (function >= TLS_BEGIN_CLIENT)
		return session_restart(a[0], function);
	c = session_of(a[0], function, &call.connection);
	if (!c)
		return false;
	call.begin_ns = bpf_ktime_get_ns();
	call.sleeps = sleeps();
	call.bytes = a[2];
	if (function == TLS_SENDFILE)
		call.bytes = a[3];
	call.moved_at = function == TLS_WRITE_EX2 ? a[4] : a[3];
	read_user(&call.back, sizeof(call.back), ctx->sp);
	if (push_call(&frame, &call))
		begin_sending(&call);
	else
		c->broken = COUNTER_DESYNC_OVERLAP; /* its bytes will be missing */
	return false;
}

/* How many bytes a call says it has moved. */
static __always_inline u64 tls_told(const struct tls_call *call, s64 result)
{
	u64 moved = 0;

	if (result <= 0 || !tls_moves(call->function))
		return 0;
	if (call->function != TLS_READ_EX && call->function != TLS_WRITE_EX &&
	    call->function != TLS_WRITE_EX2)
		return result;
	return read_user(&moved, sizeof(moved), call->moved_at) ? ~0ULL : moved;
}

/* A call that was to move bytes, and has moved none? One that was given none fails too, and an
 * error that is asked for then says nothing. */
static __always_inline bool tls_failed(const struct tls_call *call, s64 result)
{
	return result <= 0 && (!tls_moves(call->function) || (u32)call->bytes);
}

static __always_inline bool tls_ended(const struct connection *c, const struct tls_call *call,
				      s64 result)
{
	if (call->function == TLS_RECEIVE)
		return !result && call->bytes;
	return call->function == TLS_GET_ERROR && c->failed &&
	       (result == SSL_ERROR_ZERO_RETURN_ || result == SSL_ERROR_SYSCALL_ ||
		result == SSL_ERROR_SSL_);
}

/* Begin the work of a call that has moved bytes, or met the end of the stream. */
static __always_inline bool follow_tls_call(struct connection *c, const struct tls_call *call,
					    u64 moved, bool ended)
{
	u8 direction = !moved || tls_receives(call->function) ? INGRESS : EGRESS;
	struct work *w;

	if (c->fresh)
		wait_for_peer(c, direction);
	c->fresh = 0;
	w = begin_work(c, call->connection, direction, bpf_ktime_get_ns());
	if (!w)
		return false;
	__builtin_memset(&w->call, 0, sizeof(w->call));
	w->call.begin_ns = call->begin_ns;
	w->call.sleeps = call->sleeps;
	w->call.number = call->function == TLS_SENDFILE ? TLS_NO_BUFFER : TLS_BUFFER;
	w->call.arguments[TLS_ARGUMENT_AT] = call->buffer;
	w->moved = moved;
	w->ended = ended;
	return true;
}

/* A call has returned; true if its bytes are to be followed. */
static __always_inline bool return_from_tls(struct pt_regs *ctx)
{
	s64 result = TLS_RESULT(ctx);
	struct tls_call call;
	struct connection *c;
	u64 moved;

	if (!pop_call(&call, ctx->sp))
		return false;
	c = connections.lookup(&call.connection);
	if (!c)
		return false;
	judge_socketless(c, &call);
	if (call.within == WITHIN_SHAKEN)
		c->wraps = 1;
	moved = tls_told(&call, result);
	if (moved > call.bytes) { /* a call that goes on with an earlier one's bytes */
		c->broken = COUNTER_DESYNC_OVERLAP;
		moved = 0;
	}
	if (moved)
		note_plain_text(c);
	if (call.function != TLS_GET_ERROR)
		c->failed = tls_failed(&call, result);
	if (!c->off && (moved || tls_ended(c, &call, result)) &&
	    follow_tls_call(c, &call, moved, !moved))
		return true;
	forget_sending(&call);
	return false;
}
#endif
