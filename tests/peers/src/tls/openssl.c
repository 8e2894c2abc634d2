/* HTTPS by OpenSSL's interface, as a client or a server, by whichever library it is linked with:
 * what it calls is declared here, so that no library's headers are needed.
 *
 *     openssl client PORT HOW PATH...    asks for each path on one connection; prints the statuses
 *     openssl server PORT PEM HOW        answers each request by 200; prints its line
 *
 * HOW is made of words, parted by commas: plain; ex (SSL_read_ex, SSL_write_ex); bio (BIO_read,
 * BIO_write); half (with bio: reads are, writes are not); zero (writes of no bytes); shared (one of
 * two references is freed in the midst of an exchange); fork (each connection is served by a child,
 * forked after the handshake); peek (what is read is looked at first). */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct ssl_st SSL;
typedef struct ssl_ctx_st SSL_CTX;
typedef struct bio_st BIO;

const void *TLS_method(void);
SSL_CTX *SSL_CTX_new(const void *method);
int SSL_CTX_use_certificate_chain_file(SSL_CTX *context, const char *path);
int SSL_CTX_use_PrivateKey_file(SSL_CTX *context, const char *path, int kind);
SSL *SSL_new(SSL_CTX *context);
int SSL_set_fd(SSL *ssl, int fd);
int SSL_connect(SSL *ssl);
int SSL_accept(SSL *ssl);
int SSL_read(SSL *ssl, void *to, int bytes);
int SSL_peek(SSL *ssl, void *to, int bytes);
int SSL_write(SSL *ssl, const void *from, int bytes);
int SSL_get_error(const SSL *ssl, int result);
int SSL_shutdown(SSL *ssl);
void SSL_free(SSL *ssl);
#ifdef WITH_EX /* which BoringSSL has not */
int SSL_up_ref(SSL *ssl);
int SSL_read_ex(SSL *ssl, void *to, size_t bytes, size_t *moved);
int SSL_peek_ex(SSL *ssl, void *to, size_t bytes, size_t *moved);
int SSL_write_ex(SSL *ssl, const void *from, size_t bytes, size_t *moved);
#endif
#ifdef WITH_BIO
const void *BIO_f_ssl(void);
BIO *BIO_new(const void *kind);
long BIO_ctrl(BIO *bio, int command, long number, void *pointer);
int BIO_read(BIO *bio, void *to, int bytes);
int BIO_write(BIO *bio, const void *from, int bytes);
#define BIO_C_SET_SSL_ 109
#endif

static const char *how;
static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsmall\n";

struct session {
	SSL *ssl;
	BIO *bio;
	int fd;
};

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static int asked(const char *word)
{
	return strstr(how, word) != 0;
}

/* Look at what is to be read, a part of it first. */
static void look(struct session *s, char *to, int room)
{
#ifdef WITH_EX
	size_t moved = 0;

	if (asked("ex")) {
		SSL_peek_ex(s->ssl, to, 3, &moved);
		return;
	}
#endif
	SSL_peek(s->ssl, to, 3);
	SSL_peek(s->ssl, to, room);
}

static int receive(struct session *s, char *to, int room)
{
	if (asked("peek"))
		look(s, to, room);
#ifdef WITH_BIO
	if (s->bio)
		return BIO_read(s->bio, to, room);
#endif
#ifdef WITH_EX
	size_t moved = 0;

	if (asked("ex"))
		return SSL_read_ex(s->ssl, to, room, &moved) ? (int)moved : -1;
#endif
	return SSL_read(s->ssl, to, room);
}

static int transmit(struct session *s, const char *from, int bytes)
{
#ifdef WITH_BIO
	if (s->bio && !asked("half"))
		return BIO_write(s->bio, from, bytes);
#endif
#ifdef WITH_EX
	size_t moved = 0;

	if (asked("ex"))
		return SSL_write_ex(s->ssl, from, bytes, &moved) ? (int)moved : -1;
#endif
	return SSL_write(s->ssl, from, bytes);
}

/* A write of no bytes, whose result is then asked about as if it had failed. */
static void send_nothing(struct session *s)
{
	int result = transmit(s, "", 0);

	if (result <= 0 && !s->bio)
		SSL_get_error(s->ssl, result);
}

