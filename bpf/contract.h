/* What crosses the ring and the shared maps: the only definition; Python derives its dtypes from
 * it. Only `#define NAME number`, enums, and structs of u8..u64, char, arrays: no pointer, bool,
 * bitfield, union or packed. Padding is spelled _pad. See docs/design.md. */
#pragma once

#define CONTRACT_VERSION 3

/* How much of each text is kept; what is cut is named in record.truncated. */
#define TARGET_MAX 640
#define TRACESTATE_MAX 256
#define HOST_MAX 256
#define USER_AGENT_MAX 192
#define FORWARDED_MAX 192
#define TRACEPARENT_MAX 64
#define METHOD_MAX 32
#define UNIX_PATH_MAX 108

/* How much is kept of what a process was begun with. */
#define ARGUMENTS_MAX 1024
#define ENVIRONMENT_MAX 8192
#define FILENAME_MAX 256

enum record_kind {
	RECORD_EXCHANGE = 1,
	RECORD_CONNECT_FAILURE = 2,
};

enum role {
	ROLE_UNKNOWN = 0,
	ROLE_CLIENT = 1,
	ROLE_SERVER = 2,
};

/* Why an exchange or a connect did not end well; docs/glossary.md maps each to its error.type. */
enum failure {
	FAILURE_NONE = 0,
	FAILURE_ERRNO = 1, /* record.error_number says which */
	FAILURE_TIMEOUT = 2,
	FAILURE_CANCELLED = 3,
	FAILURE_CONNECTION_CLOSED = 4,
	FAILURE_CLIENT_CLOSED = 5,
	FAILURE_INCOMPLETE = 6,
	FAILURE_INVALID_RESPONSE = 7,
};

/* What proves a record's parent: docs/design.md, Joins. */
enum join {
	JOIN_NONE = 0,
	JOIN_PEER = 1,	 /* a server's: the client's span of the same request, seen on this host */
	JOIN_SERVED = 2, /* a client's: the request on whose behalf it is made */
};

/* What the traceparent above a joined span says of its trace. */
enum sampling {
	SAMPLING_UNKNOWN = 0,
	SAMPLING_NO = 1,
	SAMPLING_YES = 2,
};

/* Bits of record.truncated, in the order of the texts. */
enum truncated_field {
	TRUNCATED_TARGET = 1,
	TRUNCATED_TRACESTATE = 2,
	TRUNCATED_HOST = 4,
	TRUNCATED_USER_AGENT = 8,
	TRUNCATED_TRACEPARENT = 16,
	TRUNCATED_METHOD = 32,
	TRUNCATED_FORWARDED = 64,
};

/* Index of each count in the per-CPU map `counters`. The exchange equation is
 * SEEN = RECORDED + in flight + FILTERED + LOST_*. The rest counts what cannot be an exchange
 * count. */
enum counter {
	COUNTER_SEEN = 0,
	COUNTER_RECORDED = 1,
	COUNTER_FILTERED = 2,
	COUNTER_LOST_RING_FULL = 3,
	COUNTER_LOST_PIPELINE_FULL = 4,
	COUNTER_LOST_TABLE_FULL = 5,
	COUNTER_LOST_DESYNC = 6,
	COUNTER_CONNECT_FAILURES_SEEN = 7,
	COUNTER_CONNECT_FAILURES_RECORDED = 8,
	COUNTER_CONNECT_FAILURES_FILTERED = 9,
	COUNTER_CONNECT_FAILURES_LOST_RING_FULL = 10,
	COUNTER_UNPAIRED_RESPONSES = 11,
	COUNTER_UNSEEN_HTTP2 = 12,
	COUNTER_UNSEEN_32BIT_CALLS = 13,
	COUNTER_DESYNC_UNREADABLE = 14,
	COUNTER_DESYNC_OVERRUN = 15,
	COUNTER_DESYNC_INVALID = 16,
	COUNTER_DESYNC_OVERLAP = 17,
	COUNTER_CONNECTIONS_TABLE_FULL = 18,
	COUNTER_CALLS_TABLE_FULL = 19,
	COUNTER_CONNECTS_TABLE_FULL = 20,
	COUNTER_PROCESSES_LOST_RING_FULL = 21,
	COUNTER_DESYNC_NO_PLACE = 22,
	COUNTER_LOST_EVICTED = 23,
	COUNTER_CONNECTIONS_EVICTED = 24,
	COUNTER_READERS_TABLE_FULL = 25,
	COUNTER_OWN_TABLE_FULL = 26,
	COUNTER_MISSED_RETURNS = 27,
	COUNTER_UNSEEN_IO_URING = 28,
	COUNTER_DESYNC_UNSEEN = 29,
	COUNTER_TLS_UNPLACED = 30,
	COUNTER_TLS_CONNECTIONS = 31,
	COUNTER_TLS_ADOPTED = 32,
	COUNTER_TLS_SHOWN = 33,
	COUNTER_TLS_IN_MEMORY = 34,
	COUNTER_TLS_LATE = 35,
	COUNTER_TLS_HELD_FULL = 36,
	COUNTER_JOINS_TABLE_FULL = 37,
	COUNTER_UNFOLLOWED_BYTES = 38,
	COUNTERS = 39,
};

