/* HTTP/1 messages (RFC 9112): walk the automaton over a window, keep texts and numbers. No map, no
 * helper but two memory copies, so that cc builds it too. The states come from
 * ringspan.protocols.http1. */
#pragma once

#define DIGITS_MAX 32 /* of a length or chunk size, leading zeros and all */
#define LOW_BITS 0x0101010101010101ULL
#define HIGH_BITS 0x8080808080808080ULL

/* clang splits an unaligned load into bytes; the machines that BPF runs on need not. */
static __always_inline u64 load64(const void *from)
{
	u64 word;

#ifdef __BPF_TRACING__ /* BCC's; it names the machine otherwise as the kernel's */
	asm volatile("%0 = *(u64 *)(%1 + 0)" : "=r"(word) : "r"(from));
#else
	__builtin_memcpy(&word, from, sizeof(word));
#endif
	return word;
}

/* How many of 8 bytes come before the lowest whose high bit is set in hit; 8 if none is. */
static __always_inline u64 bytes_before(u64 hit)
{
	u64 lowest = hit & -hit;

	if (!hit)
		return 8;
	return ((((lowest - 1) & LOW_BITS) * LOW_BITS) >> 56) - 1;
}

/* High bits of the bytes of a word that are zero, right up to the lowest such. */
static __always_inline u64 zero_bytes(u64 word)
{
	return (word - LOW_BITS) & ~word & HIGH_BITS;
}

static __always_inline u64 before_line_feed(u64 word)
{
	return bytes_before(zero_bytes(word ^ (LOW_BITS * '\n')));
}

/* How many of the next 8 bytes come before a blank or control character (RFC 3986 has none). */
static __always_inline u64 before_invisible(u64 word)
{
	u64 low = (word - LOW_BITS * 0x21) & ~word & HIGH_BITS;

	return bytes_before(low | zero_bytes(word ^ (LOW_BITS * 0x7f)));
}

/* Take up to 8 bytes at once: returns how many, and leaves where they lead in w->state (in memory,
 * so that the verifier does not walk on from each answer apart). */
static __always_inline u64 leap(struct work *w, const struct automaton *a, u32 state, u64 position,
				u64 filled)
{
	u64 word = load64(&w->window[position]), n = 0;

	w->state = state;
	if (state > STATE_TARGET) {
		n = before_line_feed(word);
	} else if (state == STATE_TARGET) {
		n = before_invisible(word);
	} else if (position + 8 <= filled &&
		   word == (state == STATE_LINE ? WORD_LINE : WORD_VERSION)) {
		OPAQUE(state);
		w->state = a->next[state & 255]; /* row 0: where words lead */
		n = 8;
	}
	FORGET();
	return n;
}

#define POSITION_MASK (2 * WINDOW_BYTES - 1)

/* Walk from w->position until an event, the window's end, or SCAN_STEPS; returns the state. */
static __always_inline u32 scan(struct work *w, const struct automaton *a, u32 state)
{
	u64 position = w->position & POSITION_MASK, filled = w->filled;
	u32 index;
	int i;

	__builtin_memset(w->mark, 0, sizeof(w->mark[0]) * ((STATES_MARKED + 7) & ~3));
	w->scan_from = position;
#pragma nounroll
	for (i = 0; i < SCAN_STEPS; i++) {
		if (position >= filled || state >= STATES_EVENT_FIRST)
			break;
		if (state - STATES_LEAPING_FIRST < STATES_LEAPING) {
			u64 n = leap(w, a, state, position, filled);

			state = w->state;
			position = min_u64(position + n, filled) & POSITION_MASK;
			w->mark[state & 255] = position;
			if (n == 8 || position == filled)
				continue;
		}
		index = ((state & 255) << 8) | (u8)w->window[position];
		BOUND(index, 0xffff);
		state = a->next[index];
		/* The mask is for the verifier: every turn of the loop then begins alike, and is
		 * walked once. */
		position = (position + 1) & POSITION_MASK;
		w->mark[state & 255] = position;
	}
	w->position = position;
	return state;
}

