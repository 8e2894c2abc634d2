/* Calls of Go's crypto/tls, seen at the entry and at the return instructions of its functions. */
#pragma once

#ifdef FOLLOW_TLS
#if defined(RINGSPAN_X86_64)
#define GO_PARAMETERS(to, ctx) u64 to[3] = {(ctx)->ax, (ctx)->bx, (ctx)->cx}
#else
#define GO_PARAMETERS(to, ctx) u64 to[3] = {(ctx)->regs[0], (ctx)->regs[1], (ctx)->regs[2]}
#endif
#define GO_SLEPT ~0ULL /* whether it waited for the network its threads cannot tell */

static __always_inline bool push_go_call(struct goroutine *g, const struct tls_call *call)
{
	struct tls_calls_of_goroutine *of = go_calls.lookup(g), *blank;
	int zero = 0;
	u32 at;

	if (!of) {
		blank = blank_go_calls.lookup(&zero);
		if (blank && go_calls.update(g, blank))
			count(COUNTER_CALLS_TABLE_FULL);
		of = go_calls.lookup(g);
	}
	if (!of || of->depth >= TLS_DEPTH)
		return false;
	at = of->depth;
	BOUND(at, TLS_DEPTH - 1);
	of->calls[at] = *call;
	of->depth = at + 1;
	return true;
}

static __always_inline bool pop_go_call(struct goroutine *g, struct tls_call *call, u64 stack)
{
	struct tls_calls_of_goroutine *of = go_calls.lookup(g);
	struct tls_call *top;

	if (!of)
		return false;
	forget_overgrown(of, stack - 1);
	top = innermost(of);
	if (!top || top->stack != stack)
		return false;
	*call = *top;
	of->depth--;
	if (!of->depth)
		go_calls.delete(g);
	return true;
}

static __always_inline u64 key_of_session(u64 ssl)
{
	struct tls_key of = {};
	u64 key = 0;

	name_session(&of, ssl);
	session_known(&of, &key);
	return key;
}

static __always_inline bool is_on_stack(const struct tls_call *call)
{
	return call->buffer - call->stack_end >= call->stack;
}

/* What lies on a stack, which may be moved meanwhile, only the sender itself can read. */
static __always_inline void note_go_sending(const struct tls_call *call)
{
	if (!is_on_stack(call))
		note_sending(call);
}

/* A handshake begins, or a connection is closed; true if a session has ended that another program
 * is to see to. One that is known as a handshake begins was dropped unclosed, and its memory given
 * to another: what is outstanding on it nothing will tell. */
static __always_inline bool restart_go(struct tls_call *outer, struct tls_call *call)
{
	struct connection *c;
	bool ending;

	if (call->function != TLS_END) {
		c = connections.lookup(&call->connection);
		if (c && !c->other && outstanding(c))
			c->broken = COUNTER_DESYNC_OVERLAP;
	}
	ending = session_restart(call->ssl, call->function);
	call->connection = key_of_session(call->ssl);
	if (outer) {
		outer->connection = call->connection;
		note_go_sending(outer);
	}
	return ending;
}

/* A function whose frame finds no room has the stack moved, and begins again: what was noted of its
 * first beginning is undone. True if that is all there is to do. */
static __always_inline bool begins_again(struct tls_calls_of_goroutine *of,
					 const struct tls_call *call)
{
	struct tls_call *known = innermost(of);

	if (!known || known->stack != call->stack || known->ssl != call->ssl ||
	    known->function != call->function)
		return false;
	forget_sending(known);
	return call->function >= TLS_BEGIN_CLIENT;
}

/* True if a session has ended that another program is to see to. */
static __always_inline bool enter_go(struct pt_regs *ctx)
{
	GO_PARAMETERS(a, ctx);
	struct tls_call call = {.ssl = a[0], .function = TLS_FUNCTION(ctx), .sleeps = GO_SLEPT};
	struct tls_calls_of_goroutine *of;
	struct tls_call *outer;
	struct goroutine g = {};
	bool ending = false;

	if (!process_wanted() || !goroutine_at(ctx->GOROUTINE_REGISTER, &g, &call.stack_end))
		return false;
	call.stack = ctx->sp - call.stack_end;
	of = go_calls.lookup(&g);
	if (begins_again(of, &call))
		return false;
	if (of)
		forget_overgrown(of, call.stack);
	outer = innermost(of);
	if (outer && outer->ssl != call.ssl) {
		outer->within = WITHIN_CALLED;
		outer = 0;
	}
	call.connection = key_of_session(call.ssl);
	call.begin_ns = bpf_ktime_get_ns();
	call.buffer = a[1];
	call.bytes = a[2];
	/* A handshake within a call that has read before is a renegotiation. */
	if (call.function >= TLS_BEGIN_CLIENT && !(outer && outer->sockets))
		ending = restart_go(outer, &call);
	if (call.function == TLS_END)
		return ending;
	if (push_go_call(&g, &call))
		note_go_sending(&call);
	else
		note_unfollowed(&call);
	return ending;
}

/* Is this error, an interface's two words, io.EOF or io.ErrUnexpectedEOF? Either begins with its
 * text. (After others, like a time-out, a connection may go on.) */
static __always_inline bool is_end_of_stream(u64 type, u64 value)
{
	u64 text[2] = {};
	char letters[14] = {};

	if (!type || read_user(text, sizeof(text), value))
		return false;
	if (text[1] == 3)
		return !read_user(letters, 3, text[0]) && letters[0] == 'E' && letters[1] == 'O' &&
		       letters[2] == 'F';
	return text[1] == 14 && !read_user(letters, 14, text[0]) && letters[0] == 'u' &&
	       letters[11] == 'E' && letters[12] == 'O' && letters[13] == 'F';
}

/* The session of a call that has returned: by now it may be one that has begun within the call; of
 * one that is not known, from here on. */
static __always_inline struct connection *session_of_call(struct tls_call *call, u64 moved)
{
	if (moved)
		return session_of(call->ssl, call->function, &call->connection);
	call->connection = key_of_session(call->ssl);
	return connections.lookup(&call->connection);
}

/* A call has returned; true if its bytes are to be followed. */
static __always_inline bool return_from_go(struct pt_regs *ctx)
{
	GO_PARAMETERS(result, ctx); /* the count, and the error's two words */
	u64 stack_end = 0, moved;
	struct goroutine g = {};
	struct connection *c = 0;
	struct tls_call call;
	bool ended;

	if (!goroutine_at(ctx->GOROUTINE_REGISTER, &g, &stack_end) ||
	    !pop_go_call(&g, &call, ctx->sp - stack_end))
		return false;
	moved = (s64)result[0] > 0 && result[0] <= call.bytes ? result[0] : 0;
	ended = call.function == TLS_READ && is_end_of_stream(result[1], result[2]);
	if (moved || ended)
		c = session_of_call(&call, moved);
	if (c && moved)
		note_plain_text(c);
	if (!c || c->off) {
		forget_sending(&call);
		return false;
	}
	if (is_on_stack(&call))
		call.buffer += stack_end - call.stack_end; /* it may have been moved */
	if (follow_tls_call(c, &call, moved, ended))
		return true;
	forget_sending(&call);
	return false;
}
#endif
