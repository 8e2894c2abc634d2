/* What a pair of SSL_write and SSL_read takes: two ends of a session in one thread, over a pair of
 * sockets, and a request of 100 bytes there and back.
 *
 *     pair PEM TIMES...    prints ns a pair for each number of times read from standard input */
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

static const char request[] = "GET /a/path/of/some/length HTTP/1.1\r\nHost: localhost\r\n"
			      "User-Agent: pair\r\nAccept: */*\r\n\r\n";
static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsmall\n";

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

/* Both ends take turns until neither has anything to say. */
static void shake_hands(SSL *one, SSL *other)
{
	int done = 0;

	while (done != 2)
		done = (SSL_do_handshake(one) == 1) + (SSL_do_handshake(other) == 1);
}

static SSL *end(SSL_CTX *context, int fd)
{
	SSL *ssl = SSL_new(context);

	SSL_set_fd(ssl, fd);
	return ssl;
}

static void carry(SSL *from, SSL *to, const char *text)
{
	char got[4096];

	if (SSL_write(from, text, strlen(text)) <= 0 || SSL_read(to, got, sizeof(got)) <= 0)
		exit(1);
}

int main(int count, char **words)
{
	SSL_CTX *servers = SSL_CTX_new(TLS_server_method()),
		*clients = SSL_CTX_new(TLS_client_method());
	SSL *server, *client;
	int fds[2], times, i;

	if (count != 2 || SSL_CTX_use_certificate_chain_file(servers, words[1]) != 1 ||
	    SSL_CTX_use_PrivateKey_file(servers, words[1], SSL_FILETYPE_PEM) != 1 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds))
		return 1;
	server = end(servers, fds[0]);
	client = end(clients, fds[1]);
	SSL_set_accept_state(server);
	SSL_set_connect_state(client);
	shake_hands(client, server);
	while (scanf("%d", &times) == 1) {
		double begun = seconds();

		for (i = 0; i < times; i++) {
			carry(client, server, request);
			carry(server, client, answer);
		}
		printf("%.0f\n", (seconds() - begun) * 1e9 / times / 2);
		fflush(stdout);
	}
	return 0;
}
