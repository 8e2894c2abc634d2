/* Where spans stand in their traces: ids that are drawn, inherited from a parent, or named by a
 * traceparent. */
#pragma once

#define TRACEPARENT_BYTES 55 /* of version 00: W3C Trace Context section 3.2 */

/* An id of zero is no id (W3C Trace Context section 3.2.2.3), hence the lowest bit. */
static __always_inline void begin_trace(struct record *r)
{
	r->trace_id_high = random64();
	r->trace_id_low = random64() | 1;
	r->span_id = random64() | 1;
}

static __always_inline void take_lineage(struct record *r, const struct lineage *l)
{
	r->trace_id_high = l->trace_id_high;
	r->trace_id_low = l->trace_id_low;
	r->span_id = l->span_id;
	r->parent_span_id = l->parent_span_id;
	r->named_span_id = l->named_span_id;
	r->joined = l->joined;
	r->sampling = l->sampling;
}

#ifdef JOINS
static __always_inline void begin_lineage(struct lineage *l)
{
	l->trace_id_high = random64();
	l->trace_id_low = random64() | 1;
	l->span_id = random64() | 1;
	l->parent_span_id = 0;
	l->named_span_id = 0;
	l->joined = JOIN_NONE;
	l->sampling = SAMPLING_UNKNOWN;
}

/* ... in the trace of a parent that is served. */
static __always_inline void descend(struct lineage *l, const struct record *parent)
{
	l->trace_id_high = parent->trace_id_high;
	l->trace_id_low = parent->trace_id_low;
	l->span_id = random64() | 1;
	l->parent_span_id = parent->span_id;
	l->named_span_id = parent->named_span_id;
	l->joined = JOIN_SERVED;
	l->sampling = parent->sampling;
}

/* Read 16 hexadecimal digits, in lower case only; what is none makes `bad` other than 0. */
static __always_inline u64 read_hex(const char *from, u32 *bad)
{
	u64 value = 0;
	u32 i;

#pragma nounroll
	for (i = 0; i < 16; i++) {
		u32 c = (u8)from[i];

		if (c - '0' >= 10 && c - 'a' >= 6)
			*bad = 1;
		value = value << 4 | ((c & 15) + 9 * (c >> 6));
	}
	return value;
}

/* What a traceparent names; false if it is none of version 00 (another may be one that only user
 * space can read). */
static __always_inline bool read_traceparent(const struct record *r, struct lineage *l)
{
	const char *text = r->traceparent;
	u32 bad = 0, flags;

	if (r->traceparent_bytes != TRACEPARENT_BYTES || r->truncated & TRUNCATED_TRACEPARENT)
		return false;
	l->trace_id_high = read_hex(text + 3, &bad);
	l->trace_id_low = read_hex(text + 19, &bad);
	l->named_span_id = read_hex(text + 36, &bad);
	flags = (u8)text[54];
	if (text[0] != '0' || text[1] != '0' || text[2] != '-' || text[35] != '-' ||
	    text[52] != '-' || (flags - '0' >= 10 && flags - 'a' >= 6))
		bad = 1;
	l->sampling = ((flags & 15) + 9 * (flags >> 6)) & 1 ? SAMPLING_YES : SAMPLING_NO;
	flags = (u8)text[53];
	if (flags - '0' >= 10 && flags - 'a' >= 6)
		bad = 1;
	return !bad && (l->trace_id_high | l->trace_id_low) && l->named_span_id;
}

/* A traceparent on the wire fixes the trace. The parent that is proved stays if it is in that
 * trace, and no farther than the one that is named: the client of the same request, or the server
 * of one that named the same. */
static __always_inline bool take_traceparent(struct work *w, struct record *r)
{
	struct lineage *l = &w->lineage;

	if (!read_traceparent(r, l))
		return false;
	if (r->joined == JOIN_SERVED &&
	    (r->trace_id_high != l->trace_id_high || r->trace_id_low != l->trace_id_low ||
	     r->named_span_id != l->named_span_id)) {
		r->joined = JOIN_NONE;
		r->parent_span_id = 0;
	}
	r->trace_id_high = l->trace_id_high;
	r->trace_id_low = l->trace_id_low;
	r->named_span_id = l->named_span_id;
	r->sampling = l->sampling;
	return true;
}
#endif
