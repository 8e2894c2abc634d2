/* The fuzz input, played on a connection: text, and between the calls a byte 0xff with an operation's byte after it. An
 * operation ends the call before it. So HTTP stays HTTP under any mutation, and a call may be cut by inserting two bytes. */
#pragma once

#define MARK 0xff
#define HOSTILE_IDENTITY 0x1000000
#define IDLE_NS 30000000ULL

/* The first byte of an input. */
enum setting {
	SETTING_CLIENT = 1, /* this side is the client's */
	SETTING_PICKED_UP = 2, /* not seen from its first byte */
	SETTING_UNSURE = 4, /* which side this is, is not known */
	SETTING_REFUSED = 8,
	SETTING_UNIX = 16,
	SETTING_FEW_PLACES = 32,
	SETTING_NO_PLACE = 64,
	SETTING_RING_FULL = 128,
};

/* What an operation's byte says, by its upper half. */
enum operation {
	OP_CALL = 0, /* begin a call: 1 response, 2 in iovecs, 4 small ones, 8 as messages */
	OP_ODD_CALL = 1, /* begin a call: 1 response, 2 opaque, 4 unreadable, 8 the stream ends with it */
	OP_REPEAT = 2, /* begin a call whose bytes stand there 2^n times: 1 response, else n */
	OP_WAIT = 3, /* 2^n times 10 ns, or 30 ms and more */
	OP_EVENT = 4,
	OP_VALID = 5, /* the valid exchange goes on by so many bytes */
	OP_VALID_FAR = 6,
	OP_RUN = 7, /* text: 2^n times the byte before, in the same call */
};

enum event {
	EVENT_FIN = 0,
	EVENT_STREAM_ENDS,
	EVENT_SHUTDOWN,
	EVENT_RECEIVE_RESET,
	EVENT_RECEIVE_TIMES_OUT,
	EVENT_SEND_FAILS,
	EVENT_CLOSE,
	EVENT_RESET,
};

static struct {
	struct talk talk;
	u8 setting;
	u64 identity;
	u8 is_response;
	struct manner how;
	u8 ended[2]; /* no byte can follow in this direction */
	u32 bytes;
	u8 data[STREAM_MAX];
} hostile;

static void open_hostile(u8 setting)
{
	u32 role = setting & SETTING_CLIENT ? ROLE_CLIENT : ROLE_SERVER;

	hostile.setting = setting;
	hostile.identity++;
	hostile.is_response = 0;
	memset(hostile.ended, 0, sizeof(hostile.ended));
	begin_talk(&hostile.talk, hostile.identity, setting & SETTING_UNSURE ? ROLE_UNKNOWN : role, !(setting & SETTING_PICKED_UP));
	hostile.talk.refused = setting & SETTING_REFUSED;
	if (setting & SETTING_UNIX)
		hostile.talk.connection.head.family = hostile.talk.family = AF_UNIX_;
}

/* The tables are full, and the traffic not asked for, for the hostile connection alone. */
static void limit(void)
{
	world.refuse = hostile.setting & SETTING_REFUSED;
	if (hostile.setting & SETTING_NO_PLACE)
		world.slots_max = 0;
	else if (hostile.setting & SETTING_FEW_PLACES)
		world.slots_max = 3;
	world.records_max = hostile.setting & SETTING_RING_FULL ? 1 : RECORDS_MAX;
}

static void unlimit(void)
{
	world.refuse = false;
	world.slots_max = SLOTS;
	world.records_max = RECORDS_MAX;
}

/* Hold what has come against what was moved. */
static void take_records(void)
{
	for (u32 i = 0; i < world.recorded; i++) {
		const struct record *r = checked = &world.records[i];

		if (r->socket_inode == VALID_IDENTITY) {
			check_valid_record(r);
		} else {
			CHECK(r->socket_inode == hostile.identity);
			check_record(&hostile.talk, r);
		}
	}
	world.recorded = 0;
	checked = 0;
	talking = &hostile.talk;
	check_ledger();
}

/* The automaton is a table, of which the compiler's own counters tell nothing: where calls leave each direction, and what
 * was counted, are told apart by these. */
__attribute__((section("__libfuzzer_extra_counters"))) static u8 reached[2048];

