// SPDX-License-Identifier: GPL-2.0-only
/* Reading pages past EOF: opted in, and with a SIGBUS handler that maps memory. Per page. */

#include "handler.h"

#define PAGES	512
#define LEN	(PAGES * PAGE)
#define ROUNDS	5

struct handling {
	bool opted_in;
	size_t handler_maps;
};

static double per_page(const void *arg)
{
	const struct handling *h = arg;
	int fd = new_file(MEMFD, 0);
	u64 start;

	pool = map(MEMFD, SHARED_READ, fd, LEN);
	handler_maps = h->handler_maps;
	if (h->opted_in)
		opt_in(pool, LEN);
	start = now();
	read_pages(pool, LEN, 1);
	start = now() - start;
	MUST(munmap(pool, LEN));
	close(fd);
	return (double)start / PAGES;
}

#define SUBJECT(name, ...) { name, per_page, &(const struct handling){ __VA_ARGS__ } }

int main(void)
{
	handle_sigbus();
	contest("sigbus", ROUNDS, (const struct subject []){
		SUBJECT("opted-in", true),
		SUBJECT("handler-page", false, PAGE),
		SUBJECT("handler-pool", false, LEN),
		{},
	});
	return 0;
}
