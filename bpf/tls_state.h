/* What is kept of the calls of TLS libraries. */
#pragma once

#define TLS_DEPTH 4

/* What a TLS library knows a session by, in the process that it is of. */
struct tls_key {
	u64 ssl;
	u64 process_start_ns;
	u64 tgid;
};

/* Whether a call of another session has begun within a call. */
enum within {
	WITHIN_NONE = 0,
	WITHIN_CALLED,
	WITHIN_SHAKEN, /* ... that has shaken hands */
};

/* A thread's call of a TLS library, from its entry to its return. */
struct tls_call {
	u64 stack;     /* where the stack stood at its entry: tells its return from another's; of a
			  goroutine, counted from the stack's end */
	u64 stack_end; /* of a goroutine: where that was */
	u64 back;      /* where it returns to */
	u64 ssl;
	u64 connection; /* the session's */
	u64 buffer;
	u64 bytes;    /* that it was given, or has room for */
	u64 moved_at; /* where it will say how many it has moved, if not by its result */
	u64 begin_ns;
	u64 sleeps;
	u32 function; /* enum tls_function */
	u16 sockets;  /* it has called on one */
	u16 within;   /* enum within */
};

/* A call of a TLS library by a thread: where on which stack. */
struct tls_frame {
	u64 stack;
	u64 process_start_ns;
	u64 tgid;
};

/* Where in a part of a stack calls stand that are under way: one from within another where a
 * library's functions call each other, where an application is called back, and where one session
 * carries another. */
struct tls_stacks {
	u64 at[TLS_DEPTH];
	u64 next;
};

/* What runs Go's calls: a struct g of a process. */
struct goroutine {
	u64 address;
	u64 process_start_ns;
	u64 tgid;
};

/* Calls that a goroutine is inside. */
struct tls_calls_of_goroutine {
	u32 depth;
	u32 _pad;
	struct tls_call calls[TLS_DEPTH];
};
