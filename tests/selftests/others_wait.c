// SPDX-License-Identifier: GPL-2.0-only
/*
 * A mapping that one user has opted in must not delay system calls of other users. They must not
 * wait for the wake-ups of an event, nor for memory, nor for a walk of all mappings of the file
 * where there are no stand-ins. A task that waits for another task's read can be killed. Needs
 * root, for a cgroup, many open files and many mappings.
 */

#include "broken_file_systems.h"
#include "fuse_server.h"
#include "mapped_file.h"
#include "status.h"
#include "sys_files.h"

#include <linux/membarrier.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>

/* The pages that are mapped of a file, and how often it is written to. */
#define PAGES		16
#define WRITES		100

/* What the two sides of a test share. */
struct shared {
	volatile bool ready, stop, failed;
	/* false: the reader pauses. */
	volatile bool reading;
	volatile long mappings;
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
 * Grows the file by a page, over a stand-in, and truncates it again. Repeats this. took: how long
 * each growth took, sorted. False if a step fails.
 */
static bool write_to_file(const struct mapped_file *m, double took[WRITES])
{
	/* The stand-in is the writer's own. To unmap one of another process takes an interrupt. */
	char *addr = map_file(SHARED_READ, m->fd, 2 * m->page), content[m->page];
	bool fine = addr != MAP_FAILED && !enable(m->device, addr, 2 * m->page);

	memset(content, CONTENT, m->page);
	for (int i = 0; fine && i < WRITES; i++) {
		double start;

		usleep(2000);
		fine = !read_byte(addr + m->page);
		start = seconds();
		fine &= pwrite(m->fd, content, m->page, m->page) == (ssize_t)m->page;
		took[i] = seconds() - start;
		fine &= !ftruncate(m->fd, m->page);
	}
	munmap(addr, 2 * m->page);
	qsort(took, WRITES, sizeof(*took), by_value);
	return fine;
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

/* The number of waiters for the eventfd. Each has a descriptor of its own. */
#define WAITERS	20000

/* Creates an eventfd with WAITERS waiters, which takes long to signal; -1 if that fails. */
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
 * Makes the module signal the event in a loop, with one stand-in each time. The writer does not
 * grow the file over it: to unmap it would need an interrupt of this process, and interrupts are
 * off during a wake-up.
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
		/* Do not read the eventfd's counter: that would wake all waiters, too. */
		read_byte(addr + (PAGES - 1) * m->page);
		madvise(addr, m->len, MADV_DONTNEED);
		shared->rounds++;
		shared->ready = true;
	}
	_exit(0);
}

/* A write (median) must take less than half as long as waking all waiters (median). */
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
/* How many page tables the reader fills. Each covers a huge page. */
#define TABLES		2048

