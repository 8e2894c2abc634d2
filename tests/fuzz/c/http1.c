/* libFuzzer's target: a hostile connection beside a valid one, by system calls, through the whole program of bpf/. See run.py. */
#define _GNU_SOURCE
#include "fake_kernel.h"

#include "syscall.bpf.c"

#include "table.h"
/* What follows is not what is tested: its own branches are no finds. */
#pragma clang attribute push(__attribute__((no_sanitize("coverage"))), apply_to = function)
#include "machine.h"
#include "talk.h"
#include "check.h"
#include "valid.h"
#include "hostile.h"
#include "operations.h"
#include "mutate.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	memcpy(automata_values[0].next, TABLE, sizeof(TABLE));
	return 0;
}

static void close_valid(void)
{
	struct sock *sk = sock_of(&valid.talk);

	sk->sk_shutdown = SHUTDOWN_MASK_;
	cpu.thread = valid.talk.thread;
	change_state(sk, TCP_ESTABLISHED_, TCP_FIN_WAIT1_);
	destroy_socket(sk);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	if (bytes < 2)
		return 0;
	boot();
	hostile.inode = HOSTILE_INODE;
	hostile.lingers = 0;
	open_hostile(data[0]);
	begin_valid(data[1]);
	play_hostile(data + 2, bytes - 2);
	while (valid_goes_on())
		advance_valid(STREAM_MAX, 0);
	take_records();
	check_valid_whole();
	end_hostile(EVENT_CLOSE);
	close_valid();
	take_records();
	check_valid_whole();
	check_all_gone();
	return 0;
}
#pragma clang attribute pop