/* Send, with writes of no bytes before, between and after if that is asked for. */
static void deliver(struct session *s, const char *from)
{
	int bytes = strlen(from), half = asked("zero") ? bytes / 2 : bytes;

	if (asked("zero"))
		send_nothing(s);
	if (transmit(s, from, half) != half)
		fail("write");
	if (half == bytes)
		return;
	send_nothing(s);
	if (transmit(s, from + half, bytes - half) != bytes - half)
		fail("write");
	send_nothing(s);
}

static struct session begin(SSL_CTX *context, int fd, int (*shake)(SSL *))
{
	struct session s = {.ssl = SSL_new(context), .fd = fd};

	SSL_set_fd(s.ssl, fd);
	if (shake(s.ssl) != 1)
		fail("handshake");
#ifdef WITH_BIO
	if (asked("bio")) {
		s.bio = BIO_new(BIO_f_ssl());
		BIO_ctrl(s.bio, BIO_C_SET_SSL_, 0, s.ssl);
	}
#endif
	return s;
}

static void end(struct session *s)
{
	SSL_shutdown(s->ssl);
	close(s->fd);
	SSL_free(s->ssl);
}

/* Let go of one of two references. */
static void release_one(struct session *s)
{
#ifdef WITH_EX
	SSL_up_ref(s->ssl);
	SSL_free(s->ssl);
#endif
	usleep(s->fd ? 20000 : 0);
}

static struct sockaddr_in loopback(const char *port)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};

	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return at;
}

static void ask(struct session *s, const char *path)
{
	char request[2048], got[4096];
	int bytes;

	snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path);
	deliver(s, request);
	if (asked("shared"))
		release_one(s);
	for (bytes = 0; bytes <= 0 || !memmem(got, bytes, "small\n", 6);) {
		int more = receive(s, got + bytes, sizeof(got) - bytes);

		if (more <= 0)
			fail("read");
		bytes += more;
	}
	printf("%.3s\n", got + 9);
}

static int client(char **words)
{
	struct sockaddr_in at = loopback(words[0]);
	struct session s;
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	how = words[1];
	usleep(500000); /* who looks for new programs has found this one then */
	if (connect(fd, (void *)&at, sizeof(at)))
		fail("connect");
	s = begin(SSL_CTX_new(TLS_method()), fd, SSL_connect);
	for (words += 2; *words; words++)
		ask(&s, *words);
	end(&s);
	return 0;
}

/* Answer each request, a head without a body, until the client leaves. */
static void serve(struct session *s)
{
	char got[4096];
	int bytes = 0, more;

	while ((more = receive(s, got + bytes, sizeof(got) - 1 - bytes)) > 0) {
		bytes += more;
		got[bytes] = 0;
		if (!strstr(got, "\r\n\r\n"))
			continue;
		if (asked("shared"))
			release_one(s);
		deliver(s, answer);
		printf("\"%.*s\" 200\n", (int)strcspn(got, "\r"), got);
		fflush(stdout);
		bytes = 0;
	}
	end(s);
}

static void serve_in_child(struct session *s)
{
	if (fork()) {
		close(s->fd);
		SSL_free(s->ssl);
		return;
	}
	usleep(20000); /* the parent lets go first */
	serve(s);
	_exit(0);
}

_Noreturn static void server(char **words)
{
	struct sockaddr_in at = loopback(words[0]);
	SSL_CTX *context = SSL_CTX_new(TLS_method());
	int listening = socket(AF_INET, SOCK_STREAM, 0), on = 1;

	how = words[2];
	setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (SSL_CTX_use_certificate_chain_file(context, words[1]) != 1 ||
	    SSL_CTX_use_PrivateKey_file(context, words[1], 1) != 1)
		fail(words[1]);
	if (bind(listening, (void *)&at, sizeof(at)) || listen(listening, 100))
		fail("listen");
	signal(SIGCHLD, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	for (;;) {
		int fd = accept(listening, 0, 0);
		struct session s;
		char first;

		if (fd < 0)
			fail("accept");
		if (recv(fd, &first, 1, MSG_PEEK) != 1) { /* someone looks whether we listen */
			close(fd);
			continue;
		}
		s = begin(context, fd, SSL_accept);
		if (asked("fork"))
			serve_in_child(&s);
		else
			serve(&s);
	}
}

int main(int count, char **words)
{
	if (count > 4 && !strcmp(words[1], "client"))
		return client(words + 2);
	if (count > 4 && !strcmp(words[1], "server"))
		server(words + 2);
	fprintf(stderr, "%s: see the source for what it is told\n", words[0]);
	return 2;
}
