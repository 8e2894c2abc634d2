/* What TLS sessions are sending: kept for whoever reads the answer before the sender has returned.
 */
#pragma once

#ifdef FOLLOW_TLS
#ifdef CAPTURE_TCP
#define TLS_BUFFER BYTES_PLAIN
#define TLS_NO_BUFFER BYTES_UNSEEN
#define TLS_ARGUMENT_AT ARGUMENT_AT
#define TLS_ARGUMENT_BYTES ARGUMENT_BYTES
#else
#define TLS_BUFFER SYS_READ
#define TLS_NO_BUFFER SYS_SENDFILE
#define TLS_ARGUMENT_AT 1
#define TLS_ARGUMENT_BYTES 2
#endif

static __always_inline void note_unfollowed(const struct tls_call *call)
{
	struct connection *c = connections.lookup((void *)&call->connection);

	if (c)
		c->broken = COUNTER_DESYNC_OVERLAP; /* its bytes will be missing */
}

static __always_inline void note_sending(const struct tls_call *call)
{
	struct call sending = {.begin_ns = call->begin_ns, .number = TLS_BUFFER};
	struct connection *c = connections.lookup((void *)&call->connection);

	if (!tls_sends(call->function) || !(u32)call->bytes || !c || c->off)
		return;
	sending.sk = call->connection;
	sending.arguments[TLS_ARGUMENT_AT] = call->buffer;
	sending.arguments[TLS_ARGUMENT_BYTES] = (u32)call->bytes;
	if (!calls.insert((void *)&call->connection, &sending))
		c->writer = call->connection;
}

/* A send has failed: if a reader has followed its bytes, they have not moved after all. */
static __always_inline void forget_sending(const struct tls_call *call)
{
	struct call *sending = calls.lookup((void *)&call->connection);

	if (!tls_sends(call->function) || !sending || sending->begin_ns != call->begin_ns)
		return;
	if (sending->helped)
		note_unfollowed(call);
	calls.delete((void *)&call->connection);
}
#endif
