/* Requests and responses of one connection, joined in order and sent on: one record for each
 * exchange.
 *
 * Requests are numbered as they begin, responses as they end; number n answers number n. The maps
 * are behind five functions (exchange_new, _get, _drop, emit, count), so that a user-space build
 * can bring its own. */
#pragma once

enum settlement {
	SETTLE_NOTHING = 0,
	SETTLE_DESYNC,	    /* what is outstanding can no longer be followed */
	SETTLE_PEER_CLOSED, /* this side has read the end of the stream */
	SETTLE_CLOSED,	    /* this side has closed */
};

/* Which directions requests and responses take, without a branch: the verifier would walk all that
 * follows once for each way. */
static __always_inline u32 request_direction(const struct connection *c)
{
	return c->role & 1;
}

static __always_inline struct direction *requests(struct connection *c)
{
	return &c->directions[request_direction(c)];
}

static __always_inline struct direction *responses(struct connection *c)
{
	return &c->directions[request_direction(c) ^ 1];
}

_Static_assert((ROLE_CLIENT & 1) == EGRESS && (ROLE_SERVER & 1) == INGRESS, "requests of");

static __always_inline void send_exchange(struct exchange *x, u64 now, u8 failure, u16 error)
{
	x->record.end_ktime_ns = now;
	x->record.failure = failure;
	x->record.error_number = error;
	if (emit(&x->record))
		count(COUNTER_LOST_RING_FULL);
	else
		count(COUNTER_RECORDED);
}

/* What began to move before its request did is no answer to it. */
static __always_inline bool precedes(const struct direction *out, const struct exchange *x)
{
	return x && out->first_ns < x->record.start_ktime_ns;
}

static __always_inline bool precedes_oldest(struct connection *c, const struct direction *out)
{
	struct exchange_key key = {.connection = c->head.identity, .index = c->next_response};

	return precedes(out, exchange_get(&key));
}

/* Of the oldest exchange's response, the status line at least has come, but not yet its whole head.
 */
static __always_inline bool has_status_line(struct connection *c, const struct direction *out)
{
	return !c->response_begun && out->first_ns && out->phase == PHASE_HEAD &&
	       out->status >= 200 && !precedes_oldest(c, out);
}

/* Close the oldest outstanding exchange, well or not. */
static __always_inline void finish_oldest(struct connection *c, u64 now, u8 failure, u16 error)
{
	struct exchange_key key = {.connection = c->head.identity, .index = c->next_response};
	struct exchange *x = exchange_get(&key);
	struct direction *in = requests(c), *out = responses(c);

	if (x) {
		if (c->next_response + 1 == c->next_request && in->first_ns &&
		    in->coding != CODING_TUNNEL)
			x->record.request_body_bytes = in->body_bytes;
		FORGET();
		if (c->response_begun)
			x->record.response_body_bytes = out->body_bytes;
		FORGET();
		if (has_status_line(c, out)) {
			x->record.status = out->status;
			x->record.first_byte_ktime_ns = out->first_ns;
		}
		if (x->confirmed == CONFIRMED)
			send_exchange(x, now, failure, error);
		exchange_drop(&key);
	}
	out->first_ns = 0;
	c->next_response++;
	c->response_begun = 0;
}

/* Where in its call a request begins that the window holds the first byte of. */
static __always_inline u64 first_byte_at(const struct work *w)
{
	return w->window_at + w->mark[STATE_METHOD_FIRST] - 1;
}

static __always_inline void fill_request(struct work *w, struct connection *c, struct record *r,
					 u64 now)
{
	struct span_of_bytes *s = &w->spans[w->span & 1];
	u32 place = s->sequence + first_byte_at(w);

	r->version = CONTRACT_VERSION;
	r->kind = RECORD_EXCHANGE;
	r->role = c->role;
	r->family = c->head.family;
	r->start_ktime_ns = now;
	r->connect_ns = c->next_request == 1 ? c->connect_ns : 0;
	r->socket_inode = c->head.inode;
	r->netns = c->head.netns;
	r->tls = c->tls;
	r->local_port = c->local_port;
	r->remote_port = c->remote_port;
	__builtin_memcpy(r->local_address, c->local_address, 16);
	__builtin_memcpy(r->remote_address, c->remote_address, 16);
	if (c->head.family == AF_UNIX_)
		__builtin_memcpy(r->unix_path, c->unix_path, UNIX_PATH_MAX);
#ifdef KEEP_PROXY
	__builtin_memcpy(r->forwarded, c->proxy, PROXY_HEADER_MAX);
	r->forwarded_bytes = c->proxy_bytes;
#endif
	if (s->has_sequence)
		r->tcp_seq = place;
	else if (c->pair)
		r->tcp_seq = (c->pair + 2 * c->next_request) | 1;
	fill_caller(r);
	if (w->prepared && w->prepared_at == place)
		take_lineage(r, &w->lineage);
	else
		begin_trace(r);
}

