// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pairs of concurrent operations that no other program tests. Growth of the file races with changes
 * of the mapping. Faults race with repeated growth, with the freeing of page tables, and with the
 * killing of the process. Documentation/concurrency.rst lists all pairs.
 */

#include "mapped_file.h"
#include "status.h"

#include <linux/fs.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define PAGES		16
#define ROUNDS		100
/* A byte that identifies the round. It is neither 0, as in stand-ins, nor 0xff. */
#define NUMBER(round)	(1 + (round) % 254)

static size_t page;

FIXTURE(at_once) {
	MAPPED_FILE;
	char *opted, *plain;
};

FIXTURE_VARIANT(at_once) {
	enum class class;
};

FIXTURE_VARIANT_ADD(at_once, private) { .class = PRIVATE, };
FIXTURE_VARIANT_ADD(at_once, shared_read) { .class = SHARED_READ, };
FIXTURE_VARIANT_ADD(at_once, shared_write) { .class = SHARED_WRITE, };

FIXTURE_SETUP(at_once)
{
	need_class(_metadata, variant->class);
	set_up_file(_metadata, &self->file, MEMFD, 0, PAGES);
	page = self->page;
	self->opted = map_file(variant->class, self->fd, self->len);
	ASSERT_NE(self->opted, MAP_FAILED);
	self->plain = map_file(SHARED_WRITE, self->fd, self->len);
	ASSERT_NE(self->plain, MAP_FAILED);
	ASSERT_EQ(enable(self->device, self->opted, self->len), 0);
}

FIXTURE_TEARDOWN(at_once)
{
	tear_down(&self->file);
}

/* How many of the pages do not begin with this byte. */
static int lacking(const char *addr, int byte)
{
	int pages = 0;

	for (int i = 0; i < PAGES; i++)
		pages += read_byte(addr + i * page) != byte;
	return pages;
}

/*
 * Grows the file to all pages and stores a number in each of them through a plain mapping: fsnotify
 * does not report that. Returns 0, or minus errno.
 */
static int grow_with(int fd, char *plain, int number)
{
	if (ftruncate(fd, PAGES * page))
		return -errno;
	for (int i = 0; i < PAGES; i++)
		*(volatile char *)(plain + i * page) = number;
	return 0;
}

/* Waits for a short time, which is different in each round. */
static void linger(int round)
{
	for (volatile int i = 0; i < (round * 37) % 1000 * 20; i++)
		;
}

struct forking {
	char *addr;
	pthread_barrier_t start;
	int round, seen;
	/* The child waits until the parent closes the write end of this pipe. */
	int go[2];
	pid_t child;
};

static void *fork_at_once(void *arg)
{
	struct forking *f = arg;
	char byte;

	pthread_barrier_wait(&f->start);
	linger(f->round / 7);
	f->child = fork();
	if (f->child)
		return NULL;
	close(f->go[1]);
	if (read(f->go[0], &byte, 1))
		_exit(2);
	byte = lacking(f->addr, NUMBER(f->round));
	/* The parent starts the next round while this process exits, with all pages mapped. */
	if (write(f->seen, &byte, 1) != 1)
		_exit(3);
	_exit(0);
}