/* Allocates page tables in a cgroup. Once the cgroup is over memory.high, that takes long. */
static void take_page_tables(struct mapped_file *m, struct shared *shared)
{
	size_t len = TABLES * HUGE_PAGE;
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

/* Lowers memory.high of the reader's cgroup, and waits until the cgroup is over it all the time. */
static bool slow_down(struct __test_metadata *_metadata, struct shared *shared, pid_t reader)
{
	long before;

	if (!await_ready(shared, reader) || !write_to(CGROUP "/memory.high", "4096"))
		return false;
	before = times_over_high();
	for (int i = 0; i < 3000 && times_over_high() < before + 50; i++)
		usleep(10000);
	EXPECT_GE(times_over_high(), before + 50);
	return true;
}

static void end_reader(struct shared *shared, pid_t reader)
{
	shared->stop = true;
	kill(reader, SIGKILL);
	waitpid(reader, NULL, 0);
	rmdir(CGROUP);
}

static bool make_cgroup(void)
{
	write_to("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
	return !mkdir(CGROUP, 0755) || errno == EEXIST;
}

/* In seconds. A task whose cgroup is over memory.high sleeps for up to two. */
#define AT_MOST		0.5

TEST_F_TIMEOUT(wait, for_memory, 300)
{
	double took[WRITES];

	need(_metadata, "memcg");
	ASSERT_TRUE(make_cgroup());
	self->reader = fork();
	ASSERT_GE(self->reader, 0);
	if (!self->reader)
		take_page_tables(&self->file, self->shared);
	ASSERT_TRUE(slow_down(_metadata, self->shared, self->reader));
	ASSERT_TRUE(write_to_file(&self->file, took));
	end_reader(self->shared, self->reader);
	TH_LOG("a write takes %.2f ms, at most %.2f ms", took[WRITES / 2] * 1e3,
	       took[WRITES - 1] * 1e3);
	EXPECT_LT(took[WRITES - 1], AT_MOST);
}

/* IOV_MAX of the kernel. */
#define AT_ONCE		1024

/* Maps the same huge page of the file side by side, and reads it in each of the mappings. */
static void read_a_huge_page(struct mapped_file *m, struct shared *shared)
{
	char read[AT_ONCE];
	struct iovec bytes[AT_ONCE], to = { read, AT_ONCE };
	size_t len = AT_ONCE * HUGE_PAGE;
	char *area = mmap(NULL, len + HUGE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
			  -1, 0);
	char *addr = (char *)(((unsigned long)area + HUGE_PAGE - 1) & -HUGE_PAGE);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	shared->failed = area == MAP_FAILED || !write_to(CGROUP "/cgroup.procs", "0");
	for (size_t at = 0; !shared->failed && at < len; at += HUGE_PAGE)
		shared->failed = mmap(addr + at, HUGE_PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, m->fd, 0) !=
			addr + at;
	if (shared->failed || enable(m->device, addr, len) || madvise(addr, len, MADV_HUGEPAGE)) {
		shared->failed = true;
		_exit(1);
	}
	/* Use one system call: on return to user space the task sleeps with nothing locked. */
	for (int i = 0; i < AT_ONCE; i++)
		bytes[i] = (struct iovec){ addr + i * HUGE_PAGE, 1 };
	shared->ready = true;
	while (!shared->stop) {
		process_vm_readv(getpid(), &to, 1, bytes, AT_ONCE, 0);
		madvise(addr, len, MADV_DONTNEED);
		shared->rounds++;
	}
	_exit(0);
}

/* While the reader waits for memory, it must not hold the lock of a folio of the file. */
TEST_F_TIMEOUT(wait, for_memory_with_a_page_locked, 300)
{
	double took[WRITES], start;
	struct mapped_file m = self->file;

	need(_metadata, "memcg");
	need_backing(_metadata, TMPFS_HUGE);
	m.fd = new_file(TMPFS_HUGE);
	ASSERT_GE(m.fd, 0);
	ASSERT_EQ(fill(m.fd, CONTENT, 0, HUGE_PAGE), 0);
	ASSERT_TRUE(make_cgroup());
	self->reader = fork();
	ASSERT_GE(self->reader, 0);
	if (!self->reader)
		read_a_huge_page(&m, self->shared);
	ASSERT_TRUE(slow_down(_metadata, self->shared, self->reader));
	for (int i = 0; i < WRITES; i++) {
		usleep(2000);
		start = seconds();
		ASSERT_EQ(fill(m.fd, CONTENT, 0, self->page), 0);
		took[i] = seconds() - start;
	}
	end_reader(self->shared, self->reader);
	close(m.fd);
	qsort(took, WRITES, sizeof(*took), by_value);
	TH_LOG("a write takes %.2f ms, at most %.2f ms", took[WRITES / 2] * 1e3,
	       took[WRITES - 1] * 1e3);
	EXPECT_LT(took[WRITES - 1], AT_MOST);
}

#define MAX_MAP_COUNT	"/proc/sys/vm/max_map_count"
#define NOBODY		65534
/* How often a page is appended, and by how many pages the file is longer in the end. */
#define APPENDS		64

/* The reader stops to make mappings after this time: a slow kernel gets fewer of them. */
#define SECONDS_TO_MAP	10

/* Makes so many plain mappings of the file, and one in which it reads past EOF (if opt_in). */
static void read_past_eof(struct mapped_file *m, struct shared *shared, long mappings, bool opt_in)
{
	size_t len = 2 * APPENDS * m->page;
	double end = seconds() + SECONDS_TO_MAP;
	struct stat file;
	char *addr;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (setresuid(NOBODY, NOBODY, NOBODY))
		shared->failed = true;
	addr = map_file(SHARED_READ, m->fd, len);
	if (addr == MAP_FAILED || (opt_in && enable(m->device, addr, len)))
		shared->failed = true;
	while (shared->mappings < mappings && seconds() < end && !shared->failed) {
		shared->failed = map_file(SHARED_READ, m->fd, len) == MAP_FAILED;
		shared->mappings++;
	}
	if (shared->failed)
		_exit(1);
	shared->ready = true;
	while (!shared->stop) {
		if (!shared->reading || !opt_in) {
			usleep(1000);
			continue;
		}
		fstat(m->fd, &file);
		read_byte(addr + file.st_size);
		shared->rounds++;
	}
	_exit(0);
}

/* Medians in seconds, except for close. */
struct waits {
	/* An append of a page, while the page behind EOF is being read, and then while not. */
	double append, append_over_nothing;
	/* Cutting that page off again. */
	double cut;
	/* At most: closing an inotify descriptor, while others append. */
	double close;
};

static bool append(const struct mapped_file *m, long page, double *took)
{
	char content[m->page];
	double start;

	memset(content, CONTENT, m->page);
	start = seconds();
	if (pwrite(m->fd, content, m->page, page * m->page) != (ssize_t)m->page)
		return false;
	*took = seconds() - start;
	return true;
}

/* Makes the file longer by a page and shorter again. */
static bool append_and_cut(const struct mapped_file *m, double *appended, double *cut)
{
	double start;

	if (!append(m, 1, appended))
		return false;
	start = seconds();
	if (ftruncate(m->fd, m->page))
		return false;
	*cut = seconds() - start;
	return true;
}

static void keep_appending(struct mapped_file *m)
{
	double appended, cut;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		usleep(2000);
		if (!append_and_cut(m, &appended, &cut))
			_exit(1);
	}
}

static double median(double *took, int times)
{
	qsort(took, times, sizeof(*took), by_value);
	return took[times / 2];
}

static bool close_inotify(double *took)
{
	int fd = inotify_init1(IN_CLOEXEC);
	double start;

	/* It watches another inode. */
	if (fd < 0 || inotify_add_watch(fd, "/", IN_MODIFY) < 0)
		return false;
	start = seconds();
	close(fd);
	*took = seconds() - start;
	return true;
}

#define CLOSES		20

static bool measure(struct mapped_file *m, struct shared *shared, struct waits *waits)
{
	double appended[APPENDS], cut[APPENDS], closed[CLOSES];
	bool fine = true;
	pid_t writer;

	shared->reading = true;
	for (int i = 0; i < APPENDS; i++) {
		/* Give the reader time to map a stand-in there. */
		usleep(2000);
		if (!append_and_cut(m, &appended[i], &cut[i]))
			return false;
	}
	waits->append = median(appended, APPENDS);
	waits->cut = median(cut, APPENDS);

	writer = fork();
	if (!writer)
		keep_appending(m);
	for (int i = 0; i < CLOSES; i++)
		fine &= close_inotify(&closed[i]);
	median(closed, CLOSES);
	waits->close = closed[CLOSES - 1];
	kill(writer, SIGKILL);
	fine &= waitpid(writer, NULL, 0) == writer && !ftruncate(m->fd, m->page);

	usleep(2000);
	shared->reading = false;
	usleep(10000);
	for (int i = 0; i < APPENDS; i++)
		fine &= append(m, i + 1, &appended[i]);
	waits->append_over_nothing = median(appended, APPENDS);
	return fine && !ftruncate(m->fd, m->page);
}

static void measure_beside(struct __test_metadata *_metadata, struct mapped_file *m,
			   struct shared *shared, long mappings, bool opt_in, struct waits *waits)
{
	pid_t reader;

	memset(shared, 0, sizeof(*shared));
	reader = fork();
	ASSERT_GE(reader, 0);
	if (!reader)
		read_past_eof(m, shared, mappings, opt_in);
	EXPECT_TRUE(await_ready(shared, reader) && measure(m, shared, waits));
	kill(reader, SIGKILL);
	waitpid(reader, NULL, 0);
	TH_LOG("%6ld mappings, %s: append %.3f ms, over nothing %.3f ms, cut %.3f ms, close at most %.1f ms",
	       shared->mappings, opt_in ? "opted in" : "natively", waits->append * 1e3,
	       waits->append_over_nothing * 1e3, waits->cut * 1e3, waits->close * 1e3);
}

/* Another process has many mappings of the file and reads past EOF in a loop. */
TEST_F_TIMEOUT(wait, for_a_walk_of_all_mappings, 600)
{
	long max_map_count = number_in(MAX_MAP_COUNT, ""), mappings = number_of("MAPPINGS", 100000);
	struct waits native, opted_in;
	char text[32];

	ASSERT_TRUE(write_to(MAX_MAP_COUNT, "10000000"));
	for (long many = 1; many < mappings; many *= 1000) {
		measure_beside(_metadata, &self->file, self->shared, many, false, &native);
		measure_beside(_metadata, &self->file, self->shared, many, true, &opted_in);
	}
	measure_beside(_metadata, &self->file, self->shared, mappings, false, &native);
	measure_beside(_metadata, &self->file, self->shared, mappings, true, &opted_in);
	snprintf(text, sizeof(text), "%ld", max_map_count);
	write_to(MAX_MAP_COUNT, text);
	EXPECT_GT(self->shared->rounds, APPENDS / 2);
	/* Truncation walks all mappings of the file, even without the module. */
	EXPECT_LT(opted_in.append_over_nothing, native.cut / 8);
	EXPECT_LT(opted_in.append, 2 * native.cut);
}

/* How many tasks meet errors, and how many other mappings the file has. */
#define KEEPERS		48
#define KEPT_MAPPINGS	20000
#define CUTS		12

/* Meets an error at a page of its own and clears it, in a loop. */
static void meet_errors(struct mapped_file *m, struct shared *shared, int fd, int page)
{
	struct nosigbus_status status;
	size_t len = (KEEPERS + 1) * m->page;
	char *addr;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	addr = map_file(SHARED_WRITE, fd, len);
	if (addr == MAP_FAILED || enable_with(m->device, addr, len, NOSIGBUS_RECORD_ERRORS, 0))
		shared->failed = true;
	while (!shared->failed) {
		if (read_byte(addr + page * m->page) < 0 ||
		    status_of(m->device, addr, NOSIGBUS_CLEAR_ERROR, &status))
			shared->failed = true;
		if (status.error)
			__atomic_add_fetch(&shared->rounds, 1, __ATOMIC_RELAXED);
		shared->ready = true;
	}
	_exit(1);
}

/* Makes KEPT_MAPPINGS mappings, and reads the first page past EOF in a loop. */
static void read_next_page(struct mapped_file *m, struct shared *shared, int fd, size_t len)
{
	char *addr = map_file(SHARED_READ, fd, len + m->page);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (addr == MAP_FAILED || enable(m->device, addr, len + m->page))
		shared->failed = true;
	for (int i = 0; i < KEPT_MAPPINGS; i++)
		if (map_file(SHARED_READ, fd, len) == MAP_FAILED)
			shared->failed = true;
	shared->ready = true;
	for (;;) {
		read_byte(addr + len);
		shared->mappings++;
	}
}

/*
 * How long (median) ftruncate() takes. grow: it grows the file by a page that only the reader has
 * mapped. Otherwise it cuts off the last page, which is in all mappings.
 */
static double resize(const struct mapped_file *m, struct shared *shared, int fd, size_t len, bool grow)
{
	double took[CUTS];

	for (int i = 0; i < CUTS; i++) {
		double start = seconds();
		long before = shared->mappings;

		/* Wait until the reader has a stand-in there. */
		while (grow && shared->mappings < before + 2 && seconds() < start + 10)
			usleep(1000);
		start = seconds();
		if (ftruncate(fd, grow ? len + m->page : len - m->page))
			return -1;
		took[i] = seconds() - start;
		if (ftruncate(fd, len))
			return -1;
	}
	return median(took, CUTS);
}

/*
 * Tasks that meet errors walk all mappings of the file, one task after the other. A task that grows
 * the file must wait for few of them: while it waits, closing an inotify descriptor waits for it.
 */
TEST_F_TIMEOUT(wait, for_many_who_meet_errors, 600)
{
	int fd = new_file(SMALL_TMPFS), filler = new_file(SMALL_TMPFS);
	struct sched_param high = { .sched_priority = 1 }, normal = { 0 };
	size_t len = (KEEPERS + 1) * self->file.page;
	pid_t keepers[KEEPERS], reader;
	double cut, beside;

	ASSERT_GE(fd, 0);
	ASSERT_GE(filler, 0);
	ASSERT_EQ(ftruncate(fd, len), 0);
	ASSERT_EQ(fill_up(filler), -ENOSPC);
	reader = fork();
	ASSERT_GE(reader, 0);
	if (!reader)
		read_next_page(&self->file, self->shared, fd, len);
	ASSERT_TRUE(await_ready(self->shared, reader));
	self->shared->ready = false;
	cut = resize(&self->file, self->shared, fd, len, false);
	for (int i = 0; i < KEEPERS; i++) {
		keepers[i] = fork();
		ASSERT_GE(keepers[i], 0);
		if (!keepers[i])
			meet_errors(&self->file, self->shared, fd, i + 1);
	}
	EXPECT_TRUE(await_ready(self->shared, keepers[0]));
	EXPECT_EQ(sched_setscheduler(0, SCHED_FIFO, &high), 0);
	beside = resize(&self->file, self->shared, fd, len, true);
	sched_setscheduler(0, SCHED_OTHER, &normal);
	for (int i = 0; i < KEEPERS; i++) {
		kill(keepers[i], SIGKILL);
		waitpid(keepers[i], NULL, 0);
	}
	kill(reader, SIGKILL);
	waitpid(reader, NULL, 0);
	EXPECT_FALSE(self->shared->failed);
	TH_LOG("cutting a page off takes %.2f ms; growing beside %d who meet errors, %ld times, %.2f ms",
	       cut * 1e3, KEEPERS, self->shared->rounds, beside * 1e3);
	EXPECT_GT(beside, 0);
	/* Truncation walks all mappings of the file, even without the module. */
	EXPECT_LT(beside, 6 * cut);
	close(filler);
	close(fd);
}

#define INSIDE		200

/*
 * How long INSIDE faults take in a private mapping, all answered by the file system; -1 if anything
 * fails. With an attacker, the file grows over one of its stand-ins before each fault, without a
 * report of fsnotify.
 */
static double fault_inside(const struct mapped_file *m, char *addr, int fd, const char *attacker)
{
	double took = 0;

	for (int i = 1; i <= INSIDE; i++) {
		if (attacker && (read_byte(attacker + i * m->page) || pwrite(fd, "", 1, i * m->page) != 1))
			return -1;
		took -= seconds();
		if (write_byte(addr, 1))
			return -1;
		took += seconds();
		if (madvise(addr, m->page, MADV_DONTNEED))
			return -1;
	}
	return took;
}

/*
 * The file grows over stand-ins without a report of fsnotify: the test writes through the first
 * open of a memfd and maps another one. The next fault inside EOF then walks all mappings of the
 * file. Other tasks' faults must not do that each time.
 */
TEST_F_TIMEOUT(wait, for_growths_that_nobody_reports, 300)
{
	int fd = new_file(MEMFD), mapped, device = self->file.device;
	size_t page = self->file.page, len = (INSIDE + 2) * page;
	double cuts[CUTS], cut, alone, beside;
	char path[PATH_MAX], *addr, *attacker;

	ASSERT_GE(fd, 0);
	ASSERT_EQ(ftruncate(fd, page), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	mapped = open(path, O_RDWR | O_CLOEXEC);
	ASSERT_GE(mapped, 0);
	addr = map_file(PRIVATE, mapped, len);
	attacker = map_file(SHARED_READ, mapped, len);
	ASSERT_NE(addr, MAP_FAILED);
	ASSERT_NE(attacker, MAP_FAILED);
	ASSERT_EQ(enable(device, addr, len), 0);
	ASSERT_EQ(enable(device, attacker, len), 0);
	for (int i = 0; i < KEPT_MAPPINGS; i++)
		ASSERT_NE(map_file(SHARED_READ, mapped, len), MAP_FAILED);
	for (int i = 0; i < CUTS; i++) {
		ASSERT_EQ(ftruncate(fd, 2 * page), 0);
		cuts[i] = seconds();
		ASSERT_EQ(ftruncate(fd, page), 0);
		cuts[i] = seconds() - cuts[i];
	}
	cut = median(cuts, CUTS);
	/* Such growth is noticed only by faults in mappings that have had a stand-in. Map one. */
	EXPECT_EQ(read_byte(addr + len - page), 0);

	alone = fault_inside(&self->file, addr, -1, NULL);
	beside = fault_inside(&self->file, addr, fd, attacker);
	TH_LOG("cutting a page off takes %.2f ms; %d faults inside the file %.2f ms, after growths %.2f ms",
	       cut * 1e3, INSIDE, alone * 1e3, beside * 1e3);
	EXPECT_GT(alone, 0);
	EXPECT_GT(beside, 0);
	/* Truncation walks all mappings of the file, even without the module. */
	EXPECT_LT(beside, 2 * alone + INSIDE / 8 * cut);
	close(mapped);
	close(fd);
}

/* Only one reader can run on a CPU. Most of the others are preempted in the middle of a fault. */
#define READERS		24
#define ERRORS		20

/* Maps a stand-in in a loop. SCHED_IDLE: runs only when no other task wants the CPU. */
static void read_past_end(struct mapped_file *m, struct shared *shared, int fd, size_t len)
{
	struct sched_param priority = { 0 };
	char *addr;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	addr = map_file(SHARED_READ, fd, len + m->page);
	if (addr == MAP_FAILED || enable(m->device, addr, len + m->page) ||
	    sched_setscheduler(0, SCHED_IDLE, &priority))
		shared->failed = true;
	while (!shared->failed) {
		if (read_byte(addr + len) || madvise(addr + len, m->page, MADV_DONTNEED))
			shared->failed = true;
		__atomic_add_fetch(&shared->rounds, 1, __ATOMIC_RELAXED);
		shared->ready = true;
	}
	_exit(1);
}

/* The longest time that a write takes to a page for which the full file system has no block. */
static double meet_an_error(struct mapped_file *m, int fd, size_t len)
{
	struct nosigbus_status status;
	char *addr = map_file(SHARED_WRITE, fd, len);
	double longest = 0;

	if (addr == MAP_FAILED || enable_with(m->device, addr, len, NOSIGBUS_RECORD_ERRORS, 0))
		return -1;
	for (int i = 0; i < ERRORS; i++) {
		double start;

		if (read_byte(addr))
			return -1;
		start = seconds();
		if (write_byte(addr, 1))
			return -1;
		if (seconds() - start > longest)
			longest = seconds() - start;
		if (status_of(m->device, addr, NOSIGBUS_CLEAR_ERROR, &status) || !status.error)
			return -1;
	}
	munmap(addr, len);
	return longest;
}

/* A task that meets an error waits for the readers. It must not have to retry without end. */
TEST_F_TIMEOUT(wait, for_readers_when_one_meets_an_error, 60)
{
	int fd = new_file(SMALL_EXT4), filler = new_file(SMALL_EXT4);
	size_t len = self->file.page;
	pid_t readers[READERS];
	double alone, beside;

	ASSERT_GE(fd, 0);
	ASSERT_GE(filler, 0);
	ASSERT_EQ(ftruncate(fd, len), 0);
	ASSERT_EQ(fill_up(filler), -ENOSPC);
	alone = meet_an_error(&self->file, fd, len);
	for (int i = 0; i < READERS; i++) {
		readers[i] = fork();
		ASSERT_GE(readers[i], 0);
		if (!readers[i])
			read_past_end(&self->file, self->shared, fd, len);
	}
	EXPECT_TRUE(await_ready(self->shared, readers[0]));
	beside = meet_an_error(&self->file, fd, len);
	for (int i = 0; i < READERS; i++) {
		kill(readers[i], SIGKILL);
		waitpid(readers[i], NULL, 0);
	}
	EXPECT_FALSE(self->shared->failed);
	TH_LOG("%.2f ms at most, beside %d readers %.2f ms, %ld rounds of theirs", alone * 1e3, READERS,
	       beside * 1e3, self->shared->rounds);
	EXPECT_GT(alone, 0);
	EXPECT_GT(beside, 0);
	/* If the readers made the task retry, it would not come to an end. */
	EXPECT_LT(beside, 5);
	close(filler);
	close(fd);
}

#define CLEARERS	8
#define HOGS		4

/* Clears an error that does not exist, in a loop. Runs only when no other task wants the CPU. */
static void clear_nothing(struct mapped_file *m, struct shared *shared)
{
	struct sched_param priority = { 0 };
	struct nosigbus_status status;
	char *addr;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	addr = map_file(PRIVATE, m->fd, m->len);
	if (addr == MAP_FAILED || enable(m->device, addr, m->len) ||
	    sched_setscheduler(0, SCHED_IDLE, &priority) || setresuid(NOBODY, NOBODY, NOBODY))
		shared->failed = true;
	while (!shared->failed) {
		status_of(m->device, addr, NOSIGBUS_CLEAR_ERROR, &status);
		shared->rounds++;
		shared->ready = true;
	}
	_exit(1);
}

static void hog(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;)
		;
}

/* A task that clears no error holds no lock that a writer needs, even while it is preempted. */
TEST_F_TIMEOUT(wait, for_who_clears_no_error, 120)
{
	struct sched_param high = { .sched_priority = 1 }, normal = { 0 };
	pid_t others[CLEARERS + HOGS];
	double longest = 0;

	for (int i = 0; i < CLEARERS + HOGS; i++) {
		if (i == CLEARERS) {
			ASSERT_TRUE(await_ready(self->shared, others[0]));
			usleep(100000);
		}
		others[i] = fork();
		ASSERT_GE(others[i], 0);
		if (!others[i] && i < CLEARERS)
			clear_nothing(&self->file, self->shared);
		if (!others[i])
			hog();
	}
	EXPECT_EQ(sched_setscheduler(0, SCHED_FIFO, &high), 0);
	for (int i = 0; i < 10 * WRITES; i++) {
		double start;

		usleep(2000);
		start = seconds();
		EXPECT_EQ(pwrite(self->file.fd, "x", 1, 0), 1);
		if (seconds() - start > longest)
			longest = seconds() - start;
	}
	sched_setscheduler(0, SCHED_OTHER, &normal);
	/* Kill the hogs first: the other tasks need the CPU to exit. */
	for (int i = CLEARERS + HOGS - 1; i >= 0; i--) {
		kill(others[i], SIGKILL);
		waitpid(others[i], NULL, 0);
	}
	EXPECT_FALSE(self->shared->failed);
	TH_LOG("a write takes %.2f ms at most, beside %ld rounds", longest * 1e3,
	       self->shared->rounds);
	EXPECT_LT(longest, 0.2);
}

static bool ends_within(pid_t pid, double patience)
{
	double end = seconds() + patience;

	while (waitpid(pid, NULL, WNOHANG) != pid) {
		if (seconds() > end)
			return false;
		usleep(10000);
	}
	return true;
}

#define RCU_NORMAL	"/sys/kernel/rcu_normal"
/* How long a grace period waits before it asks idle CPUs. */
#define RCU_PATIENCE	"/sys/module/rcutree/parameters/jiffies_till_first_fqs"
#define TRIES		20
/* So often, at most, the other task may come between two steps of the module. */
#define MOST_LATE	2

/* Reads the first page past EOF. */
static void read_first_page(struct mapped_file *m, struct shared *shared, int fd,
			    struct fuse_server *server)
{
	char *addr = map_file(SHARED_READ, fd, m->page);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	catch_signals();
	server->refused = getpid();
	if (addr != MAP_FAILED && !enable(m->device, addr, m->page)) {
		shared->reading = true;
		while (!shared->ready)
			sched_yield();
		read_byte(addr);
	}
	_exit(1);
}

/* Grows the file while the victim waits for a grace period, and reads its first page. */
static void grow_and_read(struct shared *shared, int fd, pid_t victim)
{
	char byte = CONTENT, state;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (!shared->reading)
		sched_yield();
	shared->ready = true;
	do {
		state = thread_state(victim);
	} while (state != 'D' && state != 'Z');
	if (state == 'D' && pwrite(fd, &byte, 1, (1 << 20) - 1) == 1)
		(void)!pread(fd, &byte, 1, 0);
	_exit(1);
}

/*
 * Prints where the victim waits. Returns whether that is where it cannot be killed
 * (Documentation/errors.rst, 'Limitations'): the other task has begun to read between two steps of
 * the module.
 */
static bool came_in_between(pid_t victim, int times)
{
	char path[PATH_MAX], line[256];
	bool there = false;
	FILE *stack;

	snprintf(path, sizeof(path), "/proc/%d/stack", victim);
	stack = fopen(path, "re");
	if (!stack)
		return false;
	printf("# not killed (%d times); it waits in\n", times);
	while (fgets(line, sizeof(line), stack)) {
		printf("# %s", line);
		there |= !!strstr(line, "read_cache_folio");
	}
	fclose(stack);
	return there;
}

/*
 * The first fault past EOF attaches the module to the file, and waits for a grace period. Meanwhile
 * the file has grown, and another task has begun to read the page from a FUSE server that never
 * answers. The faulting task waits for that read, and it can be killed.
 */
TEST_F_TIMEOUT(wait, for_a_read_without_end_until_killed, 300)
{
	char path[PATH_MAX], normal[24], patience[24];
	struct fuse_server *server;
	pid_t pid, victim, other;
	bool ended, killed = false;
	int fd, tries = 0, late = 0;

	snprintf(normal, sizeof(normal), "%ld", number_in(RCU_NORMAL, ""));
	snprintf(patience, sizeof(patience), "%ld", number_in(RCU_PATIENCE, ""));
	do {
		char directory[] = "/tmp/others_wait.XXXXXX";

		server = set_up_fuse(_metadata, (struct fuse_server){ .keeps_writes_back = true },
				     directory, path, &pid);
		self->shared->reading = false;
		self->shared->ready = false;
		/* Have grace periods take long enough for the other task. */
		EXPECT_TRUE(write_to(RCU_NORMAL, "1"));
		EXPECT_TRUE(write_to(RCU_PATIENCE, "250"));
		fd = open(path, O_RDWR | O_CLOEXEC);
		EXPECT_GE(fd, 0);
		victim = fork();
		ASSERT_GE(victim, 0);
		if (!victim)
			read_first_page(&self->file, self->shared, fd, server);
		other = fork();
		ASSERT_GE(other, 0);
		if (!other)
			grow_and_read(self->shared, fd, victim);
		for (int i = 0; i < 1000 && !server->unanswered && !server->reads; i++) {
			usleep(10000);
			/* It has got zeros: the other task was too late. */
			if (thread_state(victim) == 'Z')
				break;
		}
		/* Wait for a grace period that begins after the victim's. Then it gets on. */
		syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
		usleep(500000);
		ended = waitpid(victim, NULL, WNOHANG);
		if (!ended) {
			bool waited = server->unanswered && !server->reads;

			EXPECT_EQ(kill(victim, SIGKILL), 0);
			ended = ends_within(victim, 20);
			if (!ended)
				EXPECT_TRUE(came_in_between(victim, ++late));
			killed = waited && ended;
		}

		/* When the server dies, all requests that wait for it end. */
		kill(other, SIGKILL);
		EXPECT_EQ(kill(pid, SIGKILL), 0);
		EXPECT_EQ(waitpid(pid, NULL, 0), pid);
		EXPECT_TRUE(ends_within(other, 20));
		if (!ended)
			waitpid(victim, NULL, 0);
		close(fd);
		EXPECT_EQ(umount2(directory, MNT_DETACH), 0);
		EXPECT_EQ(rmdir(directory), 0);
		munmap(server, self->file.page);
	} while (++tries < TRIES && !killed && late < MOST_LATE);
	EXPECT_TRUE(write_to(RCU_NORMAL, normal));
	EXPECT_TRUE(write_to(RCU_PATIENCE, patience));
	EXPECT_TRUE(killed);
	if (killed)
		TH_LOG("the victim has waited at try %d", tries);
}

TEST_HARNESS_MAIN
