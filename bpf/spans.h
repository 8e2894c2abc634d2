/* Where the bytes of one call lie: a span is pieces of the caller's memory, which may be many
 * (iovecs), may be skipped without a look (bodies) and may be unreadable (sendfile). */
#pragma once

#ifdef CAPTURE_TCP
/* As the kernel's own functions are given them: a list of pieces is the kernel's already. */
static __always_inline long read_list(const struct span_of_bytes *s, void *to, u64 bytes, u64 from)
{
	return s->memory ? read_kernel(to, bytes, from) : read_user(to, bytes, from);
}

static __always_inline long read_bytes(const struct span_of_bytes *s, void *to, u64 bytes, u64 from)
{
	return s->memory == MEMORY_KERNEL ? read_kernel(to, bytes, from)
					  : read_user(to, bytes, from);
}
#else
#define read_list(s, to, bytes, from) read_user(to, bytes, from)
#define read_bytes(s, to, bytes, from) read_user(to, bytes, from)
#endif

/* Take the next piece of memory of a span; false if there is none. */
static __always_inline bool next_piece(struct span_of_bytes *s)
{
	struct iovec piece = {};

	if (!s->iov_count)
		return false;
	if (read_list(s, &piece, sizeof(piece), s->iov))
		return false;
	s->iov += sizeof(piece);
	s->iov_count--;
	s->base = (u64)piece.iov_base;
	s->length = piece.iov_len;
	return true;
}

/* Take the next message of a sendmmsg or recvmmsg; false if there is none. */
static __always_inline bool next_message(struct span_of_bytes *s)
{
	struct mmsghdr_user message = {};

	if (!s->message_count)
		return false;
	if (read_user(&message, sizeof(message), s->messages))
		return false;
	s->messages += sizeof(message);
	s->message_count--;
	s->done += s->left; /* what is left of the message before was passed over */
	s->skip = 0;
	s->iov = message.iov;
	s->iov_count = message.iov_count;
	s->length = 0;
	s->left = message.bytes;
	return true;
}

/* Fill the window from the span; false if the memory cannot be read. */
static __always_inline bool gather(struct work *w, struct span_of_bytes *s)
{
	u64 filled = 0;
	int i;

	w->position = 0;
	w->window_at = s->done;
#pragma nounroll
	for (i = 0; i < GATHER_STEPS; i++) {
		u64 n;

		if (filled >= WINDOW_BYTES || !s->left)
			break;
		if (!s->length) {
			if (!next_piece(s))
				break;
			continue;
		}
		n = min_u64(s->length, s->left);
		if (s->skip) {
			n = min_u64(n, s->skip);
			s->skip -= n;
			w->window_at = s->done + n;
		} else {
			n = min_u64(n, WINDOW_BYTES - filled);
			OPAQUE(n);
			if (n > WINDOW_BYTES)
				break;
			if (read_bytes(s, &w->window[filled & (WINDOW_BYTES - 1)], n, s->base))
				return false;
			filled += n;
		}
		s->base += n;
		s->length -= n;
		s->left -= n;
		s->done += n;
	}
	w->filled = filled;
	return i || !s->left;
}

static __always_inline u64 unread(const struct work *w, const struct span_of_bytes *s)
{
	return w->filled - w->position + s->left - s->skip;
}

/* Pass over n bytes (no more than unread): in the window as far as it reaches, then unseen. */
static __always_inline void pass(struct work *w, struct span_of_bytes *s, u64 n)
{
	u64 seen = min_u64(n, w->filled - w->position);

	w->position += seen;
	s->skip += n - seen;
}

static __always_inline struct span_of_bytes *span_of(struct work *w)
{
	return &w->spans[w->span & 1];
}

static __always_inline struct direction *direction_of(struct work *w, struct connection *c)
{
	return &c->directions[span_of(w)->direction & 1];
}

/* What is left of a span passes on a connection that speaks HTTP, but is out of sync: how many
 * requests it holds is not known. */
static __always_inline void count_unfollowed(const struct work *w, const struct connection *c)
{
	u64 left = unread(w, &w->spans[w->span & 1]);

	if (left && !c->off && c->next_request)
		count_many(COUNTER_UNFOLLOWED_BYTES, left);
}
