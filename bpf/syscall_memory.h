/* Where the bytes of a system call lie, by its number and arguments. */
#pragma once

#define PIECES_MAX 16 /* iovecs that a helper adds up */

/* Where the bytes of a call lie, by its number. */
static __always_inline void locate(struct span_of_bytes *s, u64 number, const u64 *arguments)
{
	struct user_msghdr message = {};

	if (number == SYS_READ || number == SYS_WRITE || number == SYS_SENDTO ||
	    number == SYS_RECVFROM) {
		s->base = arguments[1];
		s->length = s->left;
	} else if (number == SYS_READV || number == SYS_WRITEV || number == SYS_PREADV2 ||
		   number == SYS_PWRITEV2) {
		s->iov = arguments[1];
		s->iov_count = arguments[2];
	} else if (number == SYS_SENDMSG || number == SYS_RECVMSG) {
		read_user(&message, sizeof(message), arguments[1]);
		s->iov = (u64)message.msg_iov;
		s->iov_count = message.msg_iovlen;
	} else if (number == SYS_SENDMMSG || number == SYS_RECVMMSG) {
		s->messages = arguments[1];
		s->message_count = s->left;
		s->left = 0;
	} else {
		s->opaque = 1;
	}
}

/* All bytes that a call was given; 0 if they are in too many pieces to add up here. */
static __always_inline u64 bytes_given(const struct call *call)
{
	struct span_of_bytes s = {};
	u64 sum = 0;
	int i;

	locate(&s, call->number, call->arguments);
	if (s.base)
		return call->arguments[2];
#pragma nounroll
	for (i = 0; i < PIECES_MAX; i++) {
		if (!next_piece(&s))
			break;
		sum += s.length;
	}
	return s.iov_count ? 0 : sum;
}

/* How many bytes a receive has moved. */
static __always_inline u64 bytes_received(const struct work *w, u64 number)
{
	struct mmsghdr_user message = {};
	u64 sum = 0;
	int i;

	if (number != SYS_RECVMMSG)
		return w->moved;
#pragma nounroll
	for (i = 0; i < PIECES_MAX; i++) {
		if (i >= w->moved)
			break;
		read_user(&message, sizeof(message), w->call.arguments[1] + i * sizeof(message));
		sum += message.bytes;
	}
	return sum;
}
