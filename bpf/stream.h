/* The bytes of one call, in order, through the automaton: gather a window, walk it, deal with what
 * it met. One turn is one window, one body, or one event. */
#pragma once

/* The body, or as much of it as this call moved. */
static __always_inline u32 take_body(struct work *w, struct direction *d, struct span_of_bytes *s,
				     bool is_request)
{
	u64 n = unread(w, s);

	if (d->phase == PHASE_BODY)
		n = min_u64(n, d->left);
	pass(w, s, n);
	d->body_bytes += n;
	if (d->phase == PHASE_OPEN)
		return THEN_GO_ON;
	d->left -= n;
	if (d->left)
		return THEN_GO_ON;
	if (d->coding != CODING_CHUNKED)
		return is_request ? THEN_END_REQUEST : THEN_END_RESPONSE;
	d->phase = PHASE_FRAMES;
	d->state = STATE_DATA_END;
	return THEN_GO_ON;
}

/* A chunk-size line: its data follow, or the trailer. */
static __always_inline u32 take_chunk_size(struct direction *d)
{
	if (d->bad_length)
		return THEN_DESYNC_INVALID;
	if (d->length) {
		d->phase = PHASE_BODY;
		d->left = d->length;
	} else {
		d->state = STATE_TRAILER_LINE;
	}
	return THEN_GO_ON;
}

/* Words that end in a version are no request line, unless they are a method and a path with blanks
 * in it. */
static __always_inline bool is_prose(const struct record *r)
{
	return r->truncated & TRUNCATED_TARGET && r->target_bytes < TARGET_MAX &&
	       r->target[0] != '/';
}

/* Keep what a scan of a request's head has met. */
static __always_inline void take_request(struct work *w, struct connection *c, struct direction *d,
					 u64 now)
{
	struct exchange *x;

	if (d->first_ns)
		x = current_request(c);
	else if (!w->mark[STATE_METHOD_FIRST] || w->state == STATE_EVENT_REJECT)
		return;
	else
		x = begin_request(w, c, d, now);
	if (x)
		keep_texts(w, &x->record);
	if (!w->mark[STATE_LINE])
		return;
	if (x && !d->counted && is_prose(&x->record))
		w->state = STATE_EVENT_REJECT;
	else
		confirm(c, d, x);
}

static __always_inline void take_response(struct work *w, struct direction *d, u64 now)
{
	if (!d->first_ns && d->state != STATE_RESPONSE_START)
		d->first_ns = now;
	keep_status(w, d);
}

/* Take in what the walk over the window has met. */
static __always_inline void take_window(struct work *w, struct connection *c,
					const struct automaton *a)
{
	struct direction *d = direction_of(w, c);
	bool frames = d->phase == PHASE_FRAMES;
	u64 begin_ns = span_of(w)->begin_ns;
	u32 event = w->state;

	d->state = event < STATES_EVENT_FIRST ? event : a->next[(event & 255) << 8];
	keep_number(w, d, frames ? STATE_SIZE_FIRST : STATE_LENGTH_FIRST, frames ? 16 : 10);
	if (frames)
		return;
	if (w->is_request)
		take_request(w, c, d, begin_ns);
	else
		take_response(w, d, begin_ns);
}

/* What the event at which the walk has stopped leads to. */
static __always_inline u32 take_event(struct work *w, struct connection *c)
{
	struct direction *d = direction_of(w, c);
	u32 event = w->state;

	if (event < STATES_EVENT_FIRST || c->off)
		return THEN_GO_ON;
	if (event == STATE_EVENT_HEAD)
		return w->is_request ? end_request_head(w, c, d) : end_response_head(w, c, d);
	if (event == STATE_EVENT_SIZE)
		return take_chunk_size(d);
	if (event == STATE_EVENT_TRAILER)
		return w->is_request ? THEN_END_REQUEST : THEN_END_RESPONSE;
	if (event == STATE_EVENT_REJECT)
		return THEN_REJECT;
	if (event == STATE_EVENT_HTTP2)
		return THEN_HTTP2;
	take_framing(d, event);
	return THEN_GO_ON;
}

