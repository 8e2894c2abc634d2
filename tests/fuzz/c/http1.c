/* libFuzzer's target: a hostile connection beside a valid one, through the parsing and pairing of bpf/. See build.py. */
#define _GNU_SOURCE
#include <stdint.h>

static void wrong(const char *what, int line);
static _Bool may_read(uint64_t from, uint64_t bytes);
#define CHECK_READ(from, bytes)                                     \
	do {                                                        \
		if (!may_read(from, bytes))                         \
			wrong("a call reads its own bytes", __LINE__); \
	} while (0)

#include "drive.h"
#include "table.h"

#include "talk.h"
#include "check.h"
#include "valid.h"
#include "hostile.h"
#include "mutate.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	memcpy(automaton.next, TABLE, sizeof(automaton.next));
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	if (bytes < 2)
		return 0;
	reset_world();
	now_ns = 1000;
	hostile.identity = HOSTILE_IDENTITY;
	open_hostile(data[0]);
	begin_valid(data[1]);
	play_hostile(data + 2, bytes - 2);
	while (valid_goes_on())
		advance_valid(STREAM_MAX, 0);
	take_records();
	check_valid_whole();
	end_hostile(ENDING_CLOSE);
	end_connection(&valid.talk.connection, ENDING_CLOSE, now_ns + 10);
	take_records();
	check_valid_whole();
	CHECK(!exchanges_in_flight());
	return 0;
}
