/* A valid exchange on another connection, moved in parts between whatever the hostile one moves: it must come out as if it
 * were alone. */
#pragma once

#define VALID_INODE 0x7a11d
#define VALID_FD 1
#define PARTS_MAX 8
#define EXPECTED_MAX 4

struct part {
	u8 is_response;
	const char *data;
};

struct expected {
	const char *method;
	const char *target;
	u16 status;
	u16 request_body;
	u16 response_body;
};

struct scenario {
	struct part parts[PARTS_MAX];
	struct expected records[EXPECTED_MAX];
};

static const struct scenario scenarios[] = {
	{
		{{0, "GET /valid?q=1 HTTP/1.1\r\nHost: valid.example\r\nCookie: secret\r\n\r\n"},
		 {1, "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nvalid answer"},
		 {0, "HEAD /valid HTTP/1.1\r\nHost: valid.example\r\n\r\n"},
		 {1, "HTTP/1.1 404 Not Found\r\nContent-Length: 99\r\n\r\n"}},
		{{"GET", "/valid?q=1", 200, 0, 12}, {"HEAD", "/valid", 404, 0, 0}},
	},
	{
		{{0, "POST /valid HTTP/1.1\r\nHost: valid.example\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n"
		     "GET /next HTTP/1.1\r\nHost: valid.example\r\n\r\n"},
		 {1, "HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nhi"
		     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n"}},
		{{"POST", "/valid", 201, 15, 2}, {"GET", "/next", 200, 0, 3}},
	},
	{
		{{0, "PUT /valid HTTP/1.1\r\nHost: valid.example\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"},
		 {1, "HTTP/1.1 100 Continue\r\n\r\n"},
		 {0, "GET "},
		 {1, "HTTP/1.1 204 No Content\r\n\r\n"},
		 {0, "GET /valid HTTP/1.1\r\nHost: valid.example\r\n\r\n"},
		 {1, "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"}},
		{{"PUT", "/valid", 204, 4, 0}, {"GET", "/valid", 304, 0, 0}},
	},
};
#define SCENARIOS (sizeof(scenarios) / sizeof(scenarios[0]))

static struct {
	struct talk talk;
	const struct scenario *scenario;
	u32 part;
	u32 offset;
} valid;

static void begin_valid(u32 choice)
{
	valid.scenario = &scenarios[(choice >> 1) % SCENARIOS];
	valid.part = 0;
	valid.offset = 0;
	valid.talk.family = AF_INET_;
	begin_talk(&valid.talk, VALID_FD, VALID_INODE, choice & 1 ? ROLE_CLIENT : ROLE_SERVER);
}

static bool valid_goes_on(void)
{
	return valid.part < PARTS_MAX && valid.scenario->parts[valid.part].data;
}

/* Move so many bytes of it, no further than the turn's end; in iovecs of so many. */
static void advance_valid(u32 bytes, u32 piece)
{
	const struct part *part = &valid.scenario->parts[valid.part & (PARTS_MAX - 1)];
	struct manner how = {.piece = piece};
	u32 left;

	if (!valid_goes_on())
		return;
	left = strlen(part->data) - valid.offset;
	bytes = min_u64(bytes, left);
	cpu.thread = valid.talk.thread;
	move_by(&valid.talk, part->is_response == (valid.talk.role == ROLE_SERVER), (const u8 *)part->data + valid.offset, bytes, &how);
	valid.offset += bytes;
	if (bytes == left) {
		valid.part++;
		valid.offset = 0;
	}
}

static bool text_is(const char *text, u32 bytes, const char *wanted)
{
	return bytes == strlen(wanted) && same((const u8 *)text, wanted, bytes);
}

static void check_valid_record(const struct record *r)
{
	const struct expected *e = &valid.scenario->records[valid.talk.records & (EXPECTED_MAX - 1)];

	check_record(&valid.talk, r);
	CHECK(e->method);
	CHECK(text_is(r->method, r->method_bytes, e->method));
	CHECK(text_is(r->target, r->target_bytes, e->target));
	CHECK(text_is(r->host, r->host_bytes, "valid.example"));
	CHECK(r->status == e->status);
	CHECK(r->request_body_bytes == e->request_body);
	CHECK(r->response_body_bytes == e->response_body);
	CHECK(r->failure == FAILURE_NONE && !r->truncated && !r->error_number);
	CHECK(r->role == valid.talk.role);
	valid.talk.records++;
}

/* All of it has been moved: all its records have come. */
static void check_valid_whole(void)
{
	talking = &valid.talk;
	CHECK(valid.talk.records == EXPECTED_MAX || !valid.scenario->records[valid.talk.records].method);
}
