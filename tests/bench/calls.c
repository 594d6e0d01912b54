// SPDX-License-Identifier: GPL-2.0-only
/* The cost per call of opting in and out, and of system calls that meet an opted-in mapping. */

#include "bench.h"

#include <sys/eventfd.h>
#include <sys/wait.h>

#define ROUNDS	7
#define LEN	(2048 * PAGE)
#define HUGE	(1UL << 30)

/* A file, a mapping of it, and what is done. */
struct call {
	enum backing backing;
	enum class class;
	bool opted_in;
	size_t size;
};

struct opened {
	int fd;
	char *addr;
};

static struct opened open_mapped(const struct call *c, size_t file_size, size_t len)
{
	struct opened o;

	o.fd = new_file(c->backing, file_size);
	o.addr = map(c->backing, c->class, o.fd, len);
	if (c->opted_in)
		opt_in(o.addr, len);
	return o;
}

static void close_mapped(struct opened *o, size_t len)
{
	MUST(munmap(o->addr, len));
	close(o->fd);
}

/* ENABLE and DISABLE, or two mprotect(2). The page table has size bytes of the mapping. */
static double to_and_fro(const void *arg)
{
	enum { TIMES = 64 };
	const struct call *c = arg;
	int fd = new_file(c->backing, LEN);
	char *addr = map(c->backing, c->class, fd, LEN);
	u64 start, total = 0;

	for (int i = 0; i < TIMES; i++) {
		read_pages(addr, c->size, 1);
		start = now();
		if (c->opted_in) {
			opt_in(addr, LEN);
			opt_out(addr, LEN);
		} else {
			MUST(mprotect(addr, LEN, PROT_NONE));
			MUST(mprotect(addr, LEN, class_prot(c->class)));
		}
		total += now() - start;
	}
	MUST(munmap(addr, LEN));
	close(fd);
	return (double)total / TIMES;
}

/* ftruncate(2) that makes the file larger, over stand-ins if it is opted in. */
static double growth(const void *arg)
{
	enum { TIMES = 32 };
	const struct call *c = arg;
	struct opened o = open_mapped(c, 0, LEN);
	u64 start, total = 0;

	for (int i = 0; i < TIMES; i++) {
		if (c->opted_in)
			read_pages(o.addr, c->size, 1);
		start = now();
		MUST(ftruncate(o.fd, c->size));
		total += now() - start;
		MUST(ftruncate(o.fd, 0));
	}
	close_mapped(&o, LEN);
	return (double)total / TIMES;
}

/* The first access past EOF of a file without stand-ins so far, or to anonymous memory. */
static double first_access(const void *arg)
{
	enum { TIMES = 32 };
	const struct call *c = arg;
	u64 start, total = 0;

	if (!can_opt_in(c->class))
		return NONE;
	for (int i = 0; i < TIMES; i++) {
		struct opened o = open_mapped(c, 0, LEN);

		start = now();
		read_pages(o.addr, PAGE, 1);
		total += now() - start;
		close_mapped(&o, LEN);
	}
	return (double)total / TIMES;
}

/* pwrite(2) of that many bytes, inside the file. */
static double write_to(int fd, size_t size)
{
	enum { TIMES = 512 };
	static char bytes[1 << 16];
	u64 start = now();

	for (int i = 0; i < TIMES; i++)
		MUST(pwrite(fd, bytes, size, 0));
	return (double)(now() - start) / TIMES;
}

static double writing(const void *arg)
{
	const struct call *c = arg;
	struct opened o = open_mapped(c, LEN, LEN);
	double cost = write_to(o.fd, c->size);

	close_mapped(&o, LEN);
	return cost;
}

/* If the mapping is opted in, it has a stand-in past EOF. No call grows the file over that. */
static double writing_below(const void *arg)
{
	const struct call *c = arg;
	struct opened o = open_mapped(c, LEN, LEN + PAGE);
	double cost;

	if (c->opted_in)
		read_pages(o.addr + LEN, PAGE, 1);
	cost = write_to(o.fd, c->size);
	close_mapped(&o, LEN + PAGE);
	return cost;
}

/* To another file of that file system, which is not mapped. */
static double writing_another(const void *arg)
{
	const struct call *c = arg;
	struct opened o = open_mapped(c, LEN, LEN);
	int fd = new_file(c->backing, LEN);
	double cost = write_to(fd, c->size);

	close(fd);
	close_mapped(&o, LEN);
	return cost;
}

/* ftruncate(2) by size bytes, down and up again, where no page is mapped. */
static double truncating(const void *arg)
{
	enum { TIMES = 128 };
	const struct call *c = arg;
	struct opened o = open_mapped(c, LEN, LEN);
	u64 start = now();

	for (int i = 0; i < TIMES; i++) {
		MUST(ftruncate(o.fd, LEN - c->size));
		MUST(ftruncate(o.fd, LEN));
	}
	start = now() - start;
	close_mapped(&o, LEN);
	return (double)start / TIMES / 2;
}

/* A mapping of 1 GiB that has a page in 16 in the page table, of a file or past EOF. */
static struct opened open_huge(const struct call *c)
{
	struct opened o = open_mapped(c, 0, HUGE);

	MUST(ftruncate(o.fd, c->size));
	read_pages(o.addr, HUGE, 16);
	return o;
}

static double forking(const void *arg)
{
	struct opened o = open_huge(arg);
	u64 start = now();
	pid_t pid = MUST(fork());

	if (!pid)
		_exit(0);
	start = now() - start;
	MUST(waitpid(pid, NULL, 0));
	close_mapped(&o, HUGE);
	return start;
}

static double unmapping(const void *arg)
{
	struct opened o = open_huge(arg);
	u64 start = now();

	MUST(munmap(o.addr, HUGE));
	start = now() - start;
	close(o.fd);
	return start;
}

