/* The parsing and pairing of ringspan's BPF program as a shared library for unit tests: one connection at a time. */
#include "drive.h"

static struct connection connection;

void harness_load(const u8 *table)
{
	memcpy(automaton.next, table, sizeof(automaton.next));
}

u32 harness_record_bytes(void)
{
	return sizeof(struct record);
}

void harness_open(u32 role, u32 born)
{
	memset(&work, 0, sizeof(work));
	reset_world();
	open_connection(&connection, 0x5eed, role, born);
}

/* Fill the tables up before the test: how many exchanges and records fit, and whether traffic is asked for. */
void harness_limit(u32 exchanges, u32 records, u32 refuse)
{
	world.slots_max = min_u64(exchanges, SLOTS);
	world.records_max = min_u64(records, RECORDS_MAX);
	world.refuse = refuse;
}

u32 harness_call(const struct given *given, u32 count_given, u64 now, u32 ended, u32 error)
{
	return move_bytes(&connection, given, count_given, now, (struct met){ended, error});
}

void harness_error(u32 error)
{
	meet_error(&connection, error);
}

void harness_end(u32 ending, u64 now)
{
	end_connection(&connection, ending, now);
}

u32 harness_recorded(void)
{
	return world.recorded;
}

void harness_records(struct record *to, u32 count_wanted)
{
	memcpy(to, world.records, count_wanted * sizeof(*to));
}

void harness_counters(u64 *to)
{
	memcpy(to, world.counters, sizeof(world.counters));
}

u32 harness_in_flight(void)
{
	return exchanges_in_flight();
}

u32 harness_is_off(void)
{
	return connection.off;
}
