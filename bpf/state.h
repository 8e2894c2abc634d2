/* The state kept between calls: connections, the exchanges in flight, and one call's work. */
#pragma once

/* Bounds: how many requests may be outstanding on one connection, and how much of a call is looked
 * at. */
#define OUTSTANDING_MAX 128
#define WINDOW_BYTES 2048
#define SCAN_STEPS 64
#define GATHER_STEPS 16
#define TURNS 8
#define QUIET_NS 100000000ULL
#define PROXY_HEADER_MAX 108
#define TLS_PROCESSES_MAX 8192
#define TLS_HELD_MAX (CONNECTIONS_MAX / 2) /* sessions of one process */
#define TLS_SALT 0x9e3779b97f4a7c15ULL

/* Next states: row is the state, column the byte (ringspan.protocols.http1). */
struct automaton {
	u8 next[256 * 256];
};

enum direction_index {
	INGRESS = 0,
	EGRESS = 1,
};

enum phase {
	PHASE_SEEK = 0, /* out of sync: waits for a call that begins with a message */
	PHASE_HEAD,	/* the automaton walks a message's head */
	PHASE_FRAMES,	/* ... chunk sizes and the trailer section */
	PHASE_BODY,	/* `left` bytes of body or chunk follow */
	PHASE_OPEN,	/* a body that ends with the connection */
};

/* What a turn leads to. In the work rather than in the code's flow, so that the verifier walks each
 * answer once. */
enum then {
	THEN_GO_ON = 0,
	THEN_END_REQUEST,
	THEN_END_RESPONSE,
	THEN_END_RESPONSE_AND_HTTP, /* 101, or the answer to CONNECT */
	THEN_REJECT,
	THEN_DESYNC_INVALID,
	THEN_DESYNC_OVERLAP,
	THEN_DESYNC_NO_PLACE,
	THEN_DESYNC_UNPAIRED,
	THEN_HTTP2,
};

enum coding {
	CODING_NONE = 0,
	CODING_CHUNKED,
	CODING_OTHER,
	CODING_TUNNEL, /* what follows a CONNECT, until its answer says what it was */
};

/* How well it is known which side this is. */
enum certainty {
	ROLE_GUESSED = 0,
	ROLE_BY_REQUEST, /* a valid request line passed: which a body may hold too, if it began
			    unseen */
	ROLE_CERTAIN,	 /* by connect() or accept(), by the port asked for, or by an answer */
};

/* What is known of a request. */
enum confirmation {
	UNCONFIRMED = 0,
	CONFIRMED, /* its line is a valid one: this is HTTP, and counted as seen */
	UNWANTED,  /* ... and not asked for: kept for the sake of pairing alone */
};

/* Whether a connection begins with TLS. */
enum looked {
	LOOKED_NOT = 0,
	LOOKED_AT_ONE, /* its first byte alone has come: that of a handshake */
	LOOKED_AT,
};

/* A connection that begins with TLS; its session has this of it. */
enum hello {
	HELLO_NONE = 0,
	HELLO_SEEN,
	HELLO_ADOPTED, /* a session's */
};

/* Where one direction of a connection stands in its HTTP/1 messages. */
struct direction {
	u8 phase;
	u8 state;
	u8 coding;
	u8 has_length;
	u8 bad_length;
	u8 counted;  /* its request line is a valid one, counted as seen */
	u8 unpaired; /* a response to no request we know: to none, or begun before it */
	u16 status;
	u64 length;	  /* the Content-Length, or the chunk size, that is being read */
	u64 known_length; /* the Content-Length of an earlier line or list member */
	u64 left;
	u64 body_bytes;
	u64 first_ns; /* when the first byte of the message moved */
	u64 last_ns;  /* when any byte moved */
};

