/* What joins keep: where spans stand in their traces, and what processes serve. */
#pragma once

/* Where a span stands in its trace. */
struct lineage {
	u64 trace_id_high;
	u64 trace_id_low;
	u64 span_id;
	u64 parent_span_id;
	u64 named_span_id;
	u8 joined;
	u8 sampling;
	u8 _pad[6];
};

/* A client's request from the moment its call begins, for whoever receives it before that has
 * returned. */
struct announcement {
	u64 announcer; /* the thread in the call */
	u64 stamp;     /* ANNOUNCED and where in the stream the request begins; 0: being written */
	struct lineage lineage;
};

/* A request that a thread has read and not yet answered. */
struct serving {
	u64 connection; /* as `connections` is keyed */
	u64 identity;	/* with the index, the exchange's key */
	u64 index;
	u64 thread;
	u64 sleeps; /* of the thread, when the head had been read */
	u64 head_ns;
	u64 begun;   /* of its process, when the head had been read */
	u8 blocking; /* it was read by calls that wait for this connection alone */
	u8 alone;    /* nothing else was served, nor for a while before */
	u8 waited;   /* the thread has since waited for several things at once */
	u8 unfit;    /* the thread has had several requests open */
	u8 _pad[4];
};

/* A process, told from all others. */
struct process {
	u64 start_ns;
	u64 tgid;
};

/* What a process has shown of how it serves. */
struct server {
	u64 identity;
	u64 open;	  /* requests being served */
	u64 begun;	  /* ... ever */
	u64 noted_ns;	  /* since when it is watched; what it was asked before is not known */
	u64 end_ns;	  /* when the last one was over; at first as noted_ns */
	u64 proofs;	  /* answers by the thread that had read the request */
	u8 hands_over;	  /* a request was answered by another thread */
	u8 self_starting; /* a request was made while none was served */
	u8 _pad[6];
	struct serving latest; /* of requests read by calls that do not wait */
};

/* On whose behalf a connect() is called. */
struct cause {
	struct lineage lineage;
	struct serving serving;
};
