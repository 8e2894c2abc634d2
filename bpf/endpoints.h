/* Both ends of a connection, as keys. */
#pragma once

/* An IPv4 peer of a dual-stack socket is ::ffff:a.b.c.d to it: make one address of the two. */
static __always_inline void unmap_address(char *address)
{
	u32 *word = (u32 *)address;

	if (word[0] || word[1] || word[2] != 0xffff0000)
		return;
	word[0] = word[3];
	word[2] = 0;
	word[3] = 0;
}

static __always_inline void unmap_endpoints(struct endpoints *e)
{
	unmap_address(e->local_address);
	unmap_address(e->remote_address);
}

static __always_inline void reverse_endpoints(const struct connection *c, struct endpoints *e)
{
	__builtin_memcpy(e->local_address, c->remote_address, 16);
	__builtin_memcpy(e->remote_address, c->local_address, 16);
	e->local_port = c->remote_port;
	e->remote_port = c->local_port;
	e->netns = c->head.netns;
}