struct connection {
	struct connection_head head;
	u64 key;    /* as `connections` is keyed; 0 once it is evicted */
	u64 writer; /* the thread inside a send call on this connection, as `calls` is keyed */
	u64 next_request;
	u64 next_response;
	u64 connect_ns;
	u64 closed_ns; /* when this side sent its FIN */
	u64 desync_ns;
	u64 peer; /* the client's end of a server's connection, as `connections` is keyed */
	u64 peer_identity;
	u64 served;	       /* of next_request, what `servers` knows */
	u64 open;	       /* of its process's open ones */
	u64 counted_by;	       /* struct server's identity */
	struct process server; /* whose requests these are */
	u64 other; /* of a socket: the TLS session that it carries; of a session: its socket */
	struct tls_key session;
	u32 pair; /* the same on both ends, where there are no sequence numbers */
	u16 error;
	u16 local_port;
	u16 remote_port;
	u8 role;
	u8 off;	  /* not HTTP, or no longer, or filtered: look no more */
	u8 fresh; /* just picked up in mid-stream */
	u8 born;  /* seen from its first byte */
	u8 peer_gone;
	u8 pipelined;
	u8 beside; /* the current request came with bytes of others, or while one was open */
	u8 broken; /* a call could not be followed: lose sync before the next */
	u8 response_begun;
	u8 role_known;	/* enum certainty */
	u8 lost_reason; /* why the current request has no place, if it has none */
	u8 invalid_response;
	u8 whole;      /* the oldest response ends with the connection, and well */
	u8 failing;    /* why the exchange that is being closed fails */
	u8 doubtful;   /* its first bytes were no request; the answer to them will tell whether this
			  is HTTP */
	u8 reset;      /* ended without a FIN of this side */
	u8 sequenced;  /* TCP: its bytes have numbers */
	u8 tls;	       /* the plain text of a TLS session */
	u8 unjoinable; /* two threads wrote at once: whose bytes are where is not known */
	u8 listed;     /* in `client_ends` */
	u8 socketless; /* ... whose bytes go by no socket that can be told */
	u8 looked;     /* enum looked */
	u8 refused;    /* a session: its socket is one that is not followed */
	u8 wraps;      /* ... another session has shaken hands within a call of its */
	u8 hello;      /* enum hello */
	u8 shown;      /* a session: plain text has moved */
	u8 resumed;    /* ... it was known before an eviction */
	u8 failed;     /* ... its last call that was to move bytes has moved none */
	u8 shared;     /* ... it has been referred to more than once */
	u8 freed;      /* ... let go of, once at least */
	char local_address[16];
	char remote_address[16];
	char unix_path[UNIX_PATH_MAX];
	char proxy[PROXY_HEADER_MAX]; /* its PROXY protocol header, if that is asked for */
	u16 proxy_bytes;
	u32 moved_to[2]; /* where TCP's sequence stands, by what was seen to move */
	u32 ended_at[2]; /* where it stood when TCP ended */
	struct direction directions[2];
	struct announcement announced;
	struct serving origin; /* on whose behalf connect() was called */
};

static __always_inline u64 outstanding(const struct connection *c)
{
	return c->next_request - c->next_response;
}

struct exchange_key {
	u64 connection;
	u64 index;
};

struct exchange {
	struct record record;
	u8 confirmed; /* enum confirmation */
	u8 _pad[7];
};

/* The bytes of one call, wherever they lie in the caller's memory. */
struct span_of_bytes {
	u64 begin_ns;
	u64 end_ns;
	u64 iov;
	u64 base;
	u64 length;   /* of the current piece */
	u64 left;     /* of the call, not yet in the window */
	u64 skip;     /* of those, how many need no look */
	u64 done;     /* before the window */
	u64 messages; /* struct mmsghdr[] */
	u32 message_count;
	u32 iov_count;
	u32 sequence;
	u8 direction;
	u8 opaque; /* bytes that cannot be read: sendfile, splice, MSG_TRUNC */
	u8 has_sequence;
	u8 memory; /* enum memory */
};

/* Whose memory a span's bytes lie in, and the list of their pieces. */
enum memory {
	MEMORY_USER = 0,
	MEMORY_USER_LISTED, /* ... by a list in the kernel's */
	MEMORY_KERNEL,
};