/* Deal with what a turn has led to. */
static __always_inline void go_on(struct work *w, struct connection *c)
{
	struct direction *d = direction_of(w, c);
	u32 then = w->then;

	if (then == THEN_END_REQUEST) {
		end_request(c, d);
	} else if (then == THEN_END_RESPONSE || then == THEN_END_RESPONSE_AND_HTTP) {
		end_response(w, c, d, span_of(w)->end_ns);
		if (then == THEN_END_RESPONSE_AND_HTTP)
			turn_off(w, c);
	} else if (then == THEN_REJECT) {
		reject(w, c, d, w->is_request);
	} else if (then == THEN_DESYNC_INVALID) {
		lose_sync(w, c, COUNTER_DESYNC_INVALID);
	} else if (then == THEN_DESYNC_OVERLAP) {
		lose_sync(w, c, COUNTER_DESYNC_OVERLAP);
	} else if (then == THEN_DESYNC_NO_PLACE) {
		lose_sync(w, c, COUNTER_DESYNC_NO_PLACE);
	} else if (then == THEN_DESYNC_UNPAIRED) {
		lose_sync(w, c, COUNTER_UNPAIRED_RESPONSES);
	} else if (then == THEN_HTTP2) {
		withdraw_request(c, d);
		count(COUNTER_UNSEEN_HTTP2);
		turn_off(w, c);
	}
}

enum step {
	STEP_OVER = 0, /* the span has been dealt with, or needs no further look */
	STEP_AGAIN,
	STEP_BODY,
	STEP_WINDOW,
};

/* What this turn is to do. */
static __always_inline u32 choose_step(struct work *w, struct connection *c)
{
	struct span_of_bytes *s = span_of(w);
	struct direction *d = direction_of(w, c);

	if (c->role != ROLE_UNKNOWN)
		withdraw_guess(c, s->direction);
	w->is_request =
		c->role == ROLE_UNKNOWN || (c->role == ROLE_CLIENT) == (s->direction == EGRESS);
	if (c->off || w->settle)
		return STEP_OVER;
	if (!unread(w, s))
		return next_message(s) ? STEP_AGAIN : STEP_OVER;
	if (d->phase == PHASE_SEEK &&
	    (w->window_at || w->position || !take_up(c, d, w->is_request, s->begin_ns)))
		return STEP_OVER;
	if (d->phase >= PHASE_BODY)
		return STEP_BODY;
	if (w->position < w->filled || (!s->opaque && gather(w, s)))
		return STEP_WINDOW;
	lose_sync(w, c, COUNTER_DESYNC_UNREADABLE);
	return STEP_OVER;
}

/* One turn; false when the span is done. Each part begins with what memory says, so that the
 * verifier need not walk the later ones once for each way through the earlier. */
static __always_inline bool turn(struct work *w, struct connection *c, const struct automaton *a)
{
	w->step = choose_step(w, c);
	FORGET();
	if (w->step <= STEP_AGAIN)
		return w->step;
	if (w->step == STEP_BODY) {
		w->then = take_body(w, direction_of(w, c), span_of(w), w->is_request);
	} else {
		w->state = scan(w, a, direction_of(w, c)->state);
		FORGET();
		take_window(w, c, a);
		FORGET();
		w->then = take_event(w, c);
		FORGET();
		/* A body, or a chunk's data, in the turn of what announces it: small ones are many.
		 */
		if (!w->then && direction_of(w, c)->phase == PHASE_BODY)
			w->then = take_body(w, direction_of(w, c), span_of(w), w->is_request);
	}
	FORGET();
	if (w->then)
		go_on(w, c);
	return true;
}

static __always_inline void next_span_to_follow(struct work *w, struct connection *c)
{
	count_unfollowed(w, c);
	direction_of(w, c)->last_ns = span_of(w)->end_ns;
	w->span++;
	w->position = 0;
	w->filled = 0;
	w->window_at = 0;
}

/* A bounded number of turns over the spans of a call; true if there is more to do. */
static __always_inline bool take_turns(struct work *w, struct connection *c,
				       const struct automaton *a)
{
	int i;

#pragma nounroll
	for (i = 0; i < TURNS; i++) {
		FORGET();
		if (w->span >= w->spans_count)
			return false;
		if (!turn(w, c, a))
			next_span_to_follow(w, c);
	}
	return true;
}

/* What the call met after its bytes: how its connection is to be settled, if at all. */
static __always_inline u32 end_of_call(struct work *w, struct connection *c)
{
	if (w->ended)
		c->peer_gone = 1;
	if (w->error)
		c->error = w->error;
	if (!w->settle && (w->ended || w->error) && c->role == ROLE_CLIENT && outstanding(c))
		w->settle = SETTLE_PEER_CLOSED;
	return w->settle;
}

/* A call holds more than can be followed: what is undone is passed over, and the next call on this
 * connection settles it. */
static __always_inline void overrun(struct work *w, struct connection *c)
{
	count_unfollowed(w, c);
	if (!w->span && w->spans_count > 1)
		count_many(COUNTER_UNFOLLOWED_BYTES, w->spans[1].left);
	c->broken = COUNTER_DESYNC_OVERRUN;
	direction_of(w, c)->last_ns = w->now_ns;
}
