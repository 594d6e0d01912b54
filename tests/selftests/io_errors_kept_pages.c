// SPDX-License-Identifier: GPL-2.0-only
/*
 * Stores to kept pages are not lost. With NOSIGBUS_RECORD_ERRORS a kept page (a shadow page inside
 * EOF) is mapped where the file system has refused an access. io_errors_recorded.c tests what it
 * contains and how the error is returned. Needs root, and the setup of selftests.sh.
 */

#include "broken_file_systems.h"
#include "mapped_file.h"
#include "status.h"

#include <linux/aio_abi.h>
#include <linux/falloc.h>
#include <linux/kernel-page-flags.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* Pages of the mapping, and of the file (a hole). In unseen_growth the file is shorter. */
#define PAGES		64

/* A process that makes no progress, or does not end, for so long is stuck. */
#define STUCK_SECONDS	60
/* So long that the tests find a stuck process themselves before the harness times out. */
#define HARNESS_SECONDS	600

/* A value that is none of those that the tests store in pages themselves. */
#define FOREIGN		0xee

/* A file on a full file system, and a mapping of it that records errors. */
struct subject {
	MAPPED_FILE;
	int filler;
	/* The size of the filler when the file system is full. */
	off_t filled;
};

static char *page_at(const struct subject *s, int i)
{
	return s->addr + i * s->page;
}

/* Fills the file system: it refuses all allocations from now on. */
static void fill_rest(struct __test_metadata *_metadata, struct subject *s, enum backing on,
		      int error)
{
	struct stat st;

	s->filler = new_file(on);
	ASSERT_GE(s->filler, 0);
	ASSERT_EQ(fill_up(s->filler), error);
	ASSERT_EQ(fstat(s->filler, &st), 0);
	s->filled = st.st_size;
}

static void map_it(struct __test_metadata *_metadata, struct subject *s)
{
	s->addr = map_file(SHARED_WRITE, s->fd, s->len);
	ASSERT_NE(s->addr, MAP_FAILED);
	ASSERT_EQ(enable_with(s->device, s->addr, s->len, NOSIGBUS_RECORD_ERRORS, 0), 0);
}

/* A file of so many pages, not mapped yet. */
static void set_up(struct __test_metadata *_metadata, struct subject *s, enum backing on,
		   int pages)
{
	set_up_file(_metadata, &s->file, on, 0, PAGES);
	s->filler = -1;
	ASSERT_EQ(ftruncate(s->fd, pages * s->page), 0);
}

static void take_down(struct __test_metadata *_metadata, struct subject *s)
{
	close(s->filler);
	tear_down(&s->file);
	EXPECT_EQ(seteuid(0), 0);
}

/* Frees space for so many pages, until take_space(). */
static int give_space(struct subject *s, int pages)
{
	return ftruncate(s->filler, s->filled - pages * s->page);
}

/* Takes back the space of give_space(), unless it has been used. */
static void take_space(struct subject *s)
{
	struct stat st;

	if (!fstat(s->filler, &st) && st.st_size < s->filled)
		fill(s->filler, 1, st.st_size, s->filled - st.st_size);
}

#define EXPECT_KEPT(pages) do {							\
	struct nosigbus_status _status;						\
										\
	ASSERT_EQ(status_of(s->device, s->addr, 0, &_status), 0);		\
	EXPECT_EQ(_status.errors, (__u64)(pages));				\
	EXPECT_EQ(_status.shadow_pages_held, (__u64)(pages));			\
} while (0)

/* How many seconds each race lasts at least. It goes on until it has done enough. */
static int race_seconds(void)
{
	const char *seconds = getenv("RACE_SECONDS");

	return seconds && atoi(seconds) > 0 ? atoi(seconds) : 4;
}

static pid_t start(int (*fn)(void *arg), void *arg)
{
	pid_t pid = fork();

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(fn(arg));
	}
	return pid;
}

/* Whether a child has ended within STUCK_SECONDS. */
static bool ends(pid_t pid, int *status)
{
	for (long end = seconds() + STUCK_SECONDS; seconds() < end; usleep(10000))
		if (waitpid(pid, status, WNOHANG) == pid)
			return true;
	return false;
}

/* The exit status of a child; 128 plus the signal that killed it; IS_STUCK, NOT_KILLED. */
#define IS_STUCK	1000
#define NOT_KILLED	1001

static int finish(const struct subject *s, pid_t pid)
{
	struct nosigbus_status cleared;
	int status;

	if (pid < 0)
		return -1;
	if (ends(pid, &status))
		return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	kill(pid, SIGKILL);
	if (ends(pid, &status))
		return IS_STUCK;
	/* Clearing the error may end it. Otherwise it would keep the file system busy. */
	status_of(s->device, s->addr, NOSIGBUS_CLEAR_ERROR, &cleared);
	ends(pid, &status);
	return NOT_KILLED;
}

static int watched(const struct subject *s, int (*fn)(void *arg), void *arg)
{
	return finish(s, start(fn, arg));
}

/* With kept pages in the middle of large folios of the page cache. */
FIXTURE(large_folios) {
	struct subject s;
	int pagemap, kpageflags, source;
};

FIXTURE_VARIANT(large_folios) {
	enum backing backing;
	int error;
	uid_t user;
};

FIXTURE_VARIANT_ADD(large_folios, ext4) { SMALL_EXT4, -ENOSPC, 0 };
FIXTURE_VARIANT_ADD(large_folios, xfs) { XFS, -EDQUOT, NOBODY };

/* Every STEP-th page is kept. The page before it is not. */
#define FIRST		1
#define STEP		4
#define KEPT		(PAGES / STEP)
#define for_each_kept(i) for (int i = FIRST; i < PAGES; i += STEP)

/* Offsets in a page: of the first store, and of one after the page has been kept for a while. */
#define STORE_AT	0
#define AGAIN_AT	2000
/* What is written to a page. */
#define STORE(i)	(0x40 + (i))

