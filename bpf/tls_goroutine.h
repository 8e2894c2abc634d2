/* Goroutines: which one runs, and the calls of crypto/tls that it is inside. It may go on in
 * another thread than it began in, and on a stack that was moved. */
#pragma once

#ifdef FOLLOW_TLS
/* Where compiled Go keeps the running goroutine (src/cmd/compile/abi-internal.md in Go's sources).
 */
#if defined(RINGSPAN_X86_64)
#define GOROUTINE_REGISTER r14
#else
#define GOROUTINE_REGISTER regs[28]
#endif

static __always_inline struct tls_call *innermost(struct tls_calls_of_goroutine *of)
{
	u32 top;

	if (!of || !of->depth)
		return 0;
	top = of->depth - 1;
	BOUND(top, TLS_DEPTH - 1);
	return &of->calls[top];
}

/* Forget calls whose return was not seen: the stack has grown over them since. */
static __always_inline void forget_overgrown(struct tls_calls_of_goroutine *of, u64 stack)
{
	int i;

#pragma unroll
	for (i = TLS_DEPTH - 1; i >= 0; i--) {
		if (of->depth == i + 1 && of->calls[i].stack <= stack)
			of->depth = i;
	}
}

/* The goroutine (struct g) at an address, and where its stack ends, which is the first it says of
 * itself: {lo, hi}. */
static __always_inline bool goroutine_at(u64 address, struct goroutine *g, u64 *stack_end)
{
	u64 bounds[2] = {};

	if (!address || read_user(bounds, sizeof(bounds), address))
		return false;
	g->address = address;
	g->process_start_ns = process_start_ns();
	g->tgid = bpf_get_current_pid_tgid() >> 32;
	*stack_end = bounds[1];
	return true;
}

/* The innermost call that the goroutine which makes this system call is inside. Its register is no
 * proof by itself, what other code keeps there may be anything; but of such a call, with the stack
 * grown from where it began, it is. */
static __always_inline struct tls_call *go_call_of_thread(void)
{
#ifdef HAS_CALL_REGISTERS
	void *regs = REGISTERS(0);
	struct goroutine g = {};
	struct tls_call *call;
	u64 stack = 0, stack_end = 0;

	REGISTER(g.address, regs, GOROUTINE_REGISTER);
	if (!g.address)
		return 0;
	g.process_start_ns = process_start_ns();
	g.tgid = bpf_get_current_pid_tgid() >> 32;
	call = innermost(go_calls.lookup(&g));
	if (!call || !goroutine_at(g.address, &g, &stack_end))
		return 0;
	REGISTER(stack, regs, sp);
	return stack < stack_end && stack - stack_end < call->stack ? call : 0;
#else
	return 0;
#endif
}
#endif
