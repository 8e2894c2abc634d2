/* The PROXY protocol, versions 1 and 2: a header before a connection's first message, by which a
 * proxy says for whom it speaks. It is passed over, and kept if it is asked for. */
#pragma once

#define PROXY_BYTES_MIN 15	       /* "PROXY UNKNOWN" and the end of its line */
#define PROXY_V1 0x2059584f5250ULL     /* "PROXY " */
#define PROXY_V2 0x510a0d000a0d0a0dULL /* how its signature begins, and goes on */
#define PROXY_V2_REST 0x0a544955
#define PROXY_V2_BYTES 16

/* Of version 1 the line's bytes, of which there are 107 at most; 0 if they do not end here. */
static __always_inline u64 line_bytes(const struct work *w, u64 there)
{
	u32 i;

#pragma nounroll
	for (i = PROXY_BYTES_MIN - 1; i < PROXY_HEADER_MAX - 1; i++) {
		if (i >= there)
			break;
		if (w->window[i] == '\n')
			return i + 1;
	}
	return 0;
}

/* How long the header is that these bytes begin with; 0 if they begin with none. Its sender hands
 * it over at once, and so it is received (section 2 of the protocol). */
static __always_inline u64 proxy_header_bytes(const struct work *w, u64 there)
{
	u64 first = load64(w->window), second = load64(w->window + 8);

	if (there < PROXY_BYTES_MIN)
		return 0;
	if ((first & 0xffffffffffffULL) == PROXY_V1)
		return line_bytes(w, there);
	if (first != PROXY_V2 || (u32)second != PROXY_V2_REST || there < PROXY_V2_BYTES)
		return 0;
	return PROXY_V2_BYTES + ((second >> 48 & 255) << 8 | second >> 56);
}

/* Is this where a connection begins that was seen from its first byte? */
static __always_inline bool at_first_byte(const struct connection *c, const struct direction *d)
{
	return c->born && !c->next_request && !d->last_ns && d->phase == PHASE_HEAD;
}

/* A call's bytes may begin with a header. */
static __always_inline void skip_proxy_header(struct work *w, struct connection *c)
{
	struct span_of_bytes *s = &w->spans[0];
	u64 there, bytes;

	if (w->spans_count != 1 || s->opaque || s->message_count || s->skip || c->tls ||
	    s->direction != request_direction(c) ||
	    !at_first_byte(c, &c->directions[s->direction & 1]))
		return;
	if (!s->length && !next_piece(s))
		return;
	there = min_u64(s->left, s->length);
	there = min_u64(there, PROXY_HEADER_MAX);
	OPAQUE(there);
	if (there > PROXY_HEADER_MAX || read_bytes(s, w->window, there, s->base))
		return;
	bytes = proxy_header_bytes(w, there);
	if (!bytes || bytes > s->left)
		return;
	s->skip = bytes;
#ifdef KEEP_PROXY
	there = min_u64(there, bytes);
	OPAQUE(there);
	if (there <= PROXY_HEADER_MAX && !bpf_probe_read_kernel(c->proxy, there, w->window))
		c->proxy_bytes = there;
#endif
}