/* How the state of a connection begins: what user space needs to find the ones whose socket is
 * gone, and the ones that are to make room for others. */
struct connection_head {
	u64 lock;
	u64 identity; /* keys its exchanges: a socket's memory may have been another's */
	u64 moved_ns; /* when a call last moved bytes, or when it was opened */
	u64 inode;
	u32 netns;
	u16 family;
	u16 _pad;
};

/* What user space asks on_evict for; it is refused if bytes have moved since it was decided. */
struct eviction {
	u64 connection; /* the key */
	u64 identity;
	u64 moved_ns;
	u64 whole; /* forget the connection, not its exchanges alone */
};

/* ... and on_look: whether a connection has gone. */
struct look {
	u64 connection; /* the key */
	u64 identity;
	u64 forget; /* ... if it has */
};

/* Functions of TLS libraries; each is attached with its number. */
enum tls_function {
	TLS_READ = 1,
	TLS_READ_EX = 2,
	TLS_WRITE = 3,
	TLS_WRITE_EX = 4,
	TLS_WRITE_EX2 = 5,
	TLS_SENDFILE = 6,
	TLS_RECEIVE = 7, /* as TLS_READ, but 0 is the end of the stream */
	TLS_HANDSHAKE = 8,
	TLS_CONNECT = 9,
	TLS_ACCEPT = 10,
	TLS_GET_ERROR = 11,
	TLS_WITHIN = 12, /* what its library does within it moves nothing */
	TLS_BEGIN_CLIENT = 13,
	TLS_BEGIN_SERVER = 14,
	TLS_END = 15,
	TLS_SHARE = 16,
};

/* One exchange (or one failed connect). Times are CLOCK_MONOTONIC nanoseconds, 0 where there is
 * none. Texts come first: a bounded copy may be proved safe only by what follows its array. */
struct record {
	char target[TARGET_MAX];
	char tracestate[TRACESTATE_MAX];
	char host[HOST_MAX];
	char user_agent[USER_AGENT_MAX];
	char forwarded[FORWARDED_MAX]; /* the field asked for, or a PROXY protocol header */
	char traceparent[TRACEPARENT_MAX];
	char method[METHOD_MAX];
	char unix_path[UNIX_PATH_MAX];
	char comm[16];
	u16 version;
	u8 kind;
	u8 role;
	u64 start_ktime_ns;
	u64 first_byte_ktime_ns;
	u64 end_ktime_ns;
	u64 connect_ns;
	u64 request_body_bytes;
	u64 response_body_bytes;
	u64 trace_id_high;
	u64 trace_id_low;
	u64 span_id;
	u64 parent_span_id; /* 0: none is proved */
	u64 named_span_id;  /* the parent that its traceparent names, or that of its parent's */
	u64 socket_inode;
	u64 process_start_ns; /* CLOCK_BOOTTIME: with the pid, tells a process from all others */
	u64 parent_start_ns;
	u64 image; /* of its process: struct birth */
	u32 parent_tgid;
	u32 tgid;
	u32 tid;
	u32 netns;
	u32 tcp_seq; /* of Unix sockets and TLS made of the pair of ends and of the request's
			number; 0: not known */
	u16 status;
	u16 truncated;
	u16 error_number;
	u16 local_port;
	u16 remote_port;
	u16 target_bytes;
	u16 tracestate_bytes;
	u16 host_bytes;
	u16 user_agent_bytes;
	u16 traceparent_bytes;
	u16 method_bytes;
	u16 forwarded_bytes;
	u8 failure;
	u8 family;
	u8 http_minor;
	u8 judged;   /* --exe: this executable was known to be asked for */
	u8 executed; /* its process has executed a program, and is not its parent's like by a fork
		      */
	u8 tls;	     /* the plain text of a TLS session; family 0: its socket is not known */
	u8 joined;   /* enum join: what proves parent_span_id */
	u8 sampling; /* enum sampling */
	u32 namespace_tgid; /* as its own pid namespace numbers it; 0: that is the host's */
	char local_address[16];
	char remote_address[16];
};

/* A process as exec left it, on a ring of its own: who it is can be told though it be gone when its
 * first record is read. Lengths say what of the texts is this process's; the rest is another's. */
struct birth {
	char arguments[ARGUMENTS_MAX];	   /* as in /proc/PID/cmdline */
	char environment[ENVIRONMENT_MAX]; /* as in /proc/PID/environ */
	char filename[FILENAME_MAX];	   /* as execve, or a script's #!, has it; NUL-ended */
	u64 process_start_ns;
	u64 ktime_ns; /* of the exec: what its process did before, another program did */
	u64 cgroup;
	u64 image; /* where exec laid out its memory, by chance, and alike in all it forks */
	u32 tgid;
	u16 arguments_bytes;
	u16 environment_bytes;
};
