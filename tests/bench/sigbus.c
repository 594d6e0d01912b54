// SPDX-License-Identifier: GPL-2.0-only
/* Reading pages past EOF: opted in, and with a SIGBUS handler that maps memory. Per page. */

#include "bench.h"

#include <signal.h>

#define PAGES	512
#define LEN	(PAGES * PAGE)
#define ROUNDS	5

struct handling {
	bool opted_in;
	/* How much the handler maps. */
	size_t around;
};

static char *addr;
static size_t around;

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
	char *at = around == LEN ? addr : (char *)((unsigned long)info->si_addr & ~(PAGE - 1));

	(void)sig;
	(void)context;
	if (mmap(at, around, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		 0) == MAP_FAILED)
		abort();
}

static double per_page(const void *arg)
{
	const struct handling *h = arg;
	int fd = new_file(MEMFD, 0);
	u64 start;

	addr = map(MEMFD, SHARED_READ, fd, LEN);
	around = h->around;
	if (h->opted_in)
		enable(addr, LEN);
	start = now();
	read_pages(addr, LEN, 1);
	start = now() - start;
	MUST(munmap(addr, LEN));
	close(fd);
	return (double)start / PAGES;
}

#define SUBJECT(name, ...) { name, per_page, &(const struct handling){ __VA_ARGS__ } }

int main(void)
{
	struct sigaction sa = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO };

	MUST(sigaction(SIGBUS, &sa, NULL));
	contest("sigbus", ROUNDS, (const struct subject []){
		SUBJECT("opted-in", true),
		SUBJECT("handler-page", false, PAGE),
		SUBJECT("handler-pool", false, LEN),
		{},
	});
	return 0;
}
