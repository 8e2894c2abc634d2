/* Copies of a program. Where the kernel may put a program aside for another thread's, it skips all
 * runs of that program on the same processor meanwhile. There several copies of each are attached,
 * and whichever runs first does the work; those after it find it done. */
#pragma once

/* The bit of this copy: user space puts it in the place of this number (ringspan.probe.load). */
static __always_inline u8 this_copy(void)
{
	u64 bit = 0;

#ifdef COPIES
	asm volatile("%0 = 0x2e0b5eed" : "=r"(bit));
#endif
	return bit;
}

/* The number that user space puts in this one's place, each time it loads the program for another
 * function (ringspan.probe.attach). */
static __always_inline u64 number_here(void)
{
	u64 number;

	asm volatile("%0 = 0x746c7366756e6374 ll" : "=r"(number));
	return number;
}

/* Has another copy seen this event? `seen` has the bits of those that have: if this one's is among
 * them, it is of an earlier event. */
static __always_inline bool seen_by_copy(u8 *seen)
{
#ifdef COPIES
	u8 bit = this_copy();

	if (*seen & bit) {
		*seen = bit;
		return false;
	}
	*seen |= bit;
	return true;
#else
	return false;
#endif
}