/* For how many of the kept pages the file's own page is in the middle of a large folio. */
static int in_large_folios(FIXTURE_DATA(large_folios) * self)
{
	struct subject *s = &self->s;
	char *plain = map_file(SHARED_READ, s->fd, s->len);
	int pages = 0;

	if (plain == MAP_FAILED)
		return -1;
	for_each_kept(i) {
		char *p = plain + i * s->page;
		uint64_t entry = 0, flags = 0, pfn;

		if (read_byte(p) < 0 ||
		    pread(self->pagemap, &entry, 8, (uintptr_t)p / s->page * 8) != 8)
			break;
		pfn = entry & ((1ULL << 55) - 1);
		if (pfn && pread(self->kpageflags, &flags, 8, pfn * 8) == 8)
			pages += flags >> KPF_COMPOUND_TAIL & 1;
	}
	munmap(plain, s->len);
	return pages;
}

/* Reads the file from its start, so that readahead makes large folios. */
static bool read_it(const struct subject *s)
{
	size_t len = s->len / 4;
	char *buffer = malloc(len);
	bool fine = buffer && !posix_fadvise(s->fd, 0, 0, POSIX_FADV_SEQUENTIAL);

	for (size_t pos = 0; fine && pos < s->len; pos += len)
		fine = pread(s->fd, buffer, len, pos) == (ssize_t)len;
	free(buffer);
	return fine;
}

FIXTURE_SETUP(large_folios)
{
	struct subject *s = &self->s;

	if (geteuid())
		SKIP(return, "it takes root to see page frames");
	/* Without THP the page cache has no large folios. */
	need(_metadata, "thp");
	if (variant->error == -EDQUOT)
		need(_metadata, "xfs-quota");
	self->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	self->kpageflags = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	ASSERT_GE(self->pagemap, 0);
	ASSERT_GE(self->kpageflags, 0);
	self->source = new_file(MEMFD);
	ASSERT_GE(self->source, 0);
	ASSERT_EQ(seteuid(variant->user), 0);
	set_up(_metadata, s, variant->backing, PAGES);
	fill_rest(_metadata, s, variant->backing, variant->error);
	ASSERT_TRUE(read_it(s));
	map_it(_metadata, s);
	EXPECT_GT(in_large_folios(self), 0);
}

FIXTURE_TEARDOWN(large_folios)
{
	take_down(_metadata, &self->s);
	close(self->source);
	close(self->kpageflags);
	close(self->pagemap);
}

#define STORE_ALL() do {							\
	for_each_kept(i)							\
		ASSERT_EQ(write_byte(page_at(s, i) + STORE_AT, STORE(i)), 0);	\
	EXPECT_KEPT(KEPT);							\
} while (0)

/*
 * For a process that has none of the kept pages mapped. It accesses their neighbours first, then
 * the kept pages. Returns 0, or the index of the first page that lacks a store.
 */
static int look(void *arg)
{
	struct subject *s = arg;

	for_each_kept(i)
		if (read_byte(page_at(s, i - 1)))
			return i - 1 ?: 255;
	for_each_kept(i)
		if (read_byte(page_at(s, i) + STORE_AT) != STORE(i))
			return i;
	for_each_kept(i)
		if (write_byte(page_at(s, i) + AGAIN_AT, STORE(i)) ||
		    read_byte(page_at(s, i) + AGAIN_AT) != STORE(i))
			return i;
	return 0;
}

/* The same, after unmapping all pages in this process. */
static int look_anew(void *arg)
{
	struct subject *s = arg;

	return madvise(s->addr, s->len, MADV_DONTNEED) ? 254 : look(s);
}

/* This process sees the stores of look() in another process. */
#define EXPECT_SEEN() do {							\
	for_each_kept(i) {							\
		EXPECT_EQ(read_byte(page_at(s, i) + STORE_AT), STORE(i));	\
		EXPECT_EQ(read_byte(page_at(s, i) + AGAIN_AT), STORE(i));	\
	}									\
	EXPECT_KEPT(KEPT);							\
} while (0)

TEST_F_TIMEOUT(large_folios, after_madv_dontneed, HARNESS_SECONDS)
{
	struct subject *s = &self->s;

	STORE_ALL();
	EXPECT_GT(in_large_folios(self), 0);
	EXPECT_EQ(watched(s, look_anew, s), 0);
	/* The same in this process, which made the first stores. */
	ASSERT_EQ(madvise(s->addr, s->len, MADV_DONTNEED), 0);
	for_each_kept(i)
		EXPECT_EQ(read_byte(page_at(s, i - 1)), 0);
	EXPECT_SEEN();
}

struct told {
	struct subject *s;
	int pipe[2];
};

static int look_when_told(void *arg)
{
	struct told *told = arg;
	char byte;

	return read(told->pipe[0], &byte, 1) != 1 ? 253 : look(told->s);
}

TEST_F_TIMEOUT(large_folios, in_a_child_of_before, HARNESS_SECONDS)
{
	struct subject *s = &self->s;
	struct told told = { .s = s };
	pid_t pid;

	ASSERT_EQ(pipe(told.pipe), 0);
	pid = start(look_when_told, &told);
	STORE_ALL();
	EXPECT_GT(in_large_folios(self), 0);
	ASSERT_EQ(write(told.pipe[1], "", 1), 1);
	EXPECT_EQ(finish(s, pid), 0);
	EXPECT_SEEN();
	close(told.pipe[0]);
	close(told.pipe[1]);
}

/* A process that has the file but not the mapping replaces the folios in the page cache. */
static int punch_and_read(void *arg)
{
	struct subject *s = arg;

	munmap(s->addr, s->len);
	/* XFS refuses to punch a hole without free space, even if it needs none. */
	if (give_space(s, 32) ||
	    fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, s->len))
		return errno;
	take_space(s);
	return !read_it(s);
}

