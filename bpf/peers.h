/* Both ends of a connection on this host: a request is the same at both by its place in the stream.
 */
#pragma once

#ifdef JOINS
#define ANNOUNCED (1ULL << 32)

/* Written before the stamp, read after it: on machines that reorder, too. */
#ifdef HAS_ATOMICS
#define SET_STAMP(a, value) __sync_lock_test_and_set(&(a)->stamp, value)
#define GET_STAMP(a) __sync_fetch_and_add(&(a)->stamp, 0)
#define CLAIM(a, thread) __sync_val_compare_and_swap(&(a)->announcer, 0, thread)
#else
#define SET_STAMP(a, value) (*(volatile u64 *)&(a)->stamp = (value))
#define GET_STAMP(a) (*(volatile u64 *)&(a)->stamp)
#define CLAIM(a, thread) ((a)->announcer ? (a)->announcer : ((a)->announcer = (thread), 0))
#endif

/* A client's end, by its addresses: the same in whatever network namespace. */
static __always_inline void list_client(struct connection *c)
{
	struct endpoints e = {};

	if (c->listed || !c->sequenced)
		return;
	reverse_endpoints(c, &e);
	unmap_endpoints(&e);
	e.netns = 0;
	if (client_ends.update(&e, &c->key))
		count(COUNTER_JOINS_TABLE_FULL);
	else
		c->listed = 1;
}

static __always_inline void unlist_client(const struct connection *c, u64 key)
{
	struct endpoints e = {};
	u64 *listed;

	if (!c->listed)
		return;
	reverse_endpoints(c, &e);
	unmap_endpoints(&e);
	e.netns = 0;
	listed = client_ends.lookup(&e);
	if (listed && *listed == key)
		client_ends.delete(&e);
}

/* A connection is no longer followed. */
static __always_inline void leave_peers(struct connection *c, u64 key)
{
	c->off = 1;
	count_served(c);
	unlist_client(c, key);
}

static __always_inline u64 find_client(const struct connection *c)
{
	struct endpoints e = {};
	struct sock *peer = 0;
	u64 *listed;

	if (c->head.family == AF_UNIX_) {
		READ(peer, ((struct unix_sock *)c->key)->peer);
		return (u64)peer;
	}
	__builtin_memcpy(e.local_address, c->local_address, 16);
	__builtin_memcpy(e.remote_address, c->remote_address, 16);
	e.local_port = c->local_port;
	e.remote_port = c->remote_port;
	unmap_endpoints(&e);
	listed = client_ends.lookup(&e);
	return listed ? *listed : 0;
}

/* The other end of a server's connection; 0 if it is not followed on this host. */
static __always_inline struct connection *client_of(struct connection *c)
{
	u64 key = c->peer;
	struct connection *peer = 0;

	if (key)
		peer = connections.lookup(&key);
	if (peer && peer->head.identity == c->peer_identity)
		return peer;
	key = find_client(c);
	peer = key ? connections.lookup(&key) : 0;
	if (!peer || peer->role != ROLE_CLIENT || peer->pair != c->pair ||
	    (!c->sequenced && !peer->born))
		return 0;
	c->peer = key;
	c->peer_identity = peer->head.identity;
	return peer;
}

/* A client begins to send what may be a request. */
static __always_inline void announce(struct connection *c, u32 place)
{
	struct announcement *a = &c->announced;
	u64 thread = bpf_get_current_pid_tgid(), other;
	const struct direction *d = &c->directions[EGRESS];
	struct exchange *cause;

	if (c->role != ROLE_CLIENT || d->phase != PHASE_HEAD || d->first_ns || c->tls ||
	    !admitted(c))
		return;
	other = CLAIM(a, thread);
	if (other && other != thread)
		c->unjoinable = 1;
	SET_STAMP(a, 0);
	if (c->unjoinable)
		return;
	cause = cause_of_request(c);
	if (cause)
		descend(&a->lineage, &cause->record);
	else
		begin_lineage(&a->lineage);
	SET_STAMP(a, ANNOUNCED | place);
}

/* The thread has left its call. */
static __always_inline void end_announcing(struct connection *c, u64 thread)
{
	if (c->announced.announcer == thread)
		c->announced.announcer = 0;
}

