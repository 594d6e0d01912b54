// SPDX-License-Identifier: GPL-2.0-only
/*
 * Several threads or processes read past EOF at once, each its own part. They share one mapping, or
 * each has its own mapping of one file. The cost is per page of all of them together. Another
 * contest writes inside the file, with a mapping for each thread.
 */

#include "bench.h"

#include <pthread.h>
#include <sys/wait.h>

#define ROUNDS	7
#define MOST	4
#define PAGES	(32 * 512)
#define LEN	(PAGES * PAGE)

struct work {
	enum backing backing;
	bool processes, own_mappings;
	/* To pages of the file. */
	bool writes, opted_in;
	int workers;
};

/* In memory that processes share. */
struct worker {
	char *addr;
	size_t len;
	bool writes;
	pthread_barrier_t *barrier;
	/* Each worker reads the clock itself, because the others may not have a CPU just then. */
	u64 start, end;
};

struct shared {
	pthread_barrier_t barrier;
	struct worker workers[MOST];
};

static void *work(void *arg)
{
	struct worker *w = arg;

	pthread_barrier_wait(w->barrier);
	w->start = now();
	if (w->writes)
		write_pages(w->addr, w->len, 1);
	else
		read_pages(w->addr, w->len, 1);
	w->end = now();
	return NULL;
}

static void begin(struct worker *w, bool process, pthread_t *thread)
{
	if (!process) {
		errno = pthread_create(thread, NULL, work, w);
		MUST(errno ? -1 : 0);
	} else if (!MUST(fork())) {
		work(w);
		_exit(0);
	}
}

static double per_page(const void *arg)
{
	const struct work *job = arg;
	int fd = new_file(MEMFD, job->writes ? LEN : 0);
	size_t len = LEN / job->workers;
	pthread_barrierattr_t attr;
	pthread_t threads[MOST];
	u64 start = -1, end = 0;
	enum class class = job->writes ? SHARED_WRITE : SHARED_READ;
	struct worker *workers;
	struct shared *shared;
	char *addr;

	if (job->writes)
		MUST(fallocate(fd, 0, 0, LEN));
	shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	MUST(shared);
	workers = shared->workers;
	pthread_barrierattr_init(&attr);
	pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_barrier_init(&shared->barrier, &attr, job->workers);

	addr = map(job->backing, class, fd, LEN);
	if (job->own_mappings)
		MUST(munmap(addr, LEN));
	else if (job->backing != ANONYMOUS)
		opt_in(addr, LEN);
	for (int i = 0; i < job->workers; i++) {
		workers[i] = (struct worker){ addr + i * len, len, job->writes, &shared->barrier };
		if (job->own_mappings) {
			/* A page between each two. */
			workers[i].addr += i * PAGE;
			MUST(mmap(workers[i].addr, len, class_prot(class), MAP_SHARED | MAP_FIXED, fd,
				  job->writes ? i * len : 0));
			if (job->opted_in)
				opt_in(workers[i].addr, len);
		}
		begin(&workers[i], job->processes, &threads[i]);
	}

	for (int i = 0; i < job->workers; i++) {
		if (job->processes)
			MUST(wait(NULL));
		else
			pthread_join(threads[i], NULL);
	}
	for (int i = 0; i < job->workers; i++) {
		start = workers[i].start < start ? workers[i].start : start;
		end = workers[i].end > end ? workers[i].end : end;
	}
	MUST(munmap(addr, LEN + MOST * PAGE));
	MUST(munmap(shared, PAGE));
	close(fd);
	return (double)(end - start) / PAGES;
}

#define SUBJECTS(...)								\
	{ "1", per_page, &(const struct work){ __VA_ARGS__, false, true, 1 } },	\
	{ "2", per_page, &(const struct work){ __VA_ARGS__, false, true, 2 } },	\
	{ "4", per_page, &(const struct work){ __VA_ARGS__, false, true, 4 } },	\
	{}

/* So many threads, plain and opted in. */
#define INSIDE(n)								\
	{ "plain-" #n, per_page, &(const struct work){ MEMFD, false, true, true, false, n } }, \
	{ "opted-in-" #n, per_page, &(const struct work){ MEMFD, false, true, true, true, n } }

int main(void)
{
	contest("scaling-anonymous", ROUNDS, (const struct subject []){
		SUBJECTS(ANONYMOUS, false, false)
	});
	contest("scaling-threads", ROUNDS, (const struct subject []){
		SUBJECTS(MEMFD, false, false)
	});
	contest("scaling-threads-own", ROUNDS, (const struct subject []){
		SUBJECTS(MEMFD, false, true)
	});
	contest("scaling-processes", ROUNDS, (const struct subject []){
		SUBJECTS(MEMFD, true, false)
	});
	contest("scaling-processes-own", ROUNDS, (const struct subject []){
		SUBJECTS(MEMFD, true, true)
	});
	contest("scaling-inside", ROUNDS, (const struct subject []){
		INSIDE(1), INSIDE(2), INSIDE(4), {}
	});
	return 0;
}