TEST_F_TIMEOUT(large_folios, after_a_peer_has_punched_a_hole, HARNESS_SECONDS)
{
	struct subject *s = &self->s;

	STORE_ALL();
	ASSERT_EQ(watched(s, punch_and_read, s), 0);
	EXPECT_GT(in_large_folios(self), 0);
	EXPECT_EQ(watched(s, look, s), 0);
	EXPECT_SEEN();
}

/* Makes the kernel write to the kept pages. 0, or the index of the first page where it cannot. */
static int have_it_read(FIXTURE_DATA(large_folios) * self)
{
	struct subject *s = &self->s;

	if (madvise(s->addr, s->len, MADV_DONTNEED))
		return 254;
	for_each_kept(i)
		if (read_byte(page_at(s, i - 1)))
			return i - 1 ?: 255;
	for_each_kept(i)
		if (pread(self->source, page_at(s, i) + AGAIN_AT, 8, 0) != 8)
			return i;
	return 0;
}

static int read_into(void *arg)
{
	FIXTURE_DATA(large_folios) * self = arg;
	struct subject *s = &self->s;
	int bad = have_it_read(self);

	for_each_kept(i) {
		if (bad)
			break;
		if (read_byte(page_at(s, i) + STORE_AT) != STORE(i) ||
		    differs(page_at(s, i) + AGAIN_AT, FOREIGN, 8))
			bad = i;
	}
	return bad;
}

TEST_F_TIMEOUT(large_folios, read_into, HARNESS_SECONDS)
{
	struct subject *s = &self->s;

	ASSERT_EQ(fill(self->source, FOREIGN, 0, 8), 0);
	STORE_ALL();
	EXPECT_GT(in_large_folios(self), 0);
	EXPECT_EQ(watched(s, read_into, self), 0);
	for_each_kept(i)
		EXPECT_EQ(differs(page_at(s, i) + AGAIN_AT, FOREIGN, 8), 0);
	EXPECT_KEPT(KEPT);
}

struct passes {
	FIXTURE_DATA(large_folios) * self;
	int pipe[2];
};

static int read_into_for_ever(void *arg)
{
	struct passes *passes = arg;

	while (!have_it_read(passes->self))
		if (write(passes->pipe[1], "", 1) != 1)
			break;
	return 1;
}

TEST_F_TIMEOUT(large_folios, killed_while_it_reads, HARNESS_SECONDS)
{
	struct passes passes = { .self = self };
	struct subject *s = &self->s;
	struct pollfd readable;
	char byte;
	pid_t pid;

	ASSERT_EQ(fill(self->source, FOREIGN, 0, 8), 0);
	ASSERT_EQ(pipe(passes.pipe), 0);
	readable = (struct pollfd) { .fd = passes.pipe[0], .events = POLLIN };
	STORE_ALL();
	EXPECT_GT(in_large_folios(self), 0);
	for (int round = 1; round <= 5; round++) {
		int passed = 0;

		pid = start(read_into_for_ever, &passes);
		while (passed < round && poll(&readable, 1, STUCK_SECONDS * 1000) == 1)
			passed += read(passes.pipe[0], &byte, 1) == 1;
		EXPECT_EQ(passed, round);
		ASSERT_GT(pid, 0);
		kill(pid, SIGKILL);
		ASSERT_EQ(finish(s, pid), 128 + SIGKILL);
	}
	for_each_kept(i) {
		EXPECT_EQ(read_byte(page_at(s, i) + STORE_AT), STORE(i));
		EXPECT_EQ(differs(page_at(s, i) + AGAIN_AT, FOREIGN, 8), 0);
	}
	EXPECT_KEPT(KEPT);
	close(passes.pipe[0]);
	close(passes.pipe[1]);
}

/*
 * fsnotify does not report growth by Linux AIO on ext4. The stand-ins that it has brought inside
 * EOF are removed at the next fault.
 */
#define OLD_PAGES	8
#define GROWN_PAGES	21

FIXTURE(unseen_growth) {
	struct subject s;
};

FIXTURE_SETUP(unseen_growth)
{
	struct subject *s = &self->s;

	if (geteuid())
		SKIP(return, "it takes root to break things");
	need(_metadata, "aio");
	set_up(_metadata, s, SMALL_EXT4, OLD_PAGES);
	/* Preallocate the block that the growth writes to: the file system is full then. */
	ASSERT_EQ(fallocate(s->fd, FALLOC_FL_KEEP_SIZE, (GROWN_PAGES - 1) * s->page, s->page), 0);
	fill_rest(_metadata, s, SMALL_EXT4, -ENOSPC);
	map_it(_metadata, s);
}

FIXTURE_TEARDOWN(unseen_growth)
{
	take_down(_metadata, &self->s);
}

/* Grows to GROWN_PAGES; false if that is not possible. */
static bool grow_by_aio(const struct subject *s)
{
	struct iocb cb = {
		.aio_lio_opcode = IOCB_CMD_PWRITE,
		.aio_fildes = s->fd,
		.aio_nbytes = s->page,
		.aio_offset = (GROWN_PAGES - 1) * s->page,
	}, *cbs = &cb;
	char *bytes = calloc(1, s->page);
	struct io_event event = {};
	aio_context_t ctx = 0;
	bool fine;

	cb.aio_buf = (uintptr_t)bytes;
	fine = bytes && !syscall(SYS_io_setup, 1, &ctx) &&
		syscall(SYS_io_submit, ctx, 1, &cbs) == 1 &&
		syscall(SYS_io_getevents, ctx, 1, 1, &event, NULL) == 1 &&
		event.res == (__s64)s->page;
	syscall(SYS_io_destroy, ctx);
	free(bytes);
	return fine;
}

