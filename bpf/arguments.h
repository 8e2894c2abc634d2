/* Of a function of the kernel: its arguments and its result, at its entry and its return. */
#pragma once

/* Arguments and result, as a trampoline (fentry, fexit) or a breakpoint (kprobe) hands them on. The
 * former are copied: the verifier forbids sums with what it knows to be pointers. */
#ifdef CAPTURE_FENTRY
#define CONTEXT u64
#define TAKE_ARGUMENTS(to, ctx) bpf_probe_read_kernel(to, sizeof(to), ctx)

/* What a function has returned stands after its arguments, and user space tells how many there are.
 * The compiler is not to make a sum with the context of it. */
#define RESULT_AFTER(result, arguments, count, ctx) \
	if ((arguments) == (count))                 \
	asm volatile("%0 = *(u64 *)(%1 + %2)" : "=r"(result) : "r"(ctx), "i"((count) * 8))

static __always_inline s64 result_of(u64 *ctx)
{
	u64 arguments = number_here(), result = 0;

	RESULT_AFTER(result, arguments, 2, ctx);
	RESULT_AFTER(result, arguments, 3, ctx);
	RESULT_AFTER(result, arguments, 4, ctx);
	RESULT_AFTER(result, arguments, 5, ctx);
	RESULT_AFTER(result, arguments, 6, ctx);
	return (s32)result;
}
#else
#define CONTEXT struct pt_regs
#define TAKE_ARGUMENTS(to, ctx) take_registers(to, sizeof(to) / 8, ctx)
#if defined(RINGSPAN_X86_64)
#define RESULT_REGISTER ax
#define PARAMETERS di, si, dx, cx, r8, r9
#else
#define RESULT_REGISTER regs[0]
#define PARAMETERS regs[0], regs[1], regs[2], regs[3], regs[4], regs[5]
#endif
#define COPY_REGISTERS(to, count, ctx, a, b, c, d, e, f) \
	(to)[0] = (ctx)->a;                              \
	if ((count) > 1)                                 \
		(to)[1] = (ctx)->b;                      \
	if ((count) > 2)                                 \
		(to)[2] = (ctx)->c;                      \
	if ((count) > 3)                                 \
		(to)[3] = (ctx)->d;                      \
	if ((count) > 4)                                 \
		(to)[4] = (ctx)->e;                      \
	if ((count) > 5)                                 \
	(to)[5] = (ctx)->f
#define COPY_REGISTERS_(to, count, ctx, names) COPY_REGISTERS(to, count, ctx, names)

static __always_inline void take_registers(u64 *to, int count, struct pt_regs *ctx)
{
	COPY_REGISTERS_(to, count, ctx, PARAMETERS);
}

static __always_inline s64 result_of(struct pt_regs *ctx)
{
	return (s32)ctx->RESULT_REGISTER;
}
#endif
