// SPDX-License-Identifier: GPL-2.0-only
/*
 * A user who has opted in a mapping makes no other user's system call wait: neither for
 * those whom an event wakes, nor for memory. Needs root, for a cgroup and many open files.
 */

#include "mapped_file.h"
#include "status.h"
#include "sys_files.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>

/* Of each file that is written to, and how often. */
#define PAGES		16
#define WRITES		100

/* What the two sides of a test share. */
struct shared {
	volatile bool ready, stop, failed;
	/* What the reader has done. */
	volatile long rounds;
};

FIXTURE(wait) {
	MAPPED_FILE;
	struct shared *shared;
	pid_t reader;
};

FIXTURE_SETUP(wait)
{
	if (geteuid())
		SKIP(return, "takes root");
	set_up_file(_metadata, &self->file, MEMFD, page_size(), PAGES);
	self->shared = mmap(NULL, self->page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			    -1, 0);
	ASSERT_NE(self->shared, MAP_FAILED);
}

FIXTURE_TEARDOWN(wait)
{
	if (!geteuid())
		tear_down(&self->file);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/*
 * Makes the file longer by a page and shorter again, and sorts how long the former takes.
 * False if it fails.
 */
static bool write_to_file(const struct mapped_file *m, double took[WRITES])
{
	char content[m->page];

	memset(content, CONTENT, m->page);
	for (int i = 0; i < WRITES; i++) {
		double start;

		/* Time for others to have a stand-in there. */
		usleep(2000);
		start = seconds();
		if (pwrite(m->fd, content, m->page, m->page) != (ssize_t)m->page)
			return false;
		took[i] = seconds() - start;
		if (ftruncate(m->fd, m->page))
			return false;
	}
	qsort(took, WRITES, sizeof(*took), by_value);
	return true;
}

static bool await_ready(struct shared *shared, pid_t reader)
{
	for (int i = 0; i < 3000 && !shared->ready && !shared->failed; i++) {
		if (waitpid(reader, NULL, WNOHANG))
			return false;
		usleep(10000);
	}
	return shared->ready;
}

/* How many wait for the eventfd, each by a descriptor of its own. */
#define WAITERS	20000

/* An eventfd that takes long to signal; -1 if there is none. */
static int awaited_event(void)
{
	struct rlimit files = { 2 * WAITERS, 2 * WAITERS };
	struct epoll_event wanted = { .events = EPOLLIN };
	int event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	int waiters = epoll_create1(EPOLL_CLOEXEC);

	if (event < 0 || waiters < 0 || setrlimit(RLIMIT_NOFILE, &files))
		return -1;
	for (int i = 0; i < WAITERS; i++)
		if (epoll_ctl(waiters, EPOLL_CTL_ADD, fcntl(event, F_DUPFD_CLOEXEC, 0), &wanted))
			return -1;
	return event;
}

/*
 * Has the event signalled again and again: one stand-in at a time, where the writer does not come.
 * (Interrupts are off during a wake-up, and what is unmapped has to interrupt who has it mapped.)
 */
static void signal_events(struct mapped_file *m, struct shared *shared, int event)
{
	struct nosigbus_status status;
	char *addr = map_file(SHARED_READ, m->fd, m->len);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (addr == MAP_FAILED || enable_with(m->device, addr, m->len, NOSIGBUS_EVENTFD, event)) {
		shared->failed = true;
		_exit(1);
	}
	while (!shared->stop) {
		status_of(m->device, addr, 0, &status);
		/* The counter is left alone: to read it wakes everybody as well. */
		read_byte(addr + (PAGES - 1) * m->page);
		madvise(addr, m->len, MADV_DONTNEED);
		shared->rounds++;
		shared->ready = true;
	}
	_exit(0);
}

/* The median of how long writers wait, and of how long it takes to wake all who wait. */
TEST_F_TIMEOUT(wait, for_those_whom_an_event_wakes, 300)
{
	double took[WRITES], signals[9];
	int event = awaited_event();
	__u64 one = 1;

	ASSERT_GE(event, 0) TH_LOG("%s", strerror(errno));
	for (int i = 0; i < 9; i++) {
		double start = seconds();

		ASSERT_EQ(write(event, &one, sizeof(one)), sizeof(one));
		signals[i] = seconds() - start;
		ASSERT_EQ(read(event, &one, sizeof(one)), sizeof(one));
	}
	qsort(signals, 9, sizeof(*signals), by_value);

	self->reader = fork();
	ASSERT_GE(self->reader, 0);
	if (!self->reader)
		signal_events(&self->file, self->shared, event);
	ASSERT_TRUE(await_ready(self->shared, self->reader));
	ASSERT_TRUE(write_to_file(&self->file, took));
	self->shared->stop = true;
	waitpid(self->reader, NULL, 0);
	EXPECT_GT(self->shared->rounds, WRITES / 10);
	TH_LOG("a signal takes %.2f ms, a write %.2f ms, at most %.2f ms, beside %ld signals",
	       signals[4] * 1e3, took[WRITES / 2] * 1e3, took[WRITES - 1] * 1e3,
	       self->shared->rounds);
	EXPECT_LT(took[WRITES / 2], signals[4] / 2);
}

#define CGROUP		"/sys/fs/cgroup/nosigbus-wait"
/* How much of the file's mapping is read: so many page tables. */
#define TABLES		2048
#define TABLE		(2UL << 20)

/* In a cgroup that has more memory than it should, and so waits for it. */
static void take_page_tables(struct mapped_file *m, struct shared *shared)
{
	size_t len = TABLES * TABLE;
	char *addr;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (!write_to(CGROUP "/cgroup.procs", "0"))
		shared->failed = true;
	addr = map_file(SHARED_READ, m->fd, len);
	if (addr == MAP_FAILED || enable(m->device, addr, len))
		shared->failed = true;
	if (shared->failed)
		_exit(1);
	shared->ready = true;
	while (!shared->stop) {
		madvise(addr, len, MADV_POPULATE_READ);
		madvise(addr, len, MADV_DONTNEED);
		shared->rounds++;
	}
	_exit(0);
}

/* How often the cgroup was over memory.high. */
static long times_over_high(void)
{
	return number_in(CGROUP "/memory.events", "high ");
}

TEST_F_TIMEOUT(wait, for_memory, 300)
{
	double took[WRITES];
	long before;

	need(_metadata, "memcg");
	write_to("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
	ASSERT_TRUE(!mkdir(CGROUP, 0755) || errno == EEXIST);
	self->reader = fork();
	ASSERT_GE(self->reader, 0);
	if (!self->reader)
		take_page_tables(&self->file, self->shared);
	ASSERT_TRUE(await_ready(self->shared, self->reader));
	ASSERT_TRUE(write_to(CGROUP "/memory.high", "4096"));
	/* Until it is slowed down. */
	before = times_over_high();
	for (int i = 0; i < 3000 && times_over_high() < before + 50; i++)
		usleep(10000);
	EXPECT_GE(times_over_high(), before + 50);
	ASSERT_TRUE(write_to_file(&self->file, took));
	self->shared->stop = true;
	kill(self->reader, SIGKILL);
	waitpid(self->reader, NULL, 0);
	rmdir(CGROUP);
	TH_LOG("a write takes %.2f ms, at most %.2f ms", took[WRITES / 2] * 1e3,
	       took[WRITES - 1] * 1e3);
	/* A task in such a cgroup waits for up to two seconds. */
	EXPECT_LT(took[WRITES - 1], 0.5);
}

TEST_HARNESS_MAIN
