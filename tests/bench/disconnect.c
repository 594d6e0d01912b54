// SPDX-License-Identifier: GPL-2.0-only
/*
 * The time from the compositor's first access past EOF until the client notices that it is
 * disconnected. The compositor learns of the access from an event of the device in its event loop,
 * or from a SIGBUS handler that maps memory and sets a flag.
 */

#include "handler.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define ROUNDS	5

static volatile sig_atomic_t handled;

static void map_and_tell(int sig, siginfo_t *info, void *context)
{
	on_sigbus(sig, info, context);
	handled = 1;
}

/* One turn of the event loop. Returns the cookie of the pool that has got a stand-in. */
static u64 next_event(int loop)
{
	struct nosigbus_event event;
	struct epoll_event ready;

	MUST(epoll_wait(loop, &ready, 1, -1));
	MUST(read(ready.data.fd, &event, sizeof(event)));
	return event.cookie;
}

/* Starts a client that waits for its compositor. It stores the time when it is disconnected. */
static pid_t start_client(int socket, int compositors, u64 *when)
{
	pid_t pid = MUST(fork());
	char byte;

	if (pid)
		return pid;
	close(compositors);
	/* The compositor begins the measurement, and the client ends it. */
	measuring = true;
	if (read(socket, &byte, 1))
		_exit(1);
	*when = now();
	_exit(0);
}

static double disconnecting(const void *arg)
{
	const bool opted_in = *(const bool *)arg;
	struct epoll_event ready = { .events = EPOLLIN, .data.fd = device() };
	int fd = new_file(MEMFD, 0), loop = MUST(epoll_create1(EPOLL_CLOEXEC)), sockets[2], status;
	u64 *when = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), start;
	pid_t client;

	MUST(when);
	MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets));
	MUST(epoll_ctl(loop, EPOLL_CTL_ADD, device(), &ready));
	pool = map(MEMFD, SHARED_READ, fd, PAGE);
	handler_maps = PAGE;
	handled = 0;
	if (opted_in) {
		struct nosigbus_enable request = {
			.addr = (unsigned long)pool, .len = PAGE, .flags = NOSIGBUS_EVENTS,
			.cookie = sockets[0],
		};

		MUST(ioctl(device(), NOSIGBUS_ENABLE, &request));
	}
	*when = 0;
	client = start_client(sockets[1], sockets[0], when);
	close(sockets[1]);
	/* Time for the client to start waiting. */
	usleep(20000);

	start = now();
	read_pages(pool, PAGE, 1);
	if (opted_in)
		MUST(shutdown(next_event(loop), SHUT_RDWR));
	else if (handled)
		MUST(shutdown(sockets[0], SHUT_RDWR));
	else
		abort();
	MUST(waitpid(client, &status, 0));
	if (status || *when < start)
		abort();
	start = *when - start;
	measuring = false;

	MUST(munmap(pool, PAGE));
	MUST(munmap(when, PAGE));
	close(sockets[0]);
	close(loop);
	close(fd);
	return start;
}

int main(void)
{
	struct sigaction sa = { .sa_sigaction = map_and_tell, .sa_flags = SA_SIGINFO };

	MUST(sigaction(SIGBUS, &sa, NULL));
	contest("disconnect", ROUNDS, (const struct subject []){
		{ "opted-in", disconnecting, &(const bool){ true } },
		{ "handler-page", disconnecting, &(const bool){ false } },
		{},
	});
	return 0;
}
