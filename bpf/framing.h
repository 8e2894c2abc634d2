/* Where a head ends: whether a body follows, how that one will end, and whose answer it is (RFC
 * 9112 section 6). */
#pragma once

static __always_inline void begin_chunks(struct direction *d)
{
	d->phase = PHASE_FRAMES;
	d->state = STATE_SIZE_START;
	d->bad_length = 0;
}

/* The empty line of a request's head. */
static __always_inline u32 end_request_head(struct work *w, struct connection *c,
					    struct direction *d)
{
	struct exchange *x = current_request(c);

	w->head_read = 1;
	if (x && method_is(&x->record, "CONNECT", 7)) {
		d->phase = PHASE_OPEN;
		d->coding = CODING_TUNNEL;
		return THEN_GO_ON;
	}
	if (d->coding == CODING_CHUNKED) {
		begin_chunks(d);
	} else if (d->coding == CODING_OTHER || d->bad_length) {
		/* Where it ends cannot be known (RFC 9112 section 6.3): the server will refuse it
		 * and close. */
		d->phase = PHASE_OPEN;
	} else if (d->has_length && d->known_length) {
		d->phase = PHASE_BODY;
		d->left = d->known_length;
	} else {
		return THEN_END_REQUEST;
	}
	return THEN_GO_ON;
}

/* What follows a CONNECT that was refused is a request, if nothing has followed yet. */
static __always_inline u32 refuse_tunnel(struct connection *c)
{
	struct direction *in = requests(c);

	if (in->coding != CODING_TUNNEL)
		return THEN_GO_ON;
	if (in->body_bytes)
		return THEN_DESYNC_OVERLAP;
	begin_message(in, STATE_REQUEST_START);
	return THEN_GO_ON;
}

/* How the body of a response ends (RFC 9112 section 6.3). */
static __always_inline u32 begin_response_body(struct direction *d)
{
	if (d->coding == CODING_CHUNKED) {
		begin_chunks(d);
	} else if (d->coding == CODING_OTHER || d->bad_length || !d->has_length) {
		d->phase = PHASE_OPEN;
	} else if (d->known_length) {
		d->phase = PHASE_BODY;
		d->left = d->known_length;
	} else {
		return THEN_END_RESPONSE;
	}
	return THEN_GO_ON;
}

/* A final response to a request that is known. */
static __always_inline u32 answer(struct connection *c, struct direction *d, struct exchange *x)
{
	bool connect = method_is(&x->record, "CONNECT", 7);

	x->record.status = d->status;
	x->record.first_byte_ktime_ns = d->first_ns;
	if (x->confirmed == UNCONFIRMED) /* refused before its request line was whole */
		confirm(c, requests(c), x);
	c->role_known = ROLE_CERTAIN;
	c->response_begun = 1;
	if (d->status == 101 || (connect && d->status < 300))
		return THEN_END_RESPONSE_AND_HTTP;
	if (connect && refuse_tunnel(c))
		return THEN_DESYNC_OVERLAP;
	if (has_no_body(x, d->status))
		return THEN_END_RESPONSE;
	return begin_response_body(d);
}

/* The empty line of a response's head. One whose request found no place cannot be told from one
 * without a body; one to no request at all, on a connection followed from its birth, means that
 * requests were missed. */
static __always_inline u32 end_response_head(struct work *w, struct connection *c,
					     struct direction *d)
{
	struct exchange_key key = {.connection = c->head.identity, .index = c->next_response};
	struct exchange *x = outstanding(c) ? exchange_get(&key) : 0;

	d->unpaired = !outstanding(c) || precedes(d, x);
	if (d->unpaired)
		x = 0;
	if (d->status < 200 && d->status != 101) {
		begin_message(d, STATE_RESPONSE_START);
		return THEN_GO_ON;
	}
	if (x) {
		w->answered = x->record.tid;
		return answer(c, d, x);
	}
	if (!d->unpaired)
		return THEN_DESYNC_NO_PLACE;
	if (c->born && !c->desync_ns)
		return THEN_DESYNC_UNPAIRED;
	return has_no_body(x, d->status) ? THEN_END_RESPONSE : begin_response_body(d);
}
