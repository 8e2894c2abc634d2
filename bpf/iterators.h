/* Where the bytes of a send or a receive lie, by the iterator that the kernel's functions are given
 * (struct iov_iter). Its layout and the numbers of its kinds are this kernel's, from BTF. */
#pragma once

/* What struct call's number says here; system calls have smaller ones. */
enum bytes_at {
	BYTES_PLAIN = 0x10000, /* arguments: address */
	BYTES_LISTED,	       /* list of pieces, their number, -, offset into the first */
	BYTES_LISTED_KERNEL,
	BYTES_UNSEEN, /* pages: sendfile, splice */
};
#define ARGUMENT_AT 0
#define ARGUMENT_PIECES 1
#define ARGUMENT_BYTES 2
#define ARGUMENT_OFFSET 3

static __always_inline u32 iterator_kind(const struct iov_iter *i)
{
#ifdef HAS_ITER_TYPE /* 8cd54c1c8480 (5.14): before it the direction was in the kind */
	return i->iter_type;
#else
	return i->type & ~1;
#endif
}

static __always_inline u64 iterator_list(const struct iov_iter *i)
{
#ifdef HAS_ITER_UNDERSCORED /* de4f5fed3f23 (6.4) */
	return (u64)i->__iov;
#else
	return (u64)i->iov;
#endif
}

/* Note where a call's bytes lie, before the call advances its iterator. */
static __always_inline void take_iterator(struct call *call, struct msghdr *message, u64 bytes)
{
	struct iov_iter i = {};
	struct iovec piece = {};
	u32 kind;

	READ(i, message->msg_iter);
	kind = iterator_kind(&i);
	call->number = BYTES_UNSEEN;
	call->arguments[ARGUMENT_BYTES] = bytes;
	call->arguments[ARGUMENT_AT] = iterator_list(&i);
#ifdef HAS_ITER_UBUF /* fcb14cb1bdac (6.0) */
	if (kind == ITER_UBUF) {
		call->number = BYTES_PLAIN;
		call->arguments[ARGUMENT_AT] = (u64)i.ubuf + i.iov_offset;
		return;
	}
#endif
	if (kind == ITER_KVEC)
		call->number = BYTES_LISTED_KERNEL;
	else if (kind == ITER_IOVEC)
		call->number = BYTES_LISTED;
	else
		return;
	call->arguments[ARGUMENT_PIECES] = i.nr_segs;
	call->arguments[ARGUMENT_OFFSET] = i.iov_offset;
	if (kind == ITER_IOVEC && i.nr_segs == 1 &&
	    !read_kernel(&piece, sizeof(piece), iterator_list(&i))) {
		call->number = BYTES_PLAIN;
		call->arguments[ARGUMENT_AT] = (u64)piece.iov_base + i.iov_offset;
	}
}

static __always_inline void locate(struct span_of_bytes *s, u64 number, const u64 *arguments)
{
	u64 offset = arguments[ARGUMENT_OFFSET];

	if (number == BYTES_PLAIN) {
		s->base = arguments[ARGUMENT_AT];
		s->length = s->left;
	} else if (number == BYTES_UNSEEN) {
		s->opaque = 1;
	} else {
		s->memory = number == BYTES_LISTED ? MEMORY_USER_LISTED : MEMORY_KERNEL;
		s->iov = arguments[ARGUMENT_AT];
		s->iov_count = arguments[ARGUMENT_PIECES];
		if (offset && next_piece(s)) {
			s->base += offset;
			s->length -= offset;
		}
	}
}

static __always_inline u64 bytes_given(const struct call *call)
{
	return call->arguments[ARGUMENT_BYTES];
}

static __always_inline u64 bytes_received(const struct work *w, u64 number)
{
	return w->moved;
}