/* No stand-in survives growth in a child that is just being forked, or while another exits. */
TEST_F_TIMEOUT(at_once, growth_and_fork_and_exit, 600)
{
	struct forking f = { .addr = self->opted };
	pid_t last = 0;
	int seen[2], status;

	ASSERT_EQ(pipe(seen), 0);
	f.seen = seen[1];
	ASSERT_EQ(pthread_barrier_init(&f.start, NULL, 2), 0);
	for (f.round = 0; f.round < ROUNDS; f.round++) {
		pthread_t thread;
		char wrong;

		ASSERT_EQ(ftruncate(self->fd, 0), 0);
		EXPECT_EQ(lacking(f.addr, 0), 0);
		if (variant->class == SHARED_WRITE)
			EXPECT_EQ(write_byte(f.addr + f.round % PAGES * page, 0xff), 0);
		ASSERT_EQ(pipe(f.go), 0);
		ASSERT_EQ(pthread_create(&thread, NULL, fork_at_once, &f), 0);
		pthread_barrier_wait(&f.start);
		linger(f.round);
		ASSERT_EQ(grow_with(self->fd, self->plain, NUMBER(f.round)), 0);
		ASSERT_EQ(pthread_join(thread, NULL), 0);
		ASSERT_GT(f.child, 0);

		EXPECT_EQ(lacking(f.addr, NUMBER(f.round)), 0);
		close(f.go[0]);
		close(f.go[1]);
		ASSERT_EQ(read(seen[0], &wrong, 1), 1);
		EXPECT_EQ(wrong, 0) TH_LOG("%d pages of the child, round %d", wrong, f.round);
		if (last) {
			ASSERT_EQ(waitpid(last, &status, 0), last);
			EXPECT_EQ(status, 0);
		}
		last = f.child;
	}
	ASSERT_EQ(waitpid(last, &status, 0), last);
	EXPECT_EQ(status, 0);
}

enum what { MOVE, OPT_OUT_AND_IN, MAP_ANEW, WHATS };

struct changing {
	enum class class;
	enum what what;
	int device, fd;
	/* Where the mapping is, and where it can go. */
	char *addr, *other;
	atomic_bool stop;
	/* The number that all pages have now, and the last one that the thread has looked for. */
	atomic_int number, seen;
	atomic_long changes;
	int wrong;
	const char *failed;
};

static bool change(struct changing *c)
{
	size_t len = PAGES * page;
	char *from = c->addr;

	switch (c->what) {
	case MOVE:
		c->addr = c->other;
		c->other = from;
		return mremap(from, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, c->addr) == c->addr;
	case OPT_OUT_AND_IN:
		return !disable(c->device, from, len) && !enable(c->device, from, len);
	default:
		return mmap(from, len, class_prot(c->class), class_flags(c->class) | MAP_FIXED,
			    c->fd, 0) == from && !enable(c->device, from, len);
	}
}

static void *change_all_the_time(void *arg)
{
	struct changing *c = arg;

	while (!atomic_load(&c->stop)) {
		int number;

		if (!change(c)) {
			c->failed = strerror(errno);
			atomic_store(&c->stop, true);
			break;
		}
		/* This maps stand-ins if the file is short now. */
		lacking(c->addr, 0);
		number = atomic_load(&c->number);
		if (number != atomic_load(&c->seen)) {
			c->wrong += lacking(c->addr, number);
			atomic_store(&c->seen, number);
		}
		c->changes++;
	}
	return NULL;
}

/* Waits for so many more changes; false if the thread has stopped. */
static bool wait_for_changes(struct changing *c, int changes)
{
	long until = atomic_load(&c->changes) + changes;

	while (atomic_load(&c->changes) < until && !atomic_load(&c->stop))
		sched_yield();
	return !atomic_load(&c->stop);
}

static void grow_while(struct __test_metadata *_metadata, FIXTURE_DATA(at_once) * self,
		       enum class class, enum what what)
{
	struct changing c = {
		.class = class, .what = what, .device = self->device, .fd = self->fd,
		.addr = self->opted,
	};
	pthread_t thread;

