/* On whose behalf a request is made: that of the request which the running thread serves, if its
 * process has shown that this can be told. docs/design.md, Joins, has the rules and the reasons.
 */
#pragma once

#ifdef JOINS
#define PROOFS_WANTED 8
#define QUIET_BEFORE_NS 1000000000LL
#define AT_ONCE_NS 1000000
#define IO_WORKER 0x10	      /* PF_IO_WORKER of linux/sched.h */
#define NGINX 0x786e69676eULL /* "nginx", as a word */

static __always_inline struct process process_here(void)
{
	return (struct process){process_start_ns(), bpf_get_current_pid_tgid() >> 32};
}

static __always_inline struct server *server_here(void)
{
	struct process key = process_here();

	return servers.lookup(&key);
}

/* What is known of a process; new if nothing is. */
static __always_inline struct server *server_noted(const struct process *of)
{
	struct process key = *of;
	int zero = 0;
	struct server *known = servers.lookup(&key), *blank;

	if (known)
		return known;
	blank = blank_servers.lookup(&zero);
	if (blank && servers.update(&key, blank))
		count(COUNTER_JOINS_TABLE_FULL);
	known = servers.lookup(&key);
	if (known) {
		known->identity = random64();
		known->noted_ns = bpf_ktime_get_ns();
		known->end_ns = known->noted_ns;
	}
	return known;
}

static __always_inline void forget_server(void)
{
	struct process key = process_here();

	servers.delete(&key);
}

/* Bring up to date what is known of the requests that a connection's process serves. */
static __always_inline void count_served(struct connection *c)
{
	u64 begun = c->next_request - c->served, open = c->off ? 0 : outstanding(c);
	struct process key;
	struct server *p;

	if ((!begun && open == c->open) || (c->role != ROLE_SERVER && !c->served))
		return;
	if (!c->server.tgid)
		c->server = process_here();
	key = c->server;
	p = open ? server_noted(&key) : servers.lookup(&key);
	if (!p)
		return; /* it has ended, or there is no room */
	if (c->counted_by != p->identity) {
		c->counted_by = p->identity;
		c->open = 0;
	}
	if (open < c->open)
		p->end_ns = bpf_ktime_get_ns();
	__sync_fetch_and_add(&p->open, open - c->open);
	__sync_fetch_and_add(&p->begun, begun);
	c->served = c->next_request;
	c->open = open;
}

/* Does the running thread wait for one connection alone when it reads this one? */
static __always_inline bool reads_by_waiting(const struct work *w, struct connection *c)
{
	u64 sk = c->tls ? c->other : c->key, socket = 0, task_flags = 0;
	void *task = CURRENT_TASK();
	struct file *file = 0;
	u32 flags = O_NONBLOCK_;

	FIELD32(task_flags, task, struct task_struct, flags);
	if (!sk || w->call.flags & MSG_DONTWAIT_ || task_flags & IO_WORKER)
		return false;
	READ(socket, ((struct sock *)sk)->sk_socket);
	READ(file, ((struct socket *)socket)->file);
	READ(flags, file->f_flags);
	return !(flags & O_NONBLOCK_);
}

/* nginx has few requests made that are for none which it serves: docs/reliability.md has them. */
static __always_inline bool is_nginx(void)
{
	char comm[16] = {};

	bpf_get_current_comm(comm, sizeof(comm));
	return *(u64 *)comm == NGINX;
}

static __always_inline struct serving *serving_of_thread(void)
{
	u64 thread = bpf_get_current_pid_tgid();
	int zero = 0;
	struct serving *known = servings.lookup(&thread), *blank;

	if (known)
		return known;
	blank = blank_servings.lookup(&zero);
	if (blank && servings.update(&thread, blank))
		count(COUNTER_JOINS_TABLE_FULL);
	return servings.lookup(&thread);
}

static __always_inline bool is_open(const struct serving *s)
{
	struct exchange_key key = {.connection = s->identity, .index = s->index};

	return exchange_get(&key) != 0;
}

/* Has so much time passed from one moment to another? */
static __always_inline bool is_long(u64 from, u64 to)
{
	return (s64)(to - from) > QUIET_BEFORE_NS;
}

/* Can it be told whose the head is that was just read: nothing else came with it, and the requests
 * of its connection are counted as the running process's? */
static __always_inline bool is_told(const struct connection *c, const struct process *here)
{
	return !c->beside && outstanding(c) == 1 && c->server.tgid == here->tgid &&
	       c->server.start_ns == here->start_ns;
}

/* The running thread has read a request's head; without x it is one that nothing can be the child
 * of. */
static __always_inline void begin_serving(const struct work *w, struct connection *c,
					  const struct exchange *x)
{
	bool blocking = reads_by_waiting(w, c);
	struct process here = process_here();
	struct server *p = servers.lookup(&here);
	struct serving *s;

	if (!p)
		return;
	s = blocking ? serving_of_thread() : &p->latest;
	if (!s)
		return;
	if (blocking && s->identity && s->identity != c->head.identity && is_open(s))
		s->unfit = 1;
	s->waited = 1;
	s->alone = 0;
	if (!x || !is_told(c, &here))
		return;
	s->connection = c->key;
	s->identity = c->head.identity;
	s->index = c->next_request - 1;
	s->thread = bpf_get_current_pid_tgid();
	s->sleeps = sleeps();
	s->head_ns = w->now_ns;
	s->begun = p->begun;
	s->blocking = blocking;
	s->waited = 0;
	s->alone = p->open == 1 &&
		   is_long(is_nginx() ? p->noted_ns : p->end_ns, x->record.start_ktime_ns);
}

