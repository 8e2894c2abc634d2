/* Copies of a program. Where the kernel may put a program aside for another thread's, it skips all
 * runs of that program on the same processor meanwhile. There several copies of each are attached,
 * and whichever runs first does the work; those after it find it done. */
#pragma once

/* Which copy this is: user space puts the number in the place of this one (ringspan.probe.load). */
static __always_inline u8 this_copy(void)
{
	u64 number = 0;

#ifdef COPIES
	asm volatile("%0 = 0x2e0b5eed" : "=r"(number));
#endif
	return number;
}

/* Has an earlier copy seen this event, whose number is kept in `by`? Copies run in order: what was
 * kept by this one or a later is of an earlier event. */
static __always_inline bool seen_by_copy(u8 *by)
{
#ifdef COPIES
	u8 copy = this_copy();
	bool earlier = *by < copy;

	*by = copy;
	return earlier;
#else
	return false;
#endif
}
