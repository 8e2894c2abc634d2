/* Connections and exchanges that make room for others, when user space finds a table crowded.
 * Hashes that evict by themselves (BPF_MAP_TYPE_LRU_HASH) would tell no one of it. */
#pragma once

/* Note what whoever picks the connection up again must know; where there is no room for that, all
 * that are picked up are taken for such ones. */
static __always_inline void note_evicted(const struct connection *c, u64 key)
{
	u64 any = 0, yes = 1, note = c->head.inode << 1 | (c->off != 0);

#ifdef FOLLOW_TLS
	if (c->tls)
		key = session_number(&c->session);
#endif
	if ((c->off || c->tls || !is_settled(c)) && evicted.update(&key, &note))
		evicted.update(&any, &yes);
}

/* Give up a connection, or what is outstanding on it; false if it has moved meanwhile, or ended. */
static __always_inline bool evict(struct eviction *e)
{
	struct connection *c = connections.lookup(&e->connection);

	if (!c || !lock_if(c, e->connection))
		return false;
	if (c->head.identity != e->identity || c->head.moved_ns != e->moved_ns) {
		unlock(c);
		return false;
	}
	if (e->whole)
		note_evicted(c, e->connection);
	c->pipelined |= outstanding(c) != 0;
	if (outstanding(c))
		settle_desync(c, bpf_ktime_get_ns(), COUNTER_LOST_EVICTED);
	count(COUNTER_CONNECTIONS_EVICTED);
	if (e->whole)
		let_go(c, e->connection);
	else {
		count_served(c);
		unlock(c);
	}
	return true;
}
