/* An HTTP/1.1 server or client whose every socket operation goes through io_uring.
 *   uring server PORT        answers each request with 201 and 1,000 bytes, 50 ms after it came
 *   uring client PORT PATH   POSTs 10 bytes, and reads the answer to its end */
#include <arpa/inet.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BODY_BYTES 1000
#define WAIT_US 50000

static struct io_uring ring;

static int finish(struct io_uring_sqe *sqe)
{
	struct io_uring_cqe *cqe;
	int result;

	(void)sqe;
	if (io_uring_submit(&ring) < 0 || io_uring_wait_cqe(&ring, &cqe))
		exit(2);
	result = cqe->res;
	io_uring_cqe_seen(&ring, cqe);
	return result;
}

static int receive(int fd, char *to, int bytes)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

	io_uring_prep_recv(sqe, fd, to, bytes, 0);
	return finish(sqe);
}

static void send_all(int fd, const char *from, int bytes)
{
	while (bytes > 0) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
		int sent;

		io_uring_prep_send(sqe, fd, from, bytes, MSG_NOSIGNAL);
		sent = finish(sqe);
		if (sent <= 0)
			return;
		from += sent;
		bytes -= sent;
	}
}

static void serve(int fd)
{
	char request[4096], answer[BODY_BYTES + 200];
	int got, head;

	while ((got = receive(fd, request, sizeof(request))) > 0) {
		usleep(WAIT_US);
		head = sprintf(answer, "HTTP/1.1 201 Created\r\nContent-Length: %d\r\n\r\n", BODY_BYTES);
		memset(answer + head, 'x', BODY_BYTES);
		send_all(fd, answer, head + BODY_BYTES);
	}
	close(fd);
}

static int server(struct sockaddr_in *address)
{
	int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (void *)address, sizeof(*address)) || listen(fd, 16))
		return 1;
	for (;;) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
		int peer;

		io_uring_prep_accept(sqe, fd, 0, 0, 0);
		peer = finish(sqe);
		if (peer < 0)
			return 1;
		serve(peer);
	}
}

static int client(struct sockaddr_in *address, const char *path)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0), got, length = 0;
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
	char buffer[4096];

	io_uring_prep_connect(sqe, fd, (void *)address, sizeof(*address));
	if (finish(sqe))
		return 1;
	got = sprintf(buffer, "POST %s HTTP/1.1\r\nHost: uring\r\nContent-Length: 10\r\n\r\n0123456789", path);
	send_all(fd, buffer, got);
	while (length < BODY_BYTES && (got = receive(fd, buffer, sizeof(buffer))) > 0)
		length += got;
	close(fd);
	return length < BODY_BYTES;
}

int main(int argc, char **argv)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	if (argc < 3 || io_uring_queue_init(8, &ring, 0))
		return 3;
	address.sin_port = htons(atoi(argv[2]));
	return strcmp(argv[1], "server") ? client(&address, argv[3]) : server(&address);
}
