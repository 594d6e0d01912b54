// SPDX-License-Identifier: GPL-2.0-only
/* The first access to a page: inside the file, past EOF, and of anonymous memory. Per page. */

#include "bench.h"

#include <sys/prctl.h>

#define PAGES	2048
#define LEN	(PAGES * PAGE)
/* Some targets are half a per cent from 1. */
#define ROUNDS	21

struct access {
	enum backing backing;
	enum class class;
	bool opted_in, past_eof, writes;
	/* The distance of the accesses, in pages. */
	size_t apart;
	/* Measure a second access to the same pages. */
	bool again;
	bool large_folios;
};

/* Of each kind: a file of LEN bytes, an empty file, and one of LEN bytes in large folios. */
static int files[ANONYMOUS + 1][3];

static void go(const struct access *a, char *addr)
{
	if (a->writes)
		write_pages(addr, LEN, a->apart);
	else
		read_pages(addr, LEN, a->apart);
}

static double per_page(const void *arg)
{
	const struct access *a = arg;
	int fd = files[a->backing][a->large_folios ? 2 : a->past_eof];
	char *addr;
	u64 start;

	if (a->opted_in && !can_opt_in(a->class))
		return NONE;
	addr = map(a->backing, a->class, fd, LEN);
	if (a->opted_in)
		opt_in(addr, LEN);
	if (a->again)
		go(a, addr);
	start = now();
	go(a, addr);
	start = now() - start;
	MUST(munmap(addr, LEN));
	return (double)start / ((PAGES + a->apart - 1) / a->apart);
}

#define SUBJECT(name, ...) { name, per_page, &(const struct access){ __VA_ARGS__ } }

static void inside(const char *name, enum backing backing, enum class class, bool writes,
		   bool large_folios)
{
	struct access plain = {
		backing, class, .writes = writes, .apart = 1, .large_folios = large_folios,
	};
	struct access opted_in = plain;

	opted_in.opted_in = true;
	against_plain(name, ROUNDS, per_page, &plain, &opted_in);
}

int main(void)
{
	/* khugepaged would collapse the files that are written page by page into huge pages. */
	MUST(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
	for (enum backing backing = MEMFD; backing < ANONYMOUS; backing++) {
		files[backing][0] = new_file(backing, LEN);
		files[backing][1] = new_file(backing, 0);
		files[backing][2] = new_file_of(backing, LEN, 16 * PAGE);
	}

	inside("inside-memfd-read", MEMFD, SHARED_READ, false, false);
	inside("inside-memfd-write", MEMFD, SHARED_WRITE, true, false);
	inside("inside-memfd-private-read", MEMFD, PRIVATE, false, false);
	inside("inside-memfd-private-write", MEMFD, PRIVATE, true, false);
	inside("inside-ext4-read", EXT4, SHARED_READ, false, false);
	inside("inside-ext4-read-64k", EXT4, SHARED_READ, false, true);
	inside("inside-ext4-write", EXT4, SHARED_WRITE, true, false);
	inside("inside-ext4-private-write", EXT4, PRIVATE, true, false);

	contest("read", ROUNDS, (const struct subject []){
		SUBJECT("anonymous", ANONYMOUS, .apart = 1),
		SUBJECT("shared-read", MEMFD, SHARED_READ, true, true, .apart = 1),
		SUBJECT("private", MEMFD, PRIVATE, true, true, .apart = 1),
		SUBJECT("shared-write", MEMFD, SHARED_WRITE, true, true, .apart = 1),
		SUBJECT("shared-read-ext4", EXT4, SHARED_READ, true, true, .apart = 1),
		{},
	});
	contest("isolated-read", ROUNDS, (const struct subject []){
		SUBJECT("anonymous", ANONYMOUS, .apart = 17),
		SUBJECT("shared-read", MEMFD, SHARED_READ, true, true, .apart = 17),
		SUBJECT("private", MEMFD, PRIVATE, true, true, .apart = 17),
		SUBJECT("shared-read-ext4", EXT4, SHARED_READ, true, true, .apart = 17),
		{},
	});
	contest("write", ROUNDS, (const struct subject []){
		SUBJECT("anonymous", ANONYMOUS, .writes = true, .apart = 1),
		SUBJECT("private", MEMFD, PRIVATE, true, true, true, .apart = 1),
		SUBJECT("shared-write", MEMFD, SHARED_WRITE, true, true, true, .apart = 1),
		SUBJECT("shared-write-ext4", EXT4, SHARED_WRITE, true, true, true, .apart = 1),
		{},
	});
	contest("read-again", ROUNDS, (const struct subject []){
		SUBJECT("anonymous", ANONYMOUS, .apart = 1, .again = true),
		SUBJECT("shared-read", MEMFD, SHARED_READ, true, true, .apart = 1, .again = true),
		SUBJECT("inside", MEMFD, SHARED_READ, true, .apart = 1, .again = true),
		{},
	});
	return 0;
}