/* Where in the window a value that two states stand for lies; false if it is not in this window. */
static __always_inline bool marked(struct work *w, u32 first, u32 rest, u32 *from, u32 *to)
{
	u32 start = w->mark[first], end = w->mark[rest];

	if (end < start)
		end = start;
	if (!end)
		return false;
	*from = start ? start - 1 : w->scan_from;
	*to = end;
	return true;
}

/* A value's mark is past the CR of its line, which is no part of it. */
static __always_inline bool ends_in_cr(const struct work *w, u32 from, u32 to)
{
	return from < to && w->window[(to - 1) & (WINDOW_BYTES - 1)] == '\r';
}

/* What becomes of a text when its field comes again. */
#define ONLY_LAST 0
#define COMBINE 1

/* Append a marked value to a text of the record; says in `truncated` what did not fit. A CR that
 * ends the window may be its line's or the value's own: it waits behind the text, not counted. */
#define KEEP(w, record, FIRST, REST, text, CAPACITY, BIT, AGAIN)                                 \
	do {                                                                                     \
		u32 from_ = 0, to_ = 0;                                                          \
		if (marked(w, FIRST, REST, &from_, &to_)) {                                      \
			u64 at_ = (record)->text##_bytes, cr_ = ends_in_cr(w, from_, to_);       \
			if ((w)->mark[FIRST] && !AGAIN) {                                        \
				at_ = 0;                                                         \
				(record)->truncated &= ~(BIT);                                   \
			}                                                                        \
			u64 joins_ = at_ != 0;                                                   \
			OPAQUE(at_);                                                             \
			if (!(w)->mark[FIRST])                                                   \
				joins_ = at_ < CAPACITY && (record)->text[at_] == '\r';          \
			OPAQUE(joins_); /* of one test of two things old verifiers learn neither \
					 */                                                      \
			if (joins_ && at_ < CAPACITY)                                            \
				(record)->text[at_++] = (w)->mark[FIRST] ? ',' : '\r';           \
			append_text(w, (record)->text, &(record)->text##_bytes, at_, from_,      \
				    to_ - cr_, CAPACITY, BIT, &(record)->truncated);             \
			at_ = (record)->text##_bytes;                                            \
			OPAQUE(at_);                                                             \
			if (at_ < CAPACITY)                                                      \
				(record)->text[at_] = cr_ ? '\r' : 0;                            \
		}                                                                                \
	} while (0)

static __always_inline void append_text(struct work *w, char *text, u16 *bytes, u64 at, u64 from,
					u64 to, u64 capacity, u16 bit, u16 *truncated)
{
	u64 n = to - from, room = capacity - at;

	if (*truncated & bit) /* no later part may follow one that found no room */
		return;
	if (at > capacity || n > room) {
		*truncated |= bit;
		if (at >= capacity)
			return;
		n = room;
	}
	*bytes = at + n;
	OPAQUE(at);
	OPAQUE(n);
	if (at < capacity && n <= capacity)
		bpf_probe_read_kernel(text + at, n, &w->window[from & (WINDOW_BYTES - 1)]);
}

