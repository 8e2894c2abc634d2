/* Unix sockets that went with no word of it: closed by an exec, or together with their process.
 * Asked of the socket itself: a list of all of them (/proc/net/unix) is walked by place, so that
 * what goes meanwhile hides others; and it is of one network namespace. */
#pragma once

/* The memory of a socket that is gone may be another's, or hold anything. */
static __always_inline bool socket_lives(u64 sk, u64 inode)
{
	struct inode *node = 0;
	struct file *file = 0;
	u64 socket = 0, back = 0, number = 0;

	READ(socket, ((struct sock *)sk)->sk_socket);
	READ(file, ((struct socket *)socket)->file);
	READ(back, file->private_data);
	READ(node, file->f_inode);
	READ(number, node->i_ino);
	return socket && back == socket && number == inode;
}

/* Has this connection ended, or its Unix socket? Such a one is forgotten, if that is asked for.
 * Where it cannot be known, it has not. */
static __always_inline bool is_gone(const struct look *l)
{
	u64 key = l->connection, sk = key;
	struct connection *c = connections.lookup(&key);

	if (!c || c->head.identity != l->identity)
		return true;
	if (c->tls)
		sk = c->other;
	if (c->head.family != AF_UNIX_ || !sk || !c->head.inode || socket_lives(sk, c->head.inode))
		return false;
	if (!l->forget || !lock_if(c, key))
		return true;
	if (c->head.identity == l->identity)
		let_go(c, key);
	else
		unlock(c);
	return true;
}