/* Which side this is, a request's direction says. What the other direction was taken for till now
 * (a request's leading empty line) is forgotten. */
static __always_inline void guess_role(struct connection *c, const struct direction *d)
{
	if (c->role != ROLE_UNKNOWN)
		return;
	c->role = d == &c->directions[EGRESS] ? ROLE_CLIENT : ROLE_SERVER;
	begin_message(responses(c), STATE_RESPONSE_START);
	responses(c)->phase = PHASE_SEEK;
}

/* A request's first byte: number it, and give it a place if there is one. */
static __always_inline struct exchange *begin_request(struct work *w, struct connection *c,
						      struct direction *d, u64 now)
{
	struct exchange_key key = {.connection = c->head.identity, .index = c->next_request};
	struct exchange *x = 0;

	guess_role(c, d);
	d->first_ns = now;
	c->lost_reason = COUNTER_LOST_PIPELINE_FULL;
	if (outstanding(c))
		c->pipelined = 1;
	c->beside = outstanding(c) || (c->next_request && first_byte_at(w));
	if (outstanding(c) < OUTSTANDING_MAX) {
		x = exchange_new(&key);
		c->lost_reason = COUNTER_LOST_TABLE_FULL;
	}
	c->next_request++;
	if (x)
		fill_request(w, c, &x->record, now);
	return x;
}

static __always_inline struct exchange *current_request(struct connection *c)
{
	struct exchange_key key = {.connection = c->head.identity, .index = c->next_request - 1};

	return exchange_get(&key);
}

static __always_inline void drop_current(struct connection *c)
{
	struct exchange_key key = {.connection = c->head.identity, .index = c->next_request - 1};

	exchange_drop(&key);
}

/* Take back a request that turned out not to be one; one that an answer has made count (an early
 * 400) is not taken back, but lost. */
static __always_inline void withdraw_request(struct connection *c, struct direction *d)
{
	if (!d->first_ns || d->counted)
		return;
	d->first_ns = 0; /* once */
	if (c->next_response < c->next_request) {
		drop_current(c);
		c->next_request--;
	}
	if (c->role_known == ROLE_GUESSED)
		c->role = ROLE_UNKNOWN;
}

/* The request line is a valid one: from here on the exchange counts. */
static __always_inline void confirm(struct connection *c, struct direction *d, struct exchange *x)
{
	if (d->counted)
		return;
	d->counted = 1;
	count(COUNTER_SEEN);
	if (!admitted(c) || !process_wanted()) {
		count(COUNTER_FILTERED);
		if (c->tls && !c->head.family)
			count(COUNTER_TLS_UNPLACED);
		if (x)
			x->confirmed = UNWANTED;
		/* Others that are outstanding are to be ended first. */
		if (c->role_known == ROLE_CERTAIN && !admitted(c) && outstanding(c) == 1) {
			drop_current(c);
			c->off = 1;
		}
		return;
	}
	if (c->role_known == ROLE_GUESSED)
		c->role_known = ROLE_BY_REQUEST;
	if (x)
		x->confirmed = CONFIRMED;
	else
		count(c->lost_reason);
}

/* Stop following a connection that is not, or is no longer, HTTP/1. */
static __always_inline void turn_off(struct work *w, struct connection *c)
{
	c->off = 1;
	if (outstanding(c))
		w->settle = SETTLE_DESYNC;
}

static __always_inline void lose_sync(struct work *w, struct connection *c, u32 reason)
{
	count(reason);
	w->settle = SETTLE_DESYNC;
	c->doubtful = 0;
	if (w->span < w->spans_count)
		w->settle_ns = w->spans[w->span & 1].end_ns;
}

static __always_inline void end_request(struct connection *c, struct direction *d)
{
	struct exchange *x = d->body_bytes && outstanding(c) ? current_request(c) : 0;

	if (x)
		x->record.request_body_bytes = d->body_bytes;
	begin_message(d, STATE_REQUEST_START);
}

static __always_inline void end_response(struct work *w, struct connection *c, struct direction *d,
					 u64 now)
{
	if (d->unpaired)
		count(COUNTER_UNPAIRED_RESPONSES);
	else
		finish_oldest(c, now, FAILURE_NONE, 0);
	begin_message(d, STATE_RESPONSE_START);
}
