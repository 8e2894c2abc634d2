/* How exchanges end that no whole response ends: closed, cut short, or no longer to be followed. */
#pragma once

/* Why the oldest outstanding exchange ends without a whole response (docs/glossary.md). */
static __always_inline u8 failure_of(struct connection *c)
{
	bool server = c->role == ROLE_SERVER;

	if (c->invalid_response)
		return FAILURE_INVALID_RESPONSE;
	if (c->response_begun || has_status_line(c, responses(c)))
		return FAILURE_INCOMPLETE;
	if (server)
		return c->peer_gone || c->error ? FAILURE_CLIENT_CLOSED : FAILURE_CONNECTION_CLOSED;
	if (c->error == ETIMEDOUT_)
		return FAILURE_TIMEOUT;
	if (c->error)
		return FAILURE_ERRNO;
	return c->peer_gone ? FAILURE_CONNECTION_CLOSED : FAILURE_CLIENT_CLOSED;
}

/* Does a body that ends with the connection end here, whole? */
static __always_inline bool ends_here(struct connection *c, u32 how)
{
	if (responses(c)->phase != PHASE_OPEN || !c->response_begun || c->error || c->reset)
		return false;
	return c->role == ROLE_SERVER ? how == SETTLE_CLOSED : c->peer_gone;
}

static __always_inline void lose_oldest(struct connection *c, u32 reason)
{
	struct exchange_key key = {.connection = c->head.identity, .index = c->next_response};
	struct exchange *x = exchange_get(&key);

	if (x) {
		if (x->confirmed == CONFIRMED)
			count(reason);
		exchange_drop(&key);
	}
	c->next_response++;
	c->response_begun = 0;
}

/* What is outstanding can no longer be followed: give it up, and wait for a message that can. */
static __always_inline void settle_desync(struct connection *c, u64 now, u32 reason)
{
	int i;

#pragma nounroll
	for (i = 0; i < OUTSTANDING_MAX; i++) {
		FORGET();
		if (!outstanding(c))
			break;
		lose_oldest(c, reason);
	}
	c->desync_ns = now;
	c->next_response = c->next_request;
	begin_message(&c->directions[INGRESS], 0);
	begin_message(&c->directions[EGRESS], 0);
	c->directions[INGRESS].phase = PHASE_SEEK;
	c->directions[EGRESS].phase = PHASE_SEEK;
	if (c->role_known != ROLE_CERTAIN) {
		c->role = ROLE_UNKNOWN;
		c->role_known = ROLE_GUESSED;
	}
}

/* The connection ends: so does every outstanding exchange. */
static __always_inline void settle_end(struct connection *c, u32 how, u64 now)
{
	int i;

	c->whole = outstanding(c) && ends_here(c, how);
#pragma nounroll
	for (i = 0; i < OUTSTANDING_MAX; i++) {
		FORGET();
		if (!outstanding(c))
			break;
		c->failing = c->whole ? FAILURE_NONE : failure_of(c);
		FORGET();
		finish_oldest(c, now, c->failing, c->failing ? c->error : 0);
		c->whole = 0;
	}
}

static __always_inline void settle(struct connection *c, u32 how, u64 now)
{
	if (how == SETTLE_DESYNC)
		settle_desync(c, now, COUNTER_LOST_DESYNC);
	else
		settle_end(c, how, now);
}

/* When a call's connection is to be settled. */
static __always_inline u64 settle_time(const struct work *w)
{
	return w->settle == SETTLE_DESYNC ? w->settle_ns : w->now_ns;
}

/* When a connection has ended whose socket is gone: at this side's FIN, or when bytes last moved
 * after it; now, if it sent none. */
static __always_inline u64 end_time(const struct connection *c, u64 now)
{
	u64 moved = last_moved_ns(c);

	if (!c->closed_ns)
		return now;
	return moved > c->closed_ns ? moved : c->closed_ns;
}

/* The process of a Unix socket, or of a TLS session, may die and tell no one: leave what is known
 * so far where user space will find it. */
static __always_inline void note_progress(struct connection *c)
{
	struct exchange_key key = {.connection = c->head.identity, .index = c->next_response};
	struct exchange *x;

	if (c->sequenced || !c->response_begun)
		return;
	x = exchange_get(&key);
	if (x)
		x->record.response_body_bytes = responses(c)->body_bytes;
}
