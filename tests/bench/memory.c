// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory in bytes, per opted-in mapping, per file that has such a mapping, and per page past EOF.
 * This process is in the memory cgroup BENCH_CGROUP, which counts it.
 */

#include "bench.h"

#define ROUNDS	3
#define MAPPINGS 2000
#define FILES	500
#define PAGES	8192

/* Without page tables: every mapping that is accessed has these. */
static double bytes(void)
{
	char path[PATH_MAX], name[64];
	long long value, total = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/memory.stat", getenv("BENCH_CGROUP"));
	f = fopen(path, "r");
	MUST(f ? 0 : -1);
	while (fscanf(f, "%63s %lld", name, &value) == 2) {
		if (!strcmp(name, "anon") || !strcmp(name, "file") || !strcmp(name, "kernel"))
			total += value;
		if (!strcmp(name, "pagetables"))
			total -= value;
	}
	fclose(f);
	return total;
}

/* The kernel updates memory.stat at least every two seconds. */
static double settled(void)
{
	struct timespec t = { .tv_sec = 3 };

	nanosleep(&t, NULL);
	return bytes();
}

static void *map_page(int fd)
{
	char *addr = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);

	MUST(addr);
	return addr;
}

/* Opting in more mappings of a file that has an opted-in mapping already. */
static double per_mapping(const void *arg)
{
	static char *addr[MAPPINGS];
	int fd = new_file(MEMFD, PAGE);
	double before;

	(void)arg;
	for (int i = 0; i < MAPPINGS; i++)
		addr[i] = map_page(fd);
	opt_in(addr[0], PAGE);
	before = settled();
	for (int i = 1; i < MAPPINGS; i++)
		opt_in(addr[i], PAGE);
	before = settled() - before;
	for (int i = 0; i < MAPPINGS; i++)
		MUST(munmap(addr[i], PAGE));
	close(fd);
	return before / (MAPPINGS - 1);
}

/*
 * Opting in one mapping of each file, and reading past EOF if arg is not null. This includes the
 * memory per mapping.
 */
static double per_file(const void *arg)
{
	static char *addr[FILES];
	int fds[FILES];
	double before;

	for (int i = 0; i < FILES; i++) {
		fds[i] = new_file(MEMFD, arg ? 0 : PAGE);
		addr[i] = map_page(fds[i]);
	}
	before = settled();
	for (int i = 0; i < FILES; i++) {
		opt_in(addr[i], PAGE);
		if (arg)
			read_pages(addr[i], PAGE, 1);
	}
	before = settled() - before;
	for (int i = 0; i < FILES; i++) {
		MUST(munmap(addr[i], PAGE));
		close(fds[i]);
	}
	return before / FILES;
}

struct access {
	enum class class;
	bool writes;
};

static double per_page(const void *arg)
{
	const struct access *a = arg;
	int fd = new_file(MEMFD, 0);
	double before;
	char *addr;

	if (!can_opt_in(a->class))
		return NONE;
	addr = map(MEMFD, a->class, fd, PAGES * PAGE);
	opt_in(addr, PAGES * PAGE);
	before = settled();
	if (a->writes)
		write_pages(addr, PAGES * PAGE, 1);
	else
		read_pages(addr, PAGES * PAGE, 1);
	before = settled() - before;
	MUST(munmap(addr, PAGES * PAGE));
	close(fd);
	return before / PAGES;
}

#define PER_PAGE(name, ...) { name, per_page, &(const struct access){ __VA_ARGS__ } }

int main(void)
{
	contest("memory", ROUNDS, (const struct subject []){
		{ "mapping", per_mapping, NULL },
		{ "file-and-mapping", per_file, NULL },
		{ "file-and-stand-in", per_file, "" },
		PER_PAGE("read-private", PRIVATE, false),
		PER_PAGE("read-shared-read", SHARED_READ, false),
		PER_PAGE("read-shared-write", SHARED_WRITE, false),
		PER_PAGE("write-private", PRIVATE, true),
		PER_PAGE("write-shared-write", SHARED_WRITE, true),
		{},
	});
	return 0;
}
