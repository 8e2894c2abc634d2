/* One request, /n/NUMBER, and its answer: at once, or by who a process becomes. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static char **words;

static void *ask(void *name)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(words[1]))};
	char text[4096];
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (name)
		prctl(PR_SET_NAME, name);
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (connect(fd, (void *)&to, sizeof(to)))
		_exit(1);
	snprintf(text, sizeof(text), "GET /n/%s HTTP/1.1\r\nHost: a\r\n\r\n", words[2]);
	if (write(fd, text, strlen(text)) < 0)
		_exit(2);
	while (read(fd, text, sizeof(text)) > 0)
		;
	return 0;
}

/* Write a title over all words and variables. */
static void overwrite(char *first)
{
	char *end = first;

	for (char **one = environ; *one; one++)
		end = *one + strlen(*one) + 1;
	memset(first, 0, end - first);
	strcpy(first, "app: worker");
}

/* Become a child, whose parent waits, or has gone. */
static void fork_off(int wait)
{
	pid_t parent = getpid();

	if (fork()) {
		if (wait)
			while (waitpid(-1, 0, 0) > 0)
				;
		_exit(0);
	}
	while (!wait && getppid() == parent)
		usleep(200);
}

int main(int argc, char **argv)
{
	const char *way = argc > 3 ? argv[3] : "";
	char *kept[] = {argv[0], strdup(argv[1]), strdup(argv[2])};
	pthread_t thread;

	words = kept;
	if (!strcmp(way, "forked") || !strcmp(way, "grandchild") || !strcmp(way, "thread"))
		fork_off(1);
	if (!strcmp(way, "grandchild"))
		fork_off(1);
	if (!strcmp(way, "orphan"))
		fork_off(0);
	if (!strcmp(way, "titled")) {
		overwrite(argv[0]);
		ask("worker-1");
		return usleep(300000);
	}
	if (!strcmp(way, "thread"))
		return pthread_create(&thread, 0, ask, "pool-1") || pthread_join(thread, 0);
	ask(*way ? "worker-1" : 0);
	return 0;
}
