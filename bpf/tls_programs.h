/* The programs at the functions of TLS libraries. What they go on in are programs of their kind. */
#pragma once

#ifdef FOLLOW_TLS
int on_tls_enter(struct pt_regs *ctx)
{
	if (enter_tls(ctx))
		programs.call(ctx, PROGRAM_TLS_END);
	return 0;
}

int on_tls_return(struct pt_regs *ctx)
{
	if (return_from_tls(ctx))
		programs.call(ctx, PROGRAM_LAY_OUT);
	return 0;
}

int on_go_enter(struct pt_regs *ctx)
{
	if (enter_go(ctx))
		programs.call(ctx, PROGRAM_TLS_END);
	return 0;
}

int on_go_return(struct pt_regs *ctx)
{
	if (return_from_go(ctx))
		programs.call(ctx, PROGRAM_LAY_OUT);
	return 0;
}

int on_tls_end(struct pt_regs *ctx)
{
	use_own_stack(ctx);
	session_end();
	return 0;
}
#endif
