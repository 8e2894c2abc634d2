/* Mutations that know the input's form: calls and whole messages, beside libFuzzer's own of bytes and dictionary words. */
#pragma once

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

static const char *const MESSAGES[] = {
	"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
	"HEAD /h HTTP/1.0\r\n\r\n",
	"CONNECT a:1 HTTP/1.1\r\n\r\n",
	"POST /p HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
	"PUT /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
	"GET /t HTTP/1.1\r\ntraceparent: a\r\ntracestate: b=1\r\ntracestate: c\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
	"HTTP/1.1 201 OK\r\nContent-Length: 0\r\n\r\n",
	"HTTP/1.1 204 OK\r\n\r\n",
	"HTTP/1.1 100 Continue\r\n\r\n",
	"HTTP/1.1 101 Up\r\n\r\n",
	"HTTP/1.1 200 OK\r\n\r\nuntil close",
	"HTTP/1.1 502 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
};

static u32 chance_state;

static u32 chance(u32 of)
{
	chance_state = chance_state * 1664525 + 1013904223;
	return of ? (chance_state >> 8) % of : 0;
}

static size_t insert(u8 *data, size_t size, size_t max_size, const void *what, size_t bytes)
{
	size_t at = size ? 2 + chance(size - 1) : 0;

	if (size < 2 || size + bytes > max_size)
		return size;
	at = min_u64(at, size);
	memmove(data + at + bytes, data + at, size - at);
	memcpy(data + at, what, bytes);
	return size + bytes;
}

static size_t insert_operation(u8 *data, size_t size, size_t max_size)
{
	u8 operation[2] = {MARK, chance(128)};

	if (chance(2)) /* most of all, cuts and turns */
		operation[1] &= 1;
	return insert(data, size, max_size, operation, 2);
}

static size_t insert_message(u8 *data, size_t size, size_t max_size)
{
	u32 which = chance(sizeof(MESSAGES) / sizeof(MESSAGES[0]));
	u8 call[2 + 160] = {MARK, which > 5};
	size_t bytes = strlen(MESSAGES[which]);

	memcpy(call + 2, MESSAGES[which], bytes);
	return insert(data, size, max_size, call, bytes + 2);
}

/* Where a call begins, its operation's byte and all; the end if there is none. */
static size_t find_call(const u8 *data, size_t size, size_t from)
{
	while (from + 1 < size && data[from] != MARK)
		from++;
	return from + 1 < size ? from : size;
}

/* Drop a call, or say it again elsewhere. */
static size_t drop_or_copy_call(u8 *data, size_t size, size_t max_size)
{
	size_t from = find_call(data, size, chance(size)), to;
	u8 copy[512];

	if (from >= size)
		return size;
	to = find_call(data, size, from + 2);
	if (chance(2)) {
		memmove(data + from, data + to, size - to);
		return size - (to - from);
	}
	if (to - from > sizeof(copy))
		return size;
	memcpy(copy, data + from, to - from);
	return insert(data, size, max_size, copy, to - from);
}

static size_t change_operation(u8 *data, size_t size)
{
	size_t at = find_call(data, size, chance(size));

	if (at < size)
		data[at + 1] = chance(2) ? data[at + 1] ^ 1 : chance(128);
	return size;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
	chance_state = seed;
	switch (chance(10)) {
	case 0:
	case 1:
		return insert_operation(data, size, max_size);
	case 2:
		return insert_message(data, size, max_size);
	case 3:
		return drop_or_copy_call(data, size, max_size);
	case 4:
		return change_operation(data, size);
	}
	return LLVMFuzzerMutate(data, size, max_size);
}
