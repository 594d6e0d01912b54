/* SPDX-License-Identifier: GPL-2.0-only */
/* What is done today: a SIGBUS handler that maps anonymous memory. */
#ifndef _NOSIGBUS_BENCH_HANDLER_H
#define _NOSIGBUS_BENCH_HANDLER_H

#include "bench.h"

#include <signal.h>

static char *pool;
/* What the handler maps: the page of the access, or, as libwayland's does, the pool. */
static size_t handler_maps;

static inline void on_sigbus(int sig, siginfo_t *info, void *context)
{
	char *page = (char *)((unsigned long)info->si_addr & ~(PAGE - 1));

	(void)sig;
	(void)context;
	if (mmap(handler_maps == PAGE ? page : pool, handler_maps, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		abort();
}

static inline void handle_sigbus(void)
{
	struct sigaction sa = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO };

	MUST(sigaction(SIGBUS, &sa, NULL));
}

#endif /* _NOSIGBUS_BENCH_HANDLER_H */