/* The running thread waits for several things at once, or for another connection: what it does then
 * is on nobody's behalf. */
static __always_inline void stop_serving(void)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct serving *s = servings.lookup(&thread);

	if (s)
		s->waited = 1;
}

/* An answer has begun: by the thread that had read its request? */
static __always_inline void note_answerer(const struct work *w, const struct connection *c)
{
	struct process key = c->server;
	struct server *p = servers.lookup(&key);

	if (!p || w->direction != EGRESS)
		return;
	if (w->answered == (u32)bpf_get_current_pid_tgid())
		__sync_fetch_and_add(&p->proofs, 1);
	else
		p->hands_over = 1;
}

/* A process makes a request for none that it serves. */
static __always_inline void note_self_starting(u64 tgid, u64 start_ns)
{
	struct process key = {.start_ns = start_ns, .tgid = tgid};
	struct server *p = server_noted(&key);

	if (p && !p->open)
		p->self_starting = 1;
}

/* Is something done at once after a head was read, or by the thread that has waited for it and not
 * slept since? A thread that waits for many things may meanwhile have begun another, a timer that
 * was due while it computed; nginx has few that ask. */
static __always_inline bool at_once(const struct serving *s)
{
	return bpf_ktime_get_ns() - s->head_ns < AT_ONCE_NS ||
	       ((s->blocking || is_nginx()) && s->thread == bpf_get_current_pid_tgid() &&
		s->sleeps == sleeps());
}

/* Is each request of this process served by the thread that has read it? It has shown so, or serves
 * no other now. */
static __always_inline bool is_by_threads(const struct server *p, const struct serving *s)
{
	return !p->hands_over && (p->proofs >= PROOFS_WANTED ||
				  (p->open == 1 && at_once(s) && is_long(p->noted_ns, s->head_ns)));
}

/* Is this the only request that the process serves, and could nothing else have a request made? */
static __always_inline bool is_alone(const struct server *p, const struct serving *s)
{
	return s->alone && p->open == 1 && p->begun == s->begun && !p->self_starting;
}

/* What the running thread serves; 0 if that is not proved. */
static __always_inline struct serving *serving_now(void)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct serving *s = servings.lookup(&thread);
	struct server *p = server_here();

	if (!p)
		return 0;
	if (s && s->identity && (s->unfit || is_open(s)))
		return !s->unfit && !s->waited && is_by_threads(p, s) ? s : 0;
	s = &p->latest;
	return is_alone(p, s) && at_once(s) ? s : 0;
}

/* On whose behalf connect() was called, if that still holds: of a thread that waits for what it
 * reads, serving_now() says so. */
static __always_inline bool origin_holds(const struct serving *s)
{
	struct server *p = server_here();

	return p && s->identity && !s->blocking && is_alone(p, s);
}

/* The exchange that is served, if it is the one that its connection has outstanding; to one that
 * was not read by waiting, no answer must have begun. */
static __always_inline struct exchange *exchange_served(const struct serving *s)
{
	struct exchange_key key = {.connection = s->identity, .index = s->index};
	u64 connection = s->connection;
	struct connection *c = connections.lookup(&connection);
	struct exchange *x;

	if (!c || c->head.identity != s->identity || outstanding(c) != 1 ||
	    c->next_response != s->index)
		return 0;
	x = exchange_get(&key);
	if (!x || x->confirmed != CONFIRMED || (!s->blocking && x->record.status))
		return 0;
	return x;
}

/* On whose behalf the running thread sends what may be a request; 0 if for none that is proved. */
static __always_inline struct exchange *cause_of_request(const struct connection *c)
{
	const struct serving *s = serving_now();

	if (!s && !c->next_request && origin_holds(&c->origin))
		s = &c->origin;
	return s ? exchange_served(s) : 0;
}

/* The running thread calls connect() on a socket. */
static __always_inline void note_cause(u64 socket)
{
	const struct serving *s = serving_now();
	struct exchange *x = s ? exchange_served(s) : 0;
	int zero = 0;
	struct cause *cause = blank_causes.lookup(&zero);

	if (!x || !cause)
		return;
	if (causes.update(&socket, cause))
		count(COUNTER_JOINS_TABLE_FULL);
	cause = causes.lookup(&socket);
	if (!cause)
		return;
	cause->serving = *s;
	descend(&cause->lineage, &x->record);
}

static __always_inline void take_cause(struct connection *c, u64 socket)
{
	struct cause *cause = causes.lookup(&socket);

	if (cause)
		c->origin = cause->serving;
}

static __always_inline bool caused(u64 socket, struct lineage *l)
{
	struct cause *cause = causes.lookup(&socket);

	if (cause)
		*l = cause->lineage;
	return cause != 0;
}

static __always_inline void forget_cause(u64 socket)
{
	causes.delete(&socket);
}

static __always_inline void forget_serving(void)
{
	u64 thread = bpf_get_current_pid_tgid();

	servings.delete(&thread);
	if (has_own_files()) /* its process's last */
		forget_server();
}
#else
#define count_served(c)
#define stop_serving()
#define note_self_starting(tgid, start_ns)
#define note_cause(socket)
#define take_cause(c, socket)
#define caused(socket, l) false
#define forget_cause(socket)
#define forget_serving()
#endif