/* The file grows, and no stand-in has been removed yet. */
#define GROW_UNSEEN() do {							\
	struct nosigbus_status _status;						\
	struct stat _st;							\
										\
	ASSERT_TRUE(grow_by_aio(s));						\
	ASSERT_EQ(fstat(s->fd, &_st), 0);					\
	ASSERT_EQ(_st.st_size, (off_t)(GROWN_PAGES * s->page));			\
	ASSERT_EQ(status_of(s->device, s->addr, 0, &_status), 0);		\
	ASSERT_EQ(_status.given_back, 0);					\
} while (0)

/* Causes one fault, at a page inside EOF. */
#define FAULT_AT(i) do {							\
	ASSERT_EQ(madvise(page_at(s, i), s->page, MADV_DONTNEED), 0);		\
	EXPECT_EQ(read_byte(page_at(s, i)), 0);					\
} while (0)

#define EXPECT_KEPT_AT(i, held, pages_given_back) do {				\
	struct nosigbus_status _status;						\
										\
	ASSERT_EQ(status_of(s->device, s->addr, 0, &_status), 0);		\
	EXPECT_EQ(_status.error, ENOSPC);					\
	EXPECT_EQ(_status.error_offset, (i) * s->page);				\
	EXPECT_EQ(_status.shadow_pages_held, held);				\
	EXPECT_EQ(_status.given_back, pages_given_back);			\
} while (0)

/* The page is kept before the file grows, and is below the old EOF. */
TEST_F(unseen_growth, leaves_what_was_kept)
{
	struct subject *s = &self->s;

	EXPECT_EQ(write_byte(page_at(s, 5), 'X'), 0);
	EXPECT_EQ(write_byte(page_at(s, 10), 'Y'), 0);
	EXPECT_KEPT_AT(5, 2, 0);
	GROW_UNSEEN();
	EXPECT_EQ(read_byte(page_at(s, 5)), 'X');
	FAULT_AT(3);
	EXPECT_EQ(read_byte(page_at(s, 5)), 'X');
	EXPECT_EQ(read_byte(page_at(s, 10)), 0);
	EXPECT_KEPT_AT(5, 1, 1);
	EXPECT_EQ(madvise(s->addr, s->len, MADV_DONTNEED), 0);
	EXPECT_EQ(read_byte(page_at(s, 5)), 'X');
}

/* The page is kept after the growth, in the new part. A stand-in there has to go; it stays. */
TEST_F(unseen_growth, leaves_what_is_kept_in_what_has_grown)
{
	struct subject *s = &self->s;
	char byte;

	EXPECT_EQ(read_byte(page_at(s, OLD_PAGES)), 0);
	GROW_UNSEEN();
	for (int i = OLD_PAGES; i < GROWN_PAGES; i++)
		ASSERT_EQ(pread(s->fd, &byte, 1, i * s->page), 1);
	EXPECT_EQ(read_byte(page_at(s, 16)), 0);
	EXPECT_EQ(write_byte(page_at(s, 16), 'X'), 0);
	EXPECT_EQ(read_byte(page_at(s, 16)), 'X');
	FAULT_AT(3);
	EXPECT_EQ(read_byte(page_at(s, 16)), 'X');
	EXPECT_KEPT_AT(16, 1, 1);
}

/* The page is below the old EOF and mapped. A write after the growth makes it a kept page. */
TEST_F(unseen_growth, leaves_what_is_kept_below_it)
{
	struct subject *s = &self->s;

	EXPECT_EQ(read_byte(page_at(s, 3)), 0);
	EXPECT_EQ(write_byte(page_at(s, OLD_PAGES), 'Y'), 0);
	GROW_UNSEEN();
	EXPECT_EQ(write_byte(page_at(s, 3), 'X'), 0);
	FAULT_AT(4);
	EXPECT_EQ(read_byte(page_at(s, 3)), 'X');
	EXPECT_EQ(read_byte(page_at(s, OLD_PAGES)), 0);
	EXPECT_KEPT_AT(3, 1, 1);
}

/*
 * NOSIGBUS_CLEAR_ERROR has to wait each time it copies the status to user space. The structure is
 * in two pages, which the test write-protects with userfaultfd.
 */
FIXTURE(clear) {
	struct subject s;
	int uffd;
	char *arg;
	struct nosigbus_status *status;
	int ret;
};

FIXTURE_SETUP(clear)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP };
	struct uffdio_register range = { .mode = UFFDIO_REGISTER_MODE_WP };
	struct subject *s = &self->s;

	if (geteuid())
		SKIP(return, "it takes root to stop the kernel");
	need(_metadata, "userfaultfd");
	set_up(_metadata, s, SMALL_TMPFS, PAGES);
	fill_rest(_metadata, s, SMALL_TMPFS, -ENOSPC);
	map_it(_metadata, s);

	self->arg = mmap(NULL, 2 * s->page, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(self->arg, MAP_FAILED);
	memset(self->arg, 0, 2 * s->page);
	self->status = (void *)(self->arg + s->page - sizeof(*self->status) / 2);
	self->uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	ASSERT_GE(self->uffd, 0);
	ASSERT_EQ(ioctl(self->uffd, UFFDIO_API, &api), 0);
	range.range.start = (uintptr_t)self->arg;
	range.range.len = 2 * s->page;
	ASSERT_EQ(ioctl(self->uffd, UFFDIO_REGISTER, &range), 0);
}

FIXTURE_TEARDOWN(clear)
{
	close(self->uffd);
	munmap(self->arg, 2 * self->s.page);
	take_down(_metadata, &self->s);
}

/* Protects one of the two pages, so that a write to it waits, or unprotects it. */
static int protect(FIXTURE_DATA(clear) * self, int page, bool on)
{
	struct uffdio_writeprotect wp = {
		.range = { (uintptr_t)self->arg + page * self->s.page, self->s.page },
		.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};

	return ioctl(self->uffd, UFFDIO_WRITEPROTECT, &wp);
}