/* What a call is for. */
enum purpose {
	PURPOSE_SEND = 0,
	PURPOSE_CONNECT,
	PURPOSE_RECEIVE,
};

/* What a call was given, from its entry to its exit. */
struct call {
	u64 begin_ns;
	u64 sleeps;
	u64 sk;
	u64 identity; /* of the connection */
	u64 number;   /* with the arguments, where the bytes lie: see locate() of the capture */
	u64 arguments[4];
	u64 helped; /* bytes that a reader has already followed for this writer, or it itself */
	u64 pushed; /* ... it itself, from within a send */
	u32 sequence;
	u32 flags;    /* as the call was given them */
	u8 sequenced; /* its connection's bytes have TCP's numbers */
	u8 purpose;
	u8 unplaced; /* where its bytes stand in TCP's sequence is not known */
	u8 seen;     /* which copies of a program have seen it begin: bpf/copies.h */
	u8 _pad[4];
};

/* Calls that a processor is in the middle of. */
#if (defined(CAPTURE_FENTRY) || defined(FOLLOW_TLS)) && defined(HAS_ATOMICS)
#define WORKS 3
#else
#define WORKS 1
#endif

struct work {
	char window[2 * WINDOW_BYTES +
		    8]; /* the second half is never filled: room for masked indexes */
	u16 mark[256]; /* per automaton state: 1 + the last position in the window where it stood */
	struct span_of_bytes spans[2];
	u64 owner; /* the thread whose work this is, while it lasts */
	u64 connection;
	u64 now_ns;
	u64 settle_ns; /* when sync was lost, as the stream's clock has it */
	u64 moved;     /* bytes, or messages of sendmmsg and recvmmsg */
	struct call call;
	u64 window_at; /* offset of the window in its call */
	u32 span;
	u32 spans_count;
	u32 position;
	u32 filled;
	u32 scan_from;
	u32 settle;
	u8 direction;
	u8 opaque;
	u8 resume; /* settle first, then follow */
	u32 step;
	u32 state;	/* where the automaton stopped */
	u32 is_request; /* the span's direction is the one that carries requests */
	u32 then;	/* what a turn has met, dealt with once at its end */
	u32 prepared;	/* `lineage` is that of a request that begins at this place */
	u32 prepared_at;
	u32 head_read; /* a request's head is whole */
	u32 answered;  /* an answer has begun, to what this thread had read */
	struct lineage lineage;
	u32 ended;  /* the call met the end of the stream */
	u32 error;  /* ... or this error */
	u32 within; /* the call goes on */
};

/* struct mmsghdr, as the caller lays it out. */
struct mmsghdr_user {
	u64 name;
	u64 name_bytes;
	u64 iov;
	u64 iov_count;
	u64 control;
	u64 control_bytes;
	u64 flags;
	u64 bytes;
};

/* A connect() under way. */
struct attempt {
	u64 begin_ns;
	u64 process_start_ns;
	u64 inode;
	u64 pid_tgid;
	u64 closed_ns; /* SYN_SENT has ended within connect(): its result is awaited */
	u32 in_call;
	u32 error;
	u16 family;
	u16 port;
	u32 netns;
	char address[16];
	u8 own;
	u8 judged;
	u8 put_off; /* to the first send */
	u8 _pad;
	char comm[16];
	char unix_path[UNIX_PATH_MAX];
	u32 namespace_tgid;
};

/* File descriptors that are being closed by other than close(): at exit, or by close_range. */
struct closing {
	u64 key;  /* of the Unix connection whose last descriptor has been found */
	u64 next; /* the first one not looked at yet */
	u64 end;
	u64 now_ns;
};

/* Both ends of a connection of ringspan's own. */
struct endpoints {
	char local_address[16];
	char remote_address[16];
	u16 local_port;
	u16 remote_port;
	u32 netns;
};

/* An executable file, as it is now: whatever is done to it (its inode given to another file, a new
 * name) changes its ctime. */
struct executable {
	u64 inode;
	u64 device;
	u64 changed_ns;
};