/* Take over what was announced of the request that begins here; false if it was not. */
static __always_inline bool announced(struct connection *c, u32 place, struct lineage *l)
{
	struct announcement *a = &c->announced;
	u64 stamp = ANNOUNCED | place;

	if (GET_STAMP(a) != stamp)
		return false;
	*l = a->lineage;
	return GET_STAMP(a) == stamp;
}

/* The same of a request that its client's call is done with. */
static __always_inline bool followed(const struct connection *client, u32 place, struct lineage *l)
{
	struct exchange_key key = {.connection = client->head.identity,
				   .index = client->next_request - 1};
	struct exchange *x = client->sequenced ? exchange_get(&key) : 0;

	if (!x || x->record.tcp_seq != place || x->confirmed == UNWANTED)
		return false;
	l->trace_id_high = x->record.trace_id_high;
	l->trace_id_low = x->record.trace_id_low;
	l->span_id = x->record.span_id;
	l->named_span_id = x->record.named_span_id;
	l->sampling = x->record.sampling;
	return true;
}

/* Become the child of the client's span of the same request; false if that is not proved. */
static __always_inline bool descend_from_client(struct connection *c, u32 place, struct lineage *l)
{
	struct connection *client = client_of(c);

	if (!client || client->unjoinable || !admitted(client))
		return false;
	if (!announced(client, place, l) && !followed(client, place, l))
		return false;
	l->parent_span_id = l->span_id;
	l->span_id = random64() | 1;
	l->joined = JOIN_PEER;
	return true;
}

/* Prepare the place in its trace of a request that a call's bytes may begin with. */
static __always_inline void prepare_lineage(struct work *w, struct connection *c)
{
	u32 wanted = c->role == ROLE_CLIENT ? EGRESS : INGRESS;
	const struct span_of_bytes *s = &w->spans[w->spans[0].direction != wanted];
	const struct direction *d = &c->directions[wanted];
	struct lineage *l = &w->lineage;
	struct exchange *cause = 0;

	if (!w->spans_count || s->direction != wanted || d->phase > PHASE_HEAD || d->first_ns)
		return;
	w->prepared_at = s->sequence + s->skip;
	if (c->tls) {
		if (c->role == ROLE_CLIENT && w->direction == EGRESS)
			cause = cause_of_request(c);
		if (cause)
			descend(l, &cause->record);
		w->prepared = cause != 0;
	} else if (c->sequenced ? s->has_sequence : c->born) {
		w->prepared = c->role == ROLE_CLIENT ? announced(c, w->prepared_at, l)
						     : descend_from_client(c, w->prepared_at, l);
	}
}

/* A request's head is whole. */
static __always_inline void take_head(struct work *w, struct connection *c)
{
	struct exchange_key key = {.connection = c->head.identity, .index = c->next_request - 1};
	struct exchange *x = exchange_get(&key);

	if (x && x->confirmed != CONFIRMED)
		x = 0;
	if (x && c->role == ROLE_CLIENT) {
		list_client(c);
		if (!x->record.joined)
			note_self_starting(x->record.tgid, x->record.process_start_ns);
	}
	if (x && x->record.traceparent_bytes && !take_traceparent(w, &x->record))
		x = 0;
	if (c->role == ROLE_SERVER && w->direction == INGRESS)
		begin_serving(w, c, x);
}

/* A call's bytes have been followed. */
static __always_inline bool needs_join(const struct work *w, const struct connection *c)
{
	if (c->role != ROLE_SERVER)
		return w->head_read;
	return w->head_read || w->answered || c->served != c->next_request ||
	       c->open != outstanding(c);
}

static __always_inline void join_call(struct work *w, struct connection *c)
{
	count_served(c);
	if (w->answered && c->role == ROLE_SERVER)
		note_answerer(w, c);
	if (w->head_read)
		take_head(w, c);
}
#else
#define list_client(c)
#define leave_peers(c, key)
#define announce(c, place)
#define end_announcing(c, thread)
#define prepare_lineage(w, c)
#define needs_join(w, c) false
#define join_call(w, c)
#endif