/* Opted-in mappings, one of which has a stand-in. */
struct watched {
	int mappings;
	/*
	 * What is measured: to read an event; that and the STATUS that asks for the next one; or to
	 * read an eventfd and ask for the STATUS of all mappings.
	 */
	enum { EVENT, EVENT_AND_STATUS, STATUS_OF_ALL } by;
};

static void ask(const char *addr)
{
	struct nosigbus_status status = { .addr = (unsigned long)addr };

	MUST(ioctl(device(), NOSIGBUS_STATUS, &status));
}

/* Learning which mapping has the stand-in. */
static double learning(const void *arg)
{
	enum { TIMES = 4 };
	const struct watched *w = arg;
	int fd = new_file(MEMFD, 0), signalled = MUST(eventfd(0, EFD_CLOEXEC));
	/* Leave gaps, so that the VMAs do not merge. */
	size_t apart = 2 * PAGE;
	bool by_status = w->by == STATUS_OF_ALL;
	char *base = (char *)0x100000000000;
	u64 start, value, total = 0;

	for (int i = 0; i < w->mappings; i++) {
		struct nosigbus_enable request = {
			.addr = (unsigned long)base + i * apart,
			.len = PAGE,
			.flags = by_status ? NOSIGBUS_EVENTFD : NOSIGBUS_EVENTS,
			.eventfd = by_status ? signalled : 0,
			.cookie = by_status ? 0 : i,
		};

		MUST(mmap(base + i * apart, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0));
		MUST(ioctl(device(), NOSIGBUS_ENABLE, &request));
	}
	for (int i = 0; i < TIMES; i++) {
		char *addr = base + (i * 7919 + 17) % w->mappings * apart;

		read_pages(addr, PAGE, 1);
		start = now();
		if (by_status) {
			MUST(read(signalled, &value, sizeof(value)));
			for (int j = 0; j < w->mappings; j++)
				ask(base + j * apart);
			total += now() - start;
		} else {
			struct nosigbus_event event;

			MUST(read(device(), &event, sizeof(event)));
			if (w->by == EVENT_AND_STATUS)
				ask(base + event.cookie * apart);
			total += now() - start;
			if (w->by == EVENT)
				ask(base + event.cookie * apart);
		}
		MUST(madvise(addr, PAGE, MADV_DONTNEED));
	}
	MUST(munmap(base, w->mappings * apart));
	close(signalled);
	close(fd);
	return (double)total / TIMES;
}

static void call(const char *name, double (*measure)(const void *arg), int rounds,
		 enum backing backing, enum class class, size_t size)
{
	struct call plain = { backing, class, false, size }, opted_in = plain;

	if (!can_opt_in(class))
		return;
	opted_in.opted_in = true;
	against_plain(name, rounds, measure, &plain, &opted_in);
}

int main(void)
{
	static const struct {
		const char *name;
		size_t pages;
	} growths[] = { { "1", 1 }, { "16", 16 }, { "512", 512 } };
	static const struct watched one = { 1, EVENT }, many = { 10000, EVENT };
	static const struct watched one_asked = { 1, EVENT_AND_STATUS };
	static const struct watched many_asked = { 10000, EVENT_AND_STATUS };
	static const struct watched all = { 10000, STATUS_OF_ALL };
	char name[64];

	call("enable-disable-untouched", to_and_fro, ROUNDS, MEMFD, SHARED_READ, 0);
	call("enable-disable-touched", to_and_fro, ROUNDS, MEMFD, SHARED_READ, LEN);
	call("enable-disable-shared-write", to_and_fro, ROUNDS, MEMFD, SHARED_WRITE, 0);
	for (int i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "growth-zero-%s", growths[i].name);
		call(name, growth, ROUNDS, MEMFD, SHARED_READ, growths[i].pages * PAGE);
		snprintf(name, sizeof(name), "growth-shadow-%s", growths[i].name);
		call(name, growth, ROUNDS, MEMFD, SHARED_WRITE, growths[i].pages * PAGE);
	}
	contest("first-access", ROUNDS, (const struct subject []){
		{ "anonymous", first_access, &(const struct call){ ANONYMOUS, SHARED_READ } },
		{ "shared-read", first_access, &(const struct call){ MEMFD, SHARED_READ, true } },
		{ "shared-write", first_access, &(const struct call){ MEMFD, SHARED_WRITE, true } },
		{},
	});
	call("write-memfd", writing, ROUNDS, MEMFD, SHARED_READ, PAGE);
	call("write-ext4", writing, ROUNDS, EXT4, SHARED_READ, PAGE);
	call("write-64k-memfd", writing, ROUNDS, MEMFD, SHARED_READ, 1 << 16);
	call("write-below-memfd", writing_below, ROUNDS, MEMFD, SHARED_READ, PAGE);
	call("write-below-ext4", writing_below, ROUNDS, EXT4, SHARED_READ, PAGE);
	call("write-another-ext4", writing_another, ROUNDS, EXT4, SHARED_READ, PAGE);
	call("ftruncate-memfd", truncating, ROUNDS, MEMFD, SHARED_READ, PAGE);
	call("ftruncate-ext4", truncating, ROUNDS, EXT4, SHARED_READ, PAGE);
	call("fork-1g", forking, 3, MEMFD, SHARED_READ, HUGE);
	call("munmap-1g", unmapping, 3, MEMFD, SHARED_READ, HUGE);
	if (!IS_MODULE)
		return 0;
	contest("event", 3, (const struct subject []){
		{ "one", learning, &one },
		{ "many", learning, &many },
		{ "one-asked", learning, &one_asked },
		{ "many-asked", learning, &many_asked },
		{ "status-of-all", learning, &all },
		{},
	});
	return 0;
}