/* Waits until a write is blocked. Returns at which of the two pages, or -1. */
static int wait_for_write(FIXTURE_DATA(clear) * self)
{
	struct pollfd readable = { .fd = self->uffd, .events = POLLIN };
	struct uffd_msg msg;

	do {
		if (poll(&readable, 1, STUCK_SECONDS * 1000) != 1)
			return -1;
	} while (read(self->uffd, &msg, sizeof(msg)) != sizeof(msg));
	return (msg.arg.pagefault.address - (uintptr_t)self->arg) / self->s.page;
}

static void *clear_error(void *arg)
{
	FIXTURE_DATA(clear) * self = arg;

	self->ret = ioctl(self->s.device, NOSIGBUS_STATUS, self->status) ? -errno : 0;
	return NULL;
}

/* Starts a thread that clears the error, and waits until it copies the status to user space. */
#define START_TO_CLEAR(thread) do {						\
	self->status->addr = (uintptr_t)s->addr;				\
	self->status->request = NOSIGBUS_CLEAR_ERROR;				\
	ASSERT_EQ(protect(self, 0, true), 0);					\
	ASSERT_EQ(protect(self, 1, true), 0);					\
	ASSERT_EQ(pthread_create(&(thread), NULL, clear_error, self), 0);	\
	ASSERT_EQ(wait_for_write(self), 0);					\
} while (0)

/* Nothing of the error is left at the mapping at addr. */
#define EXPECT_CLEARED(at) do {							\
	struct nosigbus_status _status;						\
										\
	ASSERT_EQ(status_of(s->device, at, 0, &_status), 0);			\
	EXPECT_EQ(_status.error, 0);						\
	EXPECT_EQ(_status.shadow_pages_held, 0);				\
} while (0)

/* There is a new error after each copy of the status, so that the ioctl has to copy it again. */
TEST_F_TIMEOUT(clear, tells_of_all_it_clears, HARNESS_SECONDS)
{
	const int first = 5, others = 9, end = 13;
	struct subject *s = &self->s;
	pthread_t thread;

	EXPECT_EQ(write_byte(page_at(s, first), 'A'), 0);
	START_TO_CLEAR(thread);
	for (int i = others, at = 0; i < end && at >= 0; i++) {
		EXPECT_EQ(write_byte(page_at(s, i), 'B'), 0);
		EXPECT_EQ(read_byte(page_at(s, i)), 'B');
		ASSERT_EQ(protect(self, !at, true), 0);
		ASSERT_EQ(protect(self, at, false), 0);
		at = wait_for_write(self);
		EXPECT_GE(at, 0);
	}
	for (int i = 0; i < 2; i++)
		ASSERT_EQ(protect(self, i, false), 0);
	ASSERT_EQ(pthread_join(thread, NULL), 0);

	EXPECT_EQ(self->ret, 0);
	EXPECT_EQ(self->status->error, ENOSPC);
	EXPECT_EQ(self->status->error_offset, first * s->page);
	EXPECT_EQ(self->status->errors, (__u64)(1 + end - others));
	EXPECT_EQ(self->status->shadow_pages_held, (__u64)(1 + end - others));
	EXPECT_CLEARED(s->addr);
	ASSERT_EQ(give_space(s, PAGES), 0);
	EXPECT_EQ(pages_of(0, s->addr, 0, PAGES), PAGES);
}

/*
 * The mapping moves during the ioctl. Its error is cleared all the same. The error of the mapping
 * that is at the old address afterwards is not.
 */