static __always_inline void keep_texts(struct work *w, struct record *r)
{
	KEEP(w, r, STATE_METHOD_FIRST, STATE_METHOD, method, METHOD_MAX, TRUNCATED_METHOD, COMBINE);
	KEEP(w, r, STATE_TARGET_FIRST, STATE_TARGET, target, TARGET_MAX, TRUNCATED_TARGET, COMBINE);
	KEEP(w, r, STATE_HOST_FIRST, STATE_HOST, host, HOST_MAX, TRUNCATED_HOST, ONLY_LAST);
	KEEP(w, r, STATE_USER_AGENT_FIRST, STATE_USER_AGENT, user_agent, USER_AGENT_MAX,
	     TRUNCATED_USER_AGENT, ONLY_LAST);
	KEEP(w, r, STATE_TRACEPARENT_FIRST, STATE_TRACEPARENT, traceparent, TRACEPARENT_MAX,
	     TRUNCATED_TRACEPARENT, COMBINE);
	KEEP(w, r, STATE_TRACESTATE_FIRST, STATE_TRACESTATE, tracestate, TRACESTATE_MAX,
	     TRUNCATED_TRACESTATE, COMBINE);
#ifdef KEEP_FORWARDED
	KEEP(w, r, STATE_FORWARDED_FIRST, STATE_FORWARDED, forwarded, FORWARDED_MAX,
	     TRUNCATED_FORWARDED, COMBINE);
#endif
	if (w->mark[STATE_TARGET_REST])
		r->truncated |= TRUNCATED_TARGET;
	if (w->mark[STATE_MINOR_1])
		r->http_minor = 1;
}

/* Read on in a number of the given base; its later digits' state is numbered next to its first's.
 */
static __always_inline void keep_number(struct work *w, struct direction *d, u32 first, u64 base)
{
	u32 from = 0, to = 0;
	u64 value = d->length;
	int i;

	if (!marked(w, first, first + 1, &from, &to))
		return;
	if (w->mark[first])
		value = 0;
	if (to - from > DIGITS_MAX)
		d->bad_length = 1;
#pragma nounroll
	for (i = 0; i < DIGITS_MAX; i++) {
		u64 c;

		if (from >= to)
			break;
		c = (u8)w->window[from & (WINDOW_BYTES - 1)];
		if (value >> 58)
			d->bad_length = 1;
		value = value * base + (c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
		from++;
	}
	d->length = value;
}

static __always_inline void keep_status(struct work *w, struct direction *d)
{
	u32 i;

#pragma nounroll
	for (i = STATE_STATUS_1; i <= STATE_STATUS_3; i++) {
		u32 at = w->mark[i & 255];

		if (at)
			d->status =
				d->status * 10 + (w->window[(at - 1) & (WINDOW_BYTES - 1)] - '0');
	}
}

/* Take in what an event in a head says about the length of the body (RFC 9112 section 6.3). */
static __always_inline void take_framing(struct direction *d, u32 event)
{
	if (event == STATE_EVENT_CHUNKED) {
		d->coding = CODING_CHUNKED;
	} else if (event == STATE_EVENT_OTHER_CODING) {
		d->coding = CODING_OTHER;
	} else if (event == STATE_EVENT_LENGTH_BAD) {
		d->bad_length = 1;
	} else if (event == STATE_EVENT_LENGTH || event == STATE_EVENT_LENGTH_LIST) {
		if (d->has_length && d->known_length != d->length)
			d->bad_length = 1;
		d->has_length = 1;
		d->known_length = d->length;
	}
}

/* Make a direction ready for its next message. */
static __always_inline void begin_message(struct direction *d, u8 state)
{
	d->phase = PHASE_HEAD;
	d->state = state;
	d->coding = CODING_NONE;
	d->has_length = 0;
	d->bad_length = 0;
	d->counted = 0;
	d->unpaired = 0;
	d->status = 0;
	d->length = 0;
	d->known_length = 0;
	d->left = 0;
	d->body_bytes = 0;
	d->first_ns = 0;
}

static __always_inline bool method_is(const struct record *r, const char *name, u16 bytes)
{
	int i;

	if (r->method_bytes != bytes)
		return false;
#pragma unroll
	for (i = 0; i < 8; i++)
		if (i < bytes && r->method[i] != name[i])
			return false;
	return true;
}

static __always_inline bool has_no_body(const struct exchange *x, u16 status)
{
	return status == 204 || status == 304 || (x && method_is(&x->record, "HEAD", 4));
}
