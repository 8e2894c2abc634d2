/* In and out of sync: when bytes break a stream, and when its next message may be taken up again.
 * Rather lost than wrong: a request is taken up only where no answer to another can be mistaken for
 * its own. */
#pragma once

static __always_inline u64 last_moved_ns(const struct connection *c)
{
	u64 in = c->directions[INGRESS].last_ns, out = c->directions[EGRESS].last_ns;

	return in > out ? in : out;
}

static __always_inline bool at_message_start(const struct direction *d)
{
	return d->phase == PHASE_HEAD && !d->first_ns;
}

/* Was all that passed on a connection understood, and answered? Then it can be picked up again as
 * if nothing had been. */
static __always_inline bool is_settled(const struct connection *c)
{
	return !outstanding(c) && !c->broken && !c->doubtful && !c->desync_ns &&
	       at_message_start(&c->directions[INGRESS]) &&
	       at_message_start(&c->directions[EGRESS]);
}

#define DOUBTS_MAX 8

/* Bytes that are no request may still get an HTTP answer (400); whoever goes on without one speaks
 * another protocol. */
static __always_inline bool still_doubtful(struct connection *c)
{
	if (c->doubtful && c->doubtful++ >= DOUBTS_MAX)
		c->off = 1;
	return c->doubtful;
}

/* May a request be taken up at this call's start, after sync was lost? Only if it cannot be one
 * that an answer still to come would be mistaken for: the call began since, the peer has moved
 * since, but not since the call began (that may have been its answer), and, where requests are
 * pipelined, all was quiet for a while. */
static __always_inline bool may_resume(struct connection *c, struct direction *d, u64 now)
{
	u64 own = d->last_ns, other = c->directions[d == &c->directions[INGRESS]].last_ns;

	if (!c->desync_ns)
		return !still_doubtful(c);
	if (other < own && own > c->desync_ns)
		c->pipelined = 1; /* more has passed unseen than the peer has answered */
	if (now < c->desync_ns || other < own || other < c->desync_ns || other > now)
		return false;
	return !c->pipelined || (now - own > QUIET_NS && now - other > QUIET_NS);
}

/* At the start of a call in a direction that is out of sync: may a message begin here? */
static __always_inline bool take_up(struct connection *c, struct direction *d, bool is_request,
				    u64 now)
{
	if (is_request ? !may_resume(c, d, now) : !outstanding(c))
		return false;
	begin_message(d, is_request ? STATE_REQUEST_START : STATE_RESPONSE_START);
	return true;
}

/* Out of sync, bytes that a request line may begin with are one only once it is whole: if the other
 * side moves first, they were none. */
static __always_inline void withdraw_guess(struct connection *c, u8 direction)
{
	struct direction *d = requests(c);

	if ((c->born && !c->desync_ns) || outstanding(c) != 1 || d->counted || !d->first_ns ||
	    d == &c->directions[direction & 1])
		return;
	withdraw_request(c, d);
	begin_message(d, STATE_REQUEST_START);
	d->phase = PHASE_SEEK;
}

#define ANSWER 0x2f50545448ULL /* "HTTP/", as a word */

/* Are bytes that are no request an answer's? */
static __always_inline bool is_answer(struct work *w, struct connection *c, struct direction *d)
{
	struct exchange *begun = d->first_ns ? current_request(c) : 0;
	u32 at = (w->mark[STATE_METHOD_FIRST] - 1) & (WINDOW_BYTES - 1);

	if (begun)
		return method_is(&begun->record, "HTTP", 4);
	return w->mark[STATE_METHOD_FIRST] && !((load64(&w->window[at]) ^ ANSWER) & 0xffffffffff);
}

/* Where nobody knows yet which side asks, an answer tells that requests were missed: what has begun
 * before it must not get those to come. */
static __always_inline void reject_answer(struct work *w, struct connection *c)
{
	if (c->born && !c->desync_ns)
		lose_sync(w, c, COUNTER_UNPAIRED_RESPONSES);
	else
		c->desync_ns = w->spans[w->span & 1].end_ns;
}

/* Bytes that no message can begin with, or that break one. */
static __always_inline void reject(struct work *w, struct connection *c, struct direction *d,
				   bool is_request)
{
	if (d->phase == PHASE_FRAMES) {
		lose_sync(w, c, COUNTER_DESYNC_INVALID);
	} else if (is_request) {
		bool answer = c->role_known == ROLE_GUESSED && is_answer(w, c, d);

		withdraw_request(c, d);
		if (answer && !outstanding(c))
			reject_answer(w, c);
		else if (c->born && !c->next_request)
			c->doubtful = 1;
		else if (c->next_request && (outstanding(c) || c->role != ROLE_UNKNOWN))
			lose_sync(w, c, COUNTER_DESYNC_INVALID);
		begin_message(d, STATE_REQUEST_START);
		d->phase = PHASE_SEEK;
	} else if (outstanding(c) && c->born && !c->desync_ns && !precedes_oldest(c, d)) {
		c->invalid_response = 1;
		d->status = 0; /* three digits of a line that is none */
		c->off = 1;
		w->settle = SETTLE_PEER_CLOSED;
	} else if (outstanding(c)) {
		lose_sync(w, c, COUNTER_DESYNC_INVALID);
	} else {
		if (c->born && !c->next_request) {
			c->off = !c->tls;
			c->doubtful = c->tls; /* an HTTP/2 server's settings come first */
		}
		begin_message(d, STATE_RESPONSE_START);
		d->phase = PHASE_SEEK;
	}
}