TEST_F_TIMEOUT(clear, of_a_mapping_that_moves, HARNESS_SECONDS)
{
	char *to = mmap(NULL, self->s.len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct subject *s = &self->s;
	struct subject other = *s;
	struct nosigbus_status status;
	pthread_t thread;

	ASSERT_NE(to, MAP_FAILED);
	map_it(_metadata, &other);
	EXPECT_EQ(write_byte(page_at(s, 20), 'C'), 0);
	EXPECT_EQ(write_byte(page_at(&other, 21), 'D'), 0);
	START_TO_CLEAR(thread);
	ASSERT_EQ(mremap(s->addr, s->len, s->len, MREMAP_MAYMOVE | MREMAP_FIXED, to), to);
	ASSERT_EQ(mremap(other.addr, s->len, s->len, MREMAP_MAYMOVE | MREMAP_FIXED, s->addr),
		  s->addr);
	other.addr = s->addr;
	s->addr = to;
	for (int i = 0; i < 2; i++)
		ASSERT_EQ(protect(self, i, false), 0);
	ASSERT_EQ(pthread_join(thread, NULL), 0);

	EXPECT_EQ(self->ret, 0);
	EXPECT_EQ(self->status->error, ENOSPC);
	EXPECT_EQ(self->status->error_offset, 20 * s->page);
	EXPECT_CLEARED(s->addr);
	ASSERT_EQ(status_of(s->device, other.addr, 0, &status), 0);
	EXPECT_EQ(status.error, ENOSPC);
	EXPECT_EQ(status.error_offset, 21 * s->page);
	ASSERT_EQ(give_space(s, PAGES), 0);
	EXPECT_EQ(read_byte(page_at(s, 20)), 0);
	EXPECT_EQ(read_byte(page_at(&other, 21)), 'D');
	munmap(other.addr, s->len);
}

/*
 * The mapping is unmapped, and its file closed, during the ioctl. Both exist until the ioctl ends,
 * and it still returns the error.
 */
TEST_F_TIMEOUT(clear, of_a_mapping_that_goes, HARNESS_SECONDS)
{
	struct subject *s = &self->s;
	struct nosigbus_status status;
	pthread_t thread;

	EXPECT_EQ(write_byte(page_at(s, 20), 'C'), 0);
	START_TO_CLEAR(thread);
	/* The file is unlinked, so these were the last references on it that the test has. */
	ASSERT_EQ(munmap(s->addr, s->len), 0);
	ASSERT_EQ(close(s->fd), 0);
	s->fd = -1;
	EXPECT_EQ(status_of(s->device, s->addr, 0, &status), -ENOMEM);
	for (int i = 0; i < 2; i++)
		ASSERT_EQ(protect(self, i, false), 0);
	ASSERT_EQ(pthread_join(thread, NULL), 0);
	EXPECT_EQ(self->ret, 0);
	EXPECT_EQ(self->status->error, ENOSPC);
	EXPECT_EQ(self->status->error_offset, 20 * s->page);
}

TEST_F_TIMEOUT(clear, of_a_mapping_that_opts_out, HARNESS_SECONDS)
{
	struct subject *s = &self->s;
	struct nosigbus_status status;
	pthread_t thread;

	EXPECT_EQ(write_byte(page_at(s, 20), 'C'), 0);
	START_TO_CLEAR(thread);
	ASSERT_EQ(disable(s->device, s->addr, s->len), 0);
	EXPECT_EQ(status_of(s->device, s->addr, 0, &status), -ENOENT);
	EXPECT_EQ(read_byte(page_at(s, 20)), -SIGBUS);
	for (int i = 0; i < 2; i++)
		ASSERT_EQ(protect(self, i, false), 0);
	ASSERT_EQ(pthread_join(thread, NULL), 0);
	EXPECT_EQ(self->ret, 0);
	EXPECT_EQ(self->status->error, ENOSPC);
	EXPECT_EQ(read_byte(page_at(s, 20)), -SIGBUS);
	ASSERT_EQ(give_space(s, PAGES), 0);
	EXPECT_EQ(read_byte(page_at(s, 20)), 0);
}

/*
 * One thread writes to a page for which the file system has no space. At the same time another
 * thread makes space and writes to the same page. The page may become a kept page or a page of the
 * file. In both cases it has to have both stores.
 */
FIXTURE(given_meanwhile) {
	struct subject s;
};

FIXTURE_VARIANT(given_meanwhile) {
	/* Whether a third thread modifies the file all the time. */
	bool noise;
};

FIXTURE_VARIANT_ADD(given_meanwhile, alone) { false };
FIXTURE_VARIANT_ADD(given_meanwhile, while_it_is_modified) { true };

FIXTURE_SETUP(given_meanwhile)
{
	struct subject *s = &self->s;

	if (geteuid())
		SKIP(return, "it takes root to break things");
	set_up(_metadata, s, SMALL_TMPFS, PAGES);
	ASSERT_EQ(fill(s->fd, 'n', 0, 1), 0);
	fill_rest(_metadata, s, SMALL_TMPFS, -ENOSPC);
	map_it(_metadata, s);
}

FIXTURE_TEARDOWN(given_meanwhile)
{
	take_down(_metadata, &self->s);
}

/* The first page of the race. Page 0 is for the thread that modifies the file. */
#define RACE_FIRST	1

struct giver {
	struct subject *s;
	atomic_bool stop;
	/* The round that the giver is to run, and the last one that it has finished. */
	atomic_int round, done;
	int page, delay;
	int bad;
};

static void give_and_write(struct giver *g)
{
	if (give_space(g->s, 1) || write_byte(page_at(g->s, g->page) + 1, 'G'))
		g->bad++;
}

static void *give(void *arg)
{
	struct giver *g = arg;

	for (int round = 1; !g->bad; round++) {
		while (atomic_load(&g->round) < round) {
			if (atomic_load(&g->stop))
				return NULL;
			sched_yield();
		}
		for (volatile int i = 0; i < g->delay; i++)
			;
		give_and_write(g);
		atomic_store(&g->done, round);
	}
	return NULL;
}

static void *modify(void *arg)
{
	struct giver *g = arg;

	while (!atomic_load(&g->stop))
		if (pwrite(g->s->fd, "n", 1, 0) != 1)
			g->bad++;
	return NULL;
}

TEST_F_TIMEOUT(given_meanwhile, both_stores_are_seen, HARNESS_SECONDS)
{
	struct subject *s = &self->s;
	struct giver g = { .s = s, .page = RACE_FIRST };
	long end = seconds() + race_seconds();
	int rounds = 0, kept = 0, raced = 0, turns = 0, delay = 0, step = 1 << 12;
	struct nosigbus_status status;
	pthread_t giver, modifier;
	bool was_kept = false;
	__u64 errors = 1;

	/* Keep a page first, so that the work for the first kept page does not slow the race. */
	EXPECT_EQ(write_byte(page_at(s, PAGES - 1), 1), 0);
	ASSERT_EQ(pthread_create(&giver, NULL, give, &g), 0);
	if (variant->noise)
		ASSERT_EQ(pthread_create(&modifier, NULL, modify, &g), 0);
	while (!g.bad && (rounds < 100 || seconds() < end)) {
		char *p = page_at(s, g.page);
		bool is_kept;
		char bytes[2];

		/* In some rounds it is certain which of the two threads comes first. */
		if (rounds % 16 == 0) {
			EXPECT_EQ(write_byte(p, 'W'), 0);
			give_and_write(&g);
		} else if (rounds % 16 == 8) {
			give_and_write(&g);
			EXPECT_EQ(write_byte(p, 'W'), 0);
		} else {
			g.delay = delay;
			atomic_fetch_add(&g.round, 1);
			/* delay < 0: wait here, because the giver was too late without a delay. */
			for (volatile int i = 0; i < -delay; i++)
				;
			EXPECT_EQ(write_byte(p, 'W'), 0);
			while (atomic_load(&g.done) < atomic_load(&g.round) && !g.bad)
				sched_yield();
		}
		ASSERT_EQ(status_of(s->device, s->addr, 0, &status), 0);
		is_kept = status.errors != errors;
		errors = status.errors;
		kept += is_kept;
		if (rounds % 8) {
			bool turns_round = raced++ && is_kept != was_kept;

			/* Find the delay at which both meet. Smaller steps after each turn. */
			if (!turns_round && step < 1 << 18)
				step *= 2;
			else if (turns_round && step > 64)
				step /= 4;
			delay += is_kept ? -step : step;
			turns += turns_round;
			was_kept = is_kept;
		}

		ASSERT_EQ(read_byte(p), 'W') TH_LOG("round %d, kept: %d", rounds, is_kept);
		ASSERT_EQ(read_byte(p + 1), 'G') TH_LOG("round %d, kept: %d", rounds, is_kept);
		if (!is_kept) {
			ASSERT_EQ(pread(s->fd, bytes, 2, g.page * s->page), 2);
			ASSERT_EQ(memcmp(bytes, "WG", 2), 0);
		}
		ASSERT_EQ(fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				    g.page * s->page, s->page), 0);
		take_space(s);
		rounds++;
		if (++g.page < PAGES - 1)
			continue;
		g.page = RACE_FIRST;
		ASSERT_EQ(status_of(s->device, s->addr, NOSIGBUS_CLEAR_ERROR, &status), 0);
	}
	atomic_store(&g.stop, true);
	ASSERT_EQ(pthread_join(giver, NULL), 0);
	if (variant->noise)
		ASSERT_EQ(pthread_join(modifier, NULL), 0);
	EXPECT_EQ(g.bad, 0);
	EXPECT_GT(kept, 0);
	EXPECT_LT(kept, rounds);
	TH_LOG("%d rounds, %d raced, %d kept, %d turns", rounds, raced, kept, turns);
}

