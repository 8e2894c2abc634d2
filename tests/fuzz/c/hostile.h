/* The hostile connection: what is set for it, the calls that are made on it, and what came of them. */
#pragma once

#define HOSTILE_INODE 0x1000000
#define HOSTILE_FD 0
#define HELPER THREAD(3)

/* The first byte of an input. */
enum setting {
	SETTING_CLIENT = 1, /* this side is the client's */
	SETTING_PICKED_UP = 2, /* older than the trace */
	SETTING_UNANSWERED = 4, /* ... and something on it had no answer yet */
	SETTING_REFUSED = 8, /* the other role is asked for */
	SETTING_UNIX = 16,
	SETTING_FEW_PLACES = 32,
	SETTING_THREADS = 64, /* descriptors are shared: they may change under a call */
	SETTING_RING_FULL = 128,
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
	EVENT_SEND_LINGERS, /* the next send is still inside its call when others are made, all of it written, */
	EVENT_SEND_LINGERS_HALF, /* or half of it, */
	EVENT_SEND_LINGERS_ELSEWHERE, /* or in another process */
	EVENT_SEND_RETURNS,
	EVENT_SEND_RETURNS_SHORT,
	EVENT_OTHER_PROCESS, /* one that is not asked for makes the calls from here on */
	EVENT_SAME_PROCESS,
	EVENT_DISCONNECT,
};

static struct {
	struct talk talk;
	u8 setting;
	u64 inode;
	u64 maker; /* the thread that makes the calls */
	u8 is_response;
	struct manner how;
	u8 ended[2]; /* no byte can follow in this direction */
	u8 linger; /* which of EVENT_SEND_LINGERS.. the next send is */
	u8 lingers; /* a send is inside its call */
	u64 sender; /* ... of this thread */
	struct pt_regs lingering;
	s64 result; /* of it */
	struct moved *lingered; /* what it has moved, or will */
	u32 bytes;
	u8 data[STREAM_MAX];
} hostile;

static void open_hostile(u8 setting)
{
	u32 role = setting & SETTING_CLIENT ? ROLE_CLIENT : ROLE_SERVER;
	struct sock *sk = &socks[HOSTILE_FD];

	hostile.setting = setting;
	hostile.inode++;
	hostile.maker = THREAD(HOSTILE_FD);
	hostile.is_response = 0;
	hostile.linger = 0;
	memset(hostile.ended, 0, sizeof(hostile.ended));
	hostile.talk.family = setting & SETTING_UNIX ? AF_UNIX_ : AF_INET_;
	all_files.count = setting & SETTING_THREADS ? 2 : 1;
	begin_talk(&hostile.talk, HOSTILE_FD, hostile.inode, setting & SETTING_PICKED_UP ? ROLE_UNKNOWN : role);
	sk->bytes_sent = 100;
	sk->bytes_received = setting & SETTING_UNANSWERED ? 0 : 100;
	sk->lsndtime = !!(setting & SETTING_UNANSWERED);
}

/* The tables are full, and the traffic not asked for, for the hostile connection alone. */
static void limit(void)
{
	if (hostile.setting & SETTING_REFUSED)
		cpu.wanted_role = hostile.setting & SETTING_CLIENT ? ROLE_SERVER : ROLE_CLIENT;
	if (hostile.setting & SETTING_FEW_PLACES)
		exchanges_map.max = 3;
	if (hostile.setting & SETTING_RING_FULL)
		cpu.records_max = 1;
	cpu.thread = hostile.maker;
}

static void unlimit(void)
{
	cpu.wanted_role = 0;
	exchanges_map.max = EXCHANGES_MAX;
	cpu.records_max = RECORDS_MAX;
}

/* Hold what has come against what was moved. */
static void take_records(void)
{
	for (u32 i = 0; i < cpu.recorded; i++) {
		const struct record *r = checked = &ring[i];

		if (r->socket_inode == VALID_INODE) {
			check_valid_record(r);
		} else {
			talking = &hostile.talk;
			CHECK(r->socket_inode == hostile.inode);
			CHECK(!(hostile.setting & SETTING_REFUSED) || (r->role == ROLE_CLIENT) == !(hostile.setting & SETTING_CLIENT));
			check_record(&hostile.talk, r);
		}
	}
	cpu.recorded = 0;
	checked = 0;
	talking = &hostile.talk;
	check_ledger();
}