static void note_reached(void)
{
	const struct connection *c = &hostile.talk.connection;

	for (u32 i = 0; i < 2; i++) {
		const struct direction *d = &c->directions[i];
		u32 is_response = (c->role == ROLE_CLIENT) == (i == INGRESS);

		reached[is_response << 8 | d->state] = 1;
		reached[512 + (is_response << 8 | d->phase << 4 | d->coding << 2 | d->has_length << 1 | d->bad_length)] = 1;
		reached[1024 + (is_response << 8 | d->phase << 4 | !!c->desync_ns << 3 | !!outstanding(c) << 2 | c->role)] = 1;
	}
	for (u32 i = 0; i < COUNTERS; i++)
		reached[1536 + i * 8 + min_u64(world.counters[i], 7)] = 1;
	reached[1800 + (c->off << 4 | c->pipelined << 3 | c->response_begun << 2 | c->role_known)] = 1;
}

/* The call that was begun has all its bytes. */
static void end_call(void)
{
	u32 direction = hostile.is_response == !(hostile.setting & SETTING_CLIENT);

	limit();
	if (!hostile.ended[direction]) {
		hostile.ended[direction] = hostile.how.ends;
		move_by(&hostile.talk, direction, hostile.data, hostile.bytes, &hostile.how);
	}
	unlimit();
	note_reached();
	take_records();
	hostile.bytes = 0;
	memset(&hostile.how, 0, sizeof(hostile.how));
}

static void end_hostile(u32 ending)
{
	hostile.ended[EGRESS] |= ending != ENDING_PEER_FIN;
	now_ns += 10;
	limit();
	end_connection(&hostile.talk.connection, ending, now_ns);
	unlimit();
	take_records();
	if (ending >= ENDING_CLOSE)
		check_gone(hostile.identity);
}

/* A receive of no bytes. */
static void receive_nothing(struct met met)
{
	hostile.ended[INGRESS] = 1;
	now_ns += 10;
	limit();
	move_bytes(&hostile.talk.connection, 0, 0, now_ns, met);
	unlimit();
	take_records();
}

static void happen(u32 event)
{
	if (event == EVENT_FIN || event == EVENT_STREAM_ENDS)
		end_hostile(ENDING_PEER_FIN);
	if (event == EVENT_STREAM_ENDS)
		receive_nothing((struct met){.ended = 1});
	if (event == EVENT_SHUTDOWN)
		end_hostile(ENDING_SHUTDOWN);
	if (event == EVENT_RECEIVE_RESET || event == EVENT_RECEIVE_TIMES_OUT)
		receive_nothing((struct met){.error = event == EVENT_RECEIVE_RESET ? 104 : ETIMEDOUT_});
	if (event == EVENT_SEND_FAILS)
		meet_error(&hostile.talk.connection, 104);
	if (event == EVENT_CLOSE || event == EVENT_RESET) {
		end_hostile(event == EVENT_CLOSE ? ENDING_CLOSE : ENDING_RESET);
		open_hostile(hostile.setting);
	}
}

static void begin_call(u32 operation, u32 n)
{
	hostile.is_response = n & 1;
	if (operation == OP_CALL) {
		hostile.how.piece = n & 2 ? (n & 4 ? 1 : 61) : 0;
		hostile.how.as_messages = n & 2 && n & 8;
	} else if (operation == OP_ODD_CALL) {
		hostile.how.opaque = !!(n & 2);
		hostile.how.unreadable = !!(n & 4);
		hostile.how.ends = n & 8 && hostile.is_response == !!(hostile.setting & SETTING_CLIENT);
	} else {
		hostile.how.repeated = 1 << (n >> 1);
	}
}

static void repeat_byte(u32 n)
{
	u32 times = min_u64(1U << n, STREAM_MAX - hostile.bytes);

	if (hostile.bytes && times) {
		memset(hostile.data + hostile.bytes, hostile.data[hostile.bytes - 1], times);
		hostile.bytes += times;
	}
}

static void operate(u8 byte)
{
	u32 operation = (byte >> 4) & 7, n = byte & 15;

	if (operation == OP_RUN) {
		repeat_byte(n & 11);
		return;
	}
	end_call();
	if (operation <= OP_REPEAT)
		begin_call(operation, n);
	else if (operation == OP_WAIT)
		now_ns += n < 12 ? 10U << n : (n - 11) * IDLE_NS;
	else if (operation == OP_EVENT)
		happen(n & 7);
	else
		advance_valid(operation == OP_VALID ? n + 1 : 30 * (n + 1), n & 1 ? 1 + n : 0);
	take_records();
}

static void play_hostile(const u8 *data, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++) {
		if (data[i] == MARK && i + 1 < bytes)
			operate(data[++i]);
		else if (hostile.bytes < STREAM_MAX)
			hostile.data[hostile.bytes++] = data[i];
	}
	end_call();
}