/*
 * Each of two processes has a thread that writes numbers to all pages, at an offset of its own, and
 * one that reads all numbers. Meanwhile space comes and goes, and the error is cleared. Clearing
 * drops the kept pages; the epoch is odd while that happens. Both processes have to see a number
 * that was written in an even epoch until that epoch ends.
 */
#define PROCESSES	2
#define RACE_PAGES	32

struct shared {
	atomic_bool stop;
	atomic_uint epoch;
	/* For each writer and page: the last number, and in the upper half its epoch. */
	_Atomic uint64_t written[PROCESSES][RACE_PAGES];
	/* Counters: for the watchdog, and to tell whether the race has done enough. */
	atomic_ulong passes[PROCESSES], checks[PROCESSES], fillings;
	atomic_flag complained;
	char complaint[200];
};

FIXTURE(space) {
	struct subject s;
	struct shared *shared;
};

FIXTURE_VARIANT(space) {
	enum backing backing;
};

FIXTURE_VARIANT_ADD(space, ext4) { SMALL_EXT4 };
FIXTURE_VARIANT_ADD(space, tmpfs) { SMALL_TMPFS };

FIXTURE_SETUP(space)
{
	struct subject *s = &self->s;

	if (geteuid())
		SKIP(return, "it takes root to break things");
	set_up(_metadata, s, variant->backing, PAGES);
	fill_rest(_metadata, s, variant->backing, -ENOSPC);
	map_it(_metadata, s);
	self->shared = mmap(NULL, sizeof(*self->shared), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(self->shared, MAP_FAILED);
}

FIXTURE_TEARDOWN(space)
{
	munmap(self->shared, sizeof(*self->shared));
	take_down(_metadata, &self->s);
}

struct worker {
	struct subject *s;
	struct shared *shared;
	int process;
	unsigned int seed;
};

/* Ends the race; only the first complaint is kept. */
static void __printf(2, 3) complain(struct shared *shared, const char *format, ...)
{
	va_list args;

	if (!atomic_flag_test_and_set(&shared->complained)) {
		va_start(args, format);
		vsnprintf(shared->complaint, sizeof(shared->complaint), format, args);
		va_end(args);
	}
	atomic_store(&shared->stop, true);
}

/* Where a writer has its number in page i. */
static _Atomic uint32_t *place(const struct subject *s, int writer, int i)
{
	return (void *)(page_at(s, i) + (writer ? s->page - 64 : 64));
}

/* The number at p, or minus the signal that reading it has raised. */
static int64_t read_number(_Atomic uint32_t *p)
{
	int sig = sigsetjmp(access_failed, 0);

	return sig ? -sig : (int64_t)atomic_load(p);
}

static int write_number(_Atomic uint32_t *p, uint32_t number)
{
	int sig = sigsetjmp(access_failed, 0);

	if (sig)
		return -sig;
	atomic_store(p, number);
	return 0;
}

static void *write_numbers(void *arg)
{
	struct worker *w = arg;
	struct shared *shared = w->shared;

	for (uint32_t number = 1; !atomic_load(&shared->stop); number++) {
		for (int n = 0; n < RACE_PAGES; n++) {
			int i = rand_r(&w->seed) % RACE_PAGES, ret;
			unsigned int epoch = atomic_load(&shared->epoch);

			if (epoch % 2) {
				sched_yield();
				continue;
			}
			ret = write_number(place(w->s, w->process, i), number);
			if (ret)
				complain(shared, "page %d: a write raises signal %d", i, -ret);
			if (atomic_load(&shared->epoch) == epoch)
				atomic_store(&shared->written[w->process][i],
					     (uint64_t)epoch << 32 | number);
		}
		atomic_fetch_add(&shared->passes[w->process], 1);
	}
	return NULL;
}

static void *read_numbers(void *arg)
{
	struct worker *w = arg;
	struct shared *shared = w->shared;
	uint32_t last[PROCESSES][RACE_PAGES] = {};
	unsigned int last_epoch = 0;

	while (!atomic_load(&shared->stop)) {
		int i = rand_r(&w->seed) % RACE_PAGES, writer = rand_r(&w->seed) % PROCESSES;
		unsigned int epoch = atomic_load(&shared->epoch);
		uint64_t written = atomic_load(&shared->written[writer][i]);
		int64_t seen;

		if (epoch != last_epoch) {
			memset(last, 0, sizeof(last));
			last_epoch = epoch;
		}
		if (epoch % 2) {
			sched_yield();
			continue;
		}
		if (rand_r(&w->seed) % 64 == 0)
			madvise(w->s->addr, RACE_PAGES * w->s->page, MADV_DONTNEED);
		seen = read_number(place(w->s, writer, i));
		if (seen < 0)
			complain(shared, "page %d: a read raises signal %d", i, (int)-seen);
		if (atomic_load(&shared->epoch) != epoch)
			continue;
		if (written >> 32 == epoch && seen < (int64_t)(uint32_t)written)
			complain(shared, "page %d: process %d has written %u, process %d sees %lld",
				 i, writer, (uint32_t)written, w->process, (long long)seen);
		if (seen < (int64_t)last[writer][i])
			complain(shared, "page %d: process %d has seen %u of process %d, then %lld",
				 i, w->process, last[writer][i], writer, (long long)seen);
		last[writer][i] = seen;
		atomic_fetch_add(&shared->checks[w->process], 1);
	}
	return NULL;
}

/* Makes space for some of the pages and takes it away again, in a loop. */
static void *come_and_go(void *arg)
{
	struct worker *w = arg;

	while (!atomic_load(&w->shared->stop)) {
		if (give_space(w->s, 1 + rand_r(&w->seed) % 8))
			complain(w->shared, "ftruncate: %s", strerror(errno));
		for (int i = rand_r(&w->seed) % 16; i > 0; i--)
			sched_yield();
		take_space(w->s);
		for (int i = rand_r(&w->seed) % 16; i > 0; i--)
			sched_yield();
		atomic_fetch_add(&w->shared->fillings, 1);
	}
	return NULL;
}

/* A process of the race. */
static int work(void *arg)
{
	void *(*const run[])(void *) = { write_numbers, read_numbers, come_and_go };
	struct worker *w = arg, workers[ARRAY_SIZE(run)];
	pthread_t threads[ARRAY_SIZE(run)];
	/* Only process 0 makes space. */
	int n = w->process ? 2 : 3;

	for (int i = 0; i < n; i++) {
		workers[i] = *w;
		workers[i].seed = 1 + 10 * w->process + i;
		if (pthread_create(&threads[i], NULL, run[i], &workers[i]))
			return 1;
	}
	for (int i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	return 0;
}

/* Totals over all epochs. */
struct outcome {
	long clearings, errors, blocks;
};

/* Waits for so many passes of both writers; false if one is stuck or the race has ended. */
static bool wait_for_passes(struct shared *shared, unsigned long passes)
{
	unsigned long from[PROCESSES];
	long end = seconds() + STUCK_SECONDS;

	for (int i = 0; i < PROCESSES; i++)
		from[i] = atomic_load(&shared->passes[i]);
	for (int i = 0; i < PROCESSES; i++)
		while (atomic_load(&shared->passes[i]) < from[i] + passes) {
			if (atomic_load(&shared->stop))
				return false;
			if (seconds() > end) {
				complain(shared, "process %d is stuck", i);
				return false;
			}
			usleep(1000);
		}
	return true;
}

TEST_F_TIMEOUT(space, comes_and_goes, HARNESS_SECONDS)
{
	struct subject *s = &self->s;
	struct shared *shared = self->shared;
	struct worker workers[PROCESSES];
	struct outcome done = {};
	pid_t pids[PROCESSES];
	unsigned int seed = 1;
	long start_time;

	for (int i = 0; i < PROCESSES; i++) {
		workers[i] = (struct worker) { .s = s, .shared = shared, .process = i };
		pids[i] = start(work, &workers[i]);
		ASSERT_GT(pids[i], 0);
	}
	start_time = seconds();
	do {
		struct nosigbus_status status;
		struct stat st;

		if (!wait_for_passes(shared, 1 + rand_r(&seed) % 8))
			break;
		atomic_fetch_add(&shared->epoch, 1);
		EXPECT_EQ(status_of(s->device, s->addr, NOSIGBUS_CLEAR_ERROR, &status), 0);
		EXPECT_EQ(fstat(s->fd, &st), 0);
		/* Blocks that the file has got are not refused any more. Free them. */
		if (rand_r(&seed) % 4)
			EXPECT_EQ(fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
					    RACE_PAGES * s->page), 0);
		atomic_fetch_add(&shared->epoch, 1);
		done.clearings++;
		done.errors = status.errors;
		done.blocks += st.st_blocks;
	} while (seconds() < start_time + race_seconds() ||
		 ((done.clearings < 10 || done.errors < 50 || !done.blocks) &&
		  seconds() < start_time + race_seconds() + 2 * STUCK_SECONDS));
	atomic_store(&shared->stop, true);
	for (int i = 0; i < PROCESSES; i++)
		EXPECT_EQ(finish(s, pids[i]), 0);

	EXPECT_EQ(shared->complaint[0], 0) TH_LOG("%s", shared->complaint);
	EXPECT_GE(done.clearings, 10);
	EXPECT_GE(done.errors, 50);
	EXPECT_GT(done.blocks, 0);
	for (int i = 0; i < PROCESSES; i++)
		EXPECT_GT(atomic_load(&shared->checks[i]), 0);
	TH_LOG("%ld clearings, %ld errors, %lu checks, %lu fillings", done.clearings, done.errors,
	       atomic_load(&shared->checks[0]) + atomic_load(&shared->checks[1]),
	       atomic_load(&shared->fillings));
}

TEST_HARNESS_MAIN
