/* Stands in for kernel.h and maps.h, so that cc builds contract.h, state.h, http1.h, pair.h, framing.h, spans.h and stream.h as they are.
 * The maps are arrays of fixed size, the caller and the ids are fixed, and user memory is plain memory. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/uio.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t s64;

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif
#define min_u64(a, b) ((a) < (b) ? (a) : (b))
#define OPAQUE(x) ((void)(x))
#define BOUND(x, mask) ((x) &= (mask))
#define FORGET() __asm__ volatile("" : : : "memory")
#define AF_UNIX_ 1
#define KEEP_FORWARDED 1
#define ETIMEDOUT_ 110

#include "contract.h"
#include "http1_states.h"
#include "joins_state.h"
#include "tls_state.h"
#include "state.h"

#define SLOTS 256
#define RECORDS_MAX 1024

struct slot {
	struct exchange_key key;
	struct exchange exchange;
	bool used;
};

static struct {
	struct slot slots[SLOTS];
	struct record records[RECORDS_MAX];
	u64 counters[COUNTERS];
	u32 slots_max;
	u32 slots_end; /* no slot from here on was used since the last reset */
	u32 records_max;
	u32 recorded;
	u64 next_id;
	bool refuse; /* what admitted() answers */
} world;

static inline long bpf_probe_read_kernel(void *to, u64 bytes, const void *from)
{
	memcpy(to, from, bytes);
	return 0;
}

#ifndef CHECK_READ
#define CHECK_READ(from, bytes)
#endif

/* Address 0, and what follows it, stands for memory that cannot be read. */
static inline long read_user(void *to, u64 bytes, u64 from)
{
	if (from < 1 << 20)
		return -14;
	CHECK_READ(from, bytes);
	memcpy(to, (const void *)from, bytes);
	return 0;
}

static inline void count_many(u32 which, u64 n)
{
	world.counters[which] += n;
}

static inline void count(u32 which)
{
	count_many(which, 1);
}

static inline long emit(struct record *r)
{
	if (world.recorded >= world.records_max)
		return -11;
	world.records[world.recorded++] = *r;
	return 0;
}

static struct slot *slot_of(const struct exchange_key *key)
{
	for (u32 i = 0; i < world.slots_end; i++)
		if (world.slots[i].used && world.slots[i].key.connection == key->connection &&
		    world.slots[i].key.index == key->index)
			return &world.slots[i];
	return 0;
}

static inline struct exchange *exchange_get(struct exchange_key *key)
{
	struct slot *slot = slot_of(key);

	return slot ? &slot->exchange : 0;
}

static inline struct exchange *exchange_new(struct exchange_key *key)
{
	if (slot_of(key))
		return 0;
	for (u32 i = 0; i < world.slots_max; i++) {
		struct slot *slot = &world.slots[i];

		if (slot->used)
			continue;
		memset(slot, 0, sizeof(*slot));
		slot->key = *key;
		slot->used = true;
		if (i >= world.slots_end)
			world.slots_end = i + 1;
		return &slot->exchange;
	}
	return 0;
}

static inline void exchange_drop(struct exchange_key *key)
{
	struct slot *slot = slot_of(key);

	if (slot)
		slot->used = false;
}

/* Forget all but the records' and exchanges' bytes, which nobody looks at before they are written. */
static inline void reset_world(void)
{
	for (u32 i = 0; i < world.slots_end; i++)
		world.slots[i].used = false;
	memset(world.counters, 0, sizeof(world.counters));
	world.slots_max = SLOTS;
	world.slots_end = 0;
	world.records_max = RECORDS_MAX;
	world.recorded = 0;
	world.next_id = 0;
	world.refuse = false;
}

static inline void fill_caller(struct record *r)
{
	r->tgid = 1000;
	r->tid = 1001;
	memcpy(r->comm, "harness", 8);
}

static inline u64 random64(void)
{
	return ++world.next_id;
}

static inline bool process_wanted(void)
{
	return true;
}

static inline bool admitted(struct connection *c)
{
	return c && !world.refuse;
}