/* The automaton is a table, of which the compiler's own counters tell nothing: where calls leave each direction, and what
 * was counted, are told apart by these. */
__attribute__((section("__libfuzzer_extra_counters"))) static u8 reached[2048];

static void note_reached(void)
{
	const struct connection *at = connection_of_talk(&hostile.talk);

	for (u32 i = 0; at && i < 2; i++) {
		const struct direction *d = &at->directions[i];
		u32 is_response = (at->role == ROLE_CLIENT) == (i == INGRESS);

		reached[is_response << 8 | d->state] = 1;
		reached[512 + (is_response << 8 | d->phase << 4 | d->coding << 2 | d->has_length << 1 | d->bad_length)] = 1;
		reached[1024 + (is_response << 8 | d->phase << 4 | !!at->desync_ns << 3 | !!outstanding(at) << 2 | at->role)] = 1;
	}
	for (u32 i = 0; i < COUNTERS; i++)
		reached[1536 + i * 8 + min_u64(counters_values[i], 7)] = 1;
	if (at)
		reached[1800 + (at->off << 4 | at->pipelined << 3 | at->response_begun << 2 | at->role_known)] = 1;
}

/* The send that is inside its call returns. */
static void return_send(s64 result)
{
	if (!hostile.lingers)
		return;
	hostile.lingers = 0;
	if (result < 0 && hostile.lingered)
		hostile.talk.unsent_from = hostile.lingered->from;
	limit();
	cpu.thread = hostile.sender;
	sock_of(&hostile.talk)->write_seq = hostile.talk.sent[EGRESS];
	leave(&hostile.lingering, result);
	unlimit();
	take_records();
}

/* ... with no more than was written: the rest was never sent. */
static void return_send_short(void)
{
	struct talk *t = &hostile.talk;
	u32 from = hostile.lingered ? hostile.lingered->from : 0, written = sock_of(t)->write_seq - from;

	if (!hostile.lingers || hostile.result != t->sent[EGRESS] - from || !written)
		return;
	t->sent[EGRESS] = from + written;
	hostile.lingered->to = from + written;
	return_send(written);
}

/* A send enters its call, and stays there: its bytes are on their way, all or half of them. */
static void enter_lingering(void)
{
	struct talk *t = &hostile.talk;
	struct moved *m = &t->moved[t->moved_count];
	u32 before = t->sent[EGRESS];

	if (!keep_moved(t, EGRESS, &lingering, hostile.data, hostile.bytes, hostile.how.repeated))
		return;
	m->opaque = hostile.how.opaque || hostile.how.unreadable;
	hostile.lingering = choose_call(t, &lingering, true, &hostile.how, &hostile.result);
	hostile.sender = hostile.linger == EVENT_SEND_LINGERS_ELSEWHERE ? OTHER_PROCESS(1) : HELPER;
	cpu.thread = hostile.sender;
	enter(&hostile.lingering);
	m->begin_ns = cpu.now_ns;
	sock_of(t)->write_seq = t->sent[EGRESS] - (hostile.linger == EVENT_SEND_LINGERS_HALF ? (t->sent[EGRESS] - before) / 2 : 0);
	hostile.lingered = m;
	hostile.lingers = 1;
	hostile.linger = 0;
}

/* The call that was begun has all its bytes. */
static void end_call(void)
{
	u32 direction = hostile.is_response == !(hostile.setting & SETTING_CLIENT);

	if (direction == EGRESS && hostile.bytes)
		return_send(hostile.result);
	limit();
	if (hostile.bytes && !hostile.ended[direction]) {
		if (direction == EGRESS && hostile.linger)
			enter_lingering();
		else
			move_by(&hostile.talk, direction, hostile.data, hostile.bytes, &hostile.how);
	}
	unlimit();
	note_reached();
	take_records();
	hostile.bytes = 0;
	memset(&hostile.how, 0, sizeof(hostile.how));
}