	c.other = mmap(NULL, self->len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(c.other, MAP_FAILED);
	ASSERT_EQ(pthread_create(&thread, NULL, change_all_the_time, &c), 0);
	for (int round = 0; round < ROUNDS && wait_for_changes(&c, 1); round++) {
		ASSERT_EQ(ftruncate(self->fd, 0), 0);
		linger(round);
		ASSERT_EQ(grow_with(self->fd, self->plain, NUMBER(round)), 0);
		atomic_store(&c.number, NUMBER(round));
		while (atomic_load(&c.seen) != NUMBER(round) && !atomic_load(&c.stop))
			sched_yield();
	}
	atomic_store(&c.stop, true);
	ASSERT_EQ(pthread_join(thread, NULL), 0);
	EXPECT_EQ(c.failed, NULL) TH_LOG("%s", c.failed);
	EXPECT_EQ(c.wrong, 0);
	EXPECT_GE(c.changes, ROUNDS);
}

TEST_F_TIMEOUT(at_once, growth_and_mremap, 600)
{
	grow_while(_metadata, self, variant->class, MOVE);
}

TEST_F_TIMEOUT(at_once, growth_and_opting_out_and_in, 600)
{
	grow_while(_metadata, self, variant->class, OPT_OUT_AND_IN);
}

TEST_F_TIMEOUT(at_once, growth_and_munmap, 600)
{
	grow_while(_metadata, self, variant->class, MAP_ANEW);
}

/* A page inside EOF can always be read. One past EOF reads as zeros or raises SIGBUS. */
TEST_F_TIMEOUT(at_once, faults_and_opting_out_and_in, 600)
{
	struct changing c = {
		.class = variant->class, .what = OPT_OUT_AND_IN, .device = self->device,
		.fd = self->fd, .addr = self->opted,
	};
	char *inside = self->opted, *past = self->opted + page;
	int zeros = 0, signals = 0;
	pthread_t thread;

	ASSERT_EQ(fill(self->fd, 'a', 0, page), 0);
	c.number = c.seen = 0;
	ASSERT_EQ(pthread_create(&thread, NULL, change_all_the_time, &c), 0);
	while ((zeros < ROUNDS || signals < ROUNDS) && !atomic_load(&c.stop)) {
		int ret = read_byte(past);

		if (ret && ret != -SIGBUS)
			break;
		*(ret ? &signals : &zeros) += 1;
		ret = read_byte(inside);
		EXPECT_EQ(ret, 'a');
		if (ret != 'a')
			break;
	}
	EXPECT_GE(zeros, ROUNDS);
	EXPECT_GE(signals, ROUNDS);
	atomic_store(&c.stop, true);
	ASSERT_EQ(pthread_join(thread, NULL), 0);
	EXPECT_EQ(c.failed, NULL) TH_LOG("%s", c.failed);
}

/* When madvise() empties all that a page table maps, core mm frees the table. */
#define TABLE_ACCESSES	500000

struct emptying {
	char *addr;
	atomic_bool stop;
	atomic_long times;
};

static void *empty_page_table(void *arg)
{
	struct emptying *e = arg;

	while (!atomic_load(&e->stop)) {
		if (madvise(e->addr, HUGE_PAGE, MADV_DONTNEED))
			break;
		e->times++;
	}
	return NULL;
}

/*
 * Core mm frees the page table during a fault. The module must not treat that as a lack of memory:
 * the system call would fail with EFAULT. The race window is short. About one access in fifty
 * thousand meets it.
 */
TEST_F_TIMEOUT(at_once, faults_and_page_tables_that_go, 600)
{
	char *area = map_file(variant->class, self->fd, 2 * HUGE_PAGE);
	int wrong = 0, last = 0;
	struct emptying e = {};
	pthread_t thread;

	ASSERT_NE(area, MAP_FAILED);
	ASSERT_EQ(enable(self->device, area, 2 * HUGE_PAGE), 0);
	e.addr = (char *)(((unsigned long)area + HUGE_PAGE - 1) & -HUGE_PAGE);
	ASSERT_EQ(pthread_create(&thread, NULL, empty_page_table, &e), 0);
	for (int i = 0; i < TABLE_ACCESSES || e.times < 1000; i++) {
		/* The signal set that it reads from the page is empty, so it changes nothing. */
		if (syscall(SYS_rt_sigprocmask, SIG_BLOCK, e.addr + i % 2 * page, NULL, 8)) {
			last = errno;
			wrong++;
		}
	}
	atomic_store(&e.stop, true);
	ASSERT_EQ(pthread_join(thread, NULL), 0);
	TH_LOG("%ld times emptied", e.times);
	EXPECT_EQ(wrong, 0) TH_LOG("last: %s", strerror(last));
	EXPECT_GE(e.times, 1000);
	munmap(area, 2 * HUGE_PAGE);
}

/* Growth needs some time to drop so many shadow pages. */
#define MANY		4096
#define OVERTAKEN	30

FIXTURE(overtaken) {
	MAPPED_FILE;
	/* The error of a thread, or 0. */
	atomic_int wrong;
};

FIXTURE_SETUP(overtaken)
{
	set_up_file(_metadata, &self->file, MEMFD, 0, MANY + 1);
	page = self->page;
	set_up_opted_in(_metadata, &self->file, SHARED_WRITE);
}

FIXTURE_TEARDOWN(overtaken)
{
	tear_down(&self->file);
}

static void wait_for_many(FIXTURE_DATA(overtaken) * self)
{
	struct stat st = {};

	while (!self->wrong && (size_t)st.st_size < MANY * page)
		self->wrong = result(fstat(self->fd, &st));
}

static void *touch_past_eof(void *arg)
{
	FIXTURE_DATA(overtaken) * self = arg;

	wait_for_many(self);
	if (!self->wrong)
		self->wrong = write_byte(self->addr + MANY * page, 0xff);
	return NULL;
}

static void *grow_further(void *arg)
{
	FIXTURE_DATA(overtaken) * self = arg;

	wait_for_many(self);
	if (!self->wrong)
		self->wrong = result(ftruncate(self->fd, (MANY + 1) * page));
	return NULL;
}

/*
 * A fault past EOF waits for the report of one growth. Meanwhile a second growth brings its page
 * inside EOF. The fault must not leave a shadow page there.
 */
TEST_F_TIMEOUT(overtaken, by_growth, 120)
{
	for (int round = 0; round < OVERTAKEN; round++) {
		struct nosigbus_status status;
		pthread_t touching, growing;

		ASSERT_EQ(ftruncate(self->fd, 0), 0);
		for (int i = 0; i < MANY; i++)
			ASSERT_EQ(write_byte(self->addr + i * page, 1), 0);
		ASSERT_EQ(pthread_create(&touching, NULL, touch_past_eof, self), 0);
		ASSERT_EQ(pthread_create(&growing, NULL, grow_further, self), 0);
		/* It releases the inode lock, which the other growth needs, before the report. */
		ASSERT_EQ(pwrite(self->fd, "", 1, MANY * page - 1), 1);
		ASSERT_EQ(pthread_join(touching, NULL), 0);
		ASSERT_EQ(pthread_join(growing, NULL), 0);
		ASSERT_EQ(self->wrong, 0);

		ASSERT_EQ(status_of(self->device, self->addr, 0, &status), 0);
		EXPECT_EQ(status.shadow_pages_held, 0U) TH_LOG("round %d", round);
	}
}

/* The guard process thaws the file system after so many seconds, even if the test has died. */
#define GUARD_SECONDS	60

/*
 * A process that has been killed but cannot exit, because it is writing to a frozen file
 * system.
 */
FIXTURE(killed) {
	int fs, alive;
	pid_t guard, victim;
	struct {
		atomic_int ready, go;
	} *shared;
	/* A mapping that has a private page, and one that has none. */
	char *addr, *untouched;
};

FIXTURE_VARIANT(killed) {
	/* true: read by /proc/PID/mem, as a debugger does. false: by process_vm_readv(2). */
	bool proc;
};

FIXTURE_VARIANT_ADD(killed, process_vm_readv) { false };
FIXTURE_VARIANT_ADD(killed, proc_pid_mem) { true };

FIXTURE_SETUP(killed)
{
	int device, fd, memfd, alive[2];

	if (geteuid())
		SKIP(return, "freezing a file system takes root");
	need_backing(_metadata, EXT4);
	page = page_size();
	catch_signals();
	self->shared = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(self->shared, MAP_FAILED);
	device = open_device();
	ASSERT_GE(device, 0) TH_LOG("/dev/nosigbus: %s", strerror(errno));
	fd = new_file(EXT4);
	ASSERT_GE(fd, 0);
	memfd = new_file(MEMFD);
	ASSERT_GE(memfd, 0);
	self->addr = map_file(PRIVATE, memfd, 2 * page);
	ASSERT_NE(self->addr, MAP_FAILED);
	ASSERT_EQ(enable(device, self->addr, 2 * page), 0);
	self->untouched = map_file(PRIVATE, memfd, 4 * page);
	ASSERT_NE(self->untouched, MAP_FAILED);
	ASSERT_EQ(enable(device, self->untouched, 4 * page), 0);
	self->fs = open(fs_path("ext4"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ASSERT_GE(self->fs, 0);

	ASSERT_EQ(pipe(alive), 0);
	self->alive = alive[1];
	self->guard = fork();
	ASSERT_GE(self->guard, 0);
	if (!self->guard) {
		struct pollfd test = { .fd = alive[0], .events = POLLIN };

		/* A session of its own, so that it is not killed together with the test. */
		setsid();
		close(alive[1]);
		poll(&test, 1, GUARD_SECONDS * 1000);
		ioctl(self->fs, FITHAW, 0);
		_exit(0);
	}
	close(alive[0]);

	self->victim = fork();
	ASSERT_GE(self->victim, 0);
	if (!self->victim) {
		close(alive[1]);
		*self->addr = 'p';
		atomic_store(&self->shared->ready, 1);
		while (!atomic_load(&self->shared->go))
			sched_yield();
		_exit(write(fd, "", 1));
	}
	close(memfd);
	close(fd);
	close(device);
}

FIXTURE_TEARDOWN(killed)
{
	int status;

	close(self->alive);
	ASSERT_EQ(waitpid(self->guard, NULL, 0), self->guard);
	ASSERT_EQ(waitpid(self->victim, &status, 0), self->victim);
	EXPECT_EQ(WTERMSIG(status), SIGKILL);
	close(self->fs);
}

/* The byte at p of another process, or minus errno. */
static int byte_of(pid_t pid, const char *p, int mem)
{
	unsigned char byte;
	struct iovec to = { .iov_base = &byte, .iov_len = 1 };
	struct iovec from = { .iov_base = (void *)p, .iov_len = 1 };
	ssize_t ret = mem < 0 ? process_vm_readv(pid, &to, 1, &from, 1, 0) :
				pread(mem, &byte, 1, (uintptr_t)p);

	return ret == 1 ? byte : ret < 0 ? -errno : -ENODATA;
}

/* After the OOM killer has reaped private pages, they must not read as zeros. */
TEST_F_TIMEOUT(killed, memory_is_not_zeros_once_it_is_taken, 4 * GUARD_SECONDS)
{
	const int failed = variant->proc ? -EIO : -EFAULT;
	int mem = -1, pidfd;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/mem", self->victim);
	if (variant->proc)
		mem = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_EQ(mem >= 0, variant->proc);
	pidfd = syscall(SYS_pidfd_open, self->victim, 0);
	ASSERT_GE(pidfd, 0);
	while (!atomic_load(&self->shared->ready))
		sched_yield();
	ASSERT_EQ(ioctl(self->fs, FIFREEZE, 0), 0) TH_LOG("%s", strerror(errno));
	atomic_store(&self->shared->go, 1);
	while (thread_state(self->victim) != 'D')
		sched_yield();
	ASSERT_EQ(kill(self->victim, SIGKILL), 0);
	EXPECT_EQ(byte_of(self->victim, self->addr, mem), 'p');
	/* Two sequential reads, so that the module maps the zero page ahead. */
	EXPECT_EQ(byte_of(self->victim, self->untouched, mem), 0);
	EXPECT_EQ(byte_of(self->victim, self->untouched + page, mem), 0);

	/* Reap the memory, as the OOM killer does. */
	ASSERT_EQ(syscall(SYS_process_mrelease, pidfd, 0), 0) TH_LOG("%s", strerror(errno));
	EXPECT_EQ(byte_of(self->victim, self->addr, mem), failed);
	EXPECT_EQ(byte_of(self->victim, self->addr + page, mem), failed);
	for (int i = 0; i < 4; i++)
		EXPECT_EQ(byte_of(self->victim, self->untouched + i * page, mem), failed);
	if (mem >= 0)
		close(mem);
	close(pidfd);
}

TEST_HARNESS_MAIN
