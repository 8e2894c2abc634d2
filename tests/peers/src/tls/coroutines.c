/* A server whose connections are coroutines on one thread: each is left, and come back to, from within
 * OpenSSL, in the callbacks that move its ciphertext. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/bio.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <ucontext.h>
#include <unistd.h>

#define CONNECTIONS 64
#define STACK_BYTES (256 * 1024)

struct connection {
	ucontext_t context;
	char *stack;
	int fd;
	int done;
};

static ucontext_t scheduler;
static struct connection connections[CONNECTIONS], *running;
static BIO_METHOD *method;
static SSL_CTX *tls;

static void leave(void)
{
	swapcontext(&running->context, &scheduler);
}

static int bio_read(BIO *bio, char *to, int size)
{
	struct connection *c = BIO_get_data(bio);
	int got;

	do {
		leave();
		got = read(c->fd, to, size);
	} while (got < 0 && errno == EAGAIN);
	return got;
}

static int bio_write(BIO *bio, const char *from, int size)
{
	struct connection *c = BIO_get_data(bio);
	int put;

	do {
		leave();
		put = write(c->fd, from, size);
	} while (put < 0 && errno == EAGAIN);
	return put;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
	return command == BIO_CTRL_FLUSH;
}

static void answer(SSL *ssl)
{
	static const char reply[] = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsmall\n";
	char head[8192];
	int filled = 0, got;

	while ((got = SSL_read(ssl, head + filled, sizeof(head) - 1 - filled)) > 0) {
		filled += got;
		head[filled] = 0;
		if (!strstr(head, "\r\n\r\n"))
			continue;
		*strchr(head, '\r') = 0;
		printf("\"%s\" 200\n", head);
		fflush(stdout);
		filled = 0;
		if (SSL_write(ssl, reply, sizeof(reply) - 1) <= 0)
			return;
	}
}

static void serve(void)
{
	struct connection *c = running;
	SSL *ssl = SSL_new(tls);
	BIO *bio = BIO_new(method);

	BIO_set_data(bio, c);
	BIO_set_init(bio, 1);
	SSL_set_bio(ssl, bio, bio);
	if (SSL_accept(ssl) > 0)
		answer(ssl);
	SSL_free(ssl);
	close(c->fd);
	c->done = 1;
}

static void begin(int fd)
{
	struct connection *c = connections;

	while (c->fd)
		c++;
	if (!c->stack)
		c->stack = malloc(STACK_BYTES);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	c->fd = fd;
	c->done = 0;
	getcontext(&c->context);
	c->context.uc_stack.ss_sp = c->stack;
	c->context.uc_stack.ss_size = STACK_BYTES;
	c->context.uc_link = &scheduler;
	makecontext(&c->context, serve, 0);
}

static void run(void)
{
	for (int i = 0; i < CONNECTIONS; i++) {
		running = &connections[i];
		if (!running->fd)
			continue;
		swapcontext(&scheduler, &running->context);
		if (running->done)
			running->fd = 0;
	}
}

int main(int count, char **words)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(words[1]))};
	int listening = socket(AF_INET, SOCK_STREAM, 0), fd, one = 1;

	signal(SIGPIPE, SIG_IGN);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	tls = SSL_CTX_new(TLS_server_method());
	SSL_CTX_use_certificate_chain_file(tls, words[2]);
	SSL_CTX_use_PrivateKey_file(tls, words[2], SSL_FILETYPE_PEM);
	method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "coroutine");
	BIO_meth_set_read(method, bio_read);
	BIO_meth_set_write(method, bio_write);
	BIO_meth_set_ctrl(method, bio_ctrl);
	fcntl(listening, F_SETFL, O_NONBLOCK);
	if (bind(listening, (void *)&address, sizeof(address)) || listen(listening, 64))
		return 1;
	for (;;) {
		while ((fd = accept(listening, 0, 0)) >= 0)
			begin(fd);
		run();
		poll(0, 0, 1);
	}
}
