// SPDX-License-Identifier: GPL-2.0-only
/*
 * Shadow pages, which a writable MAP_SHARED mapping has past EOF: which processes share them, which
 * mappings do not show them, how long they live, and which cgroup they are charged to.
 */

#include "broken_file_systems.h"
#include "mapped_file.h"
#include "turns.h"

#include <pthread.h>
#include <stdatomic.h>

/* One page of content, then pages past EOF. */
#define FILE_PAGES	1
#define PAGES		6

FIXTURE(shadow) {
	MAPPED_FILE;
};

FIXTURE_VARIANT(shadow) {
	enum backing backing;
};

FIXTURE_VARIANT_ADD(shadow, memfd) { MEMFD };
FIXTURE_VARIANT_ADD(shadow, tmpfs) { TMPFS };
FIXTURE_VARIANT_ADD(shadow, ext4) { EXT4 };
FIXTURE_VARIANT_ADD(shadow, xfs) { XFS };
FIXTURE_VARIANT_ADD(shadow, btrfs) { BTRFS };
FIXTURE_VARIANT_ADD(shadow, overlay) { OVERLAY };
FIXTURE_VARIANT_ADD(shadow, p9) { P9 };

FIXTURE_SETUP(shadow)
{
	set_up_file(_metadata, &self->file, variant->backing, FILE_PAGES * page_size(), PAGES);
	set_up_opted_in(_metadata, &self->file, SHARED_WRITE);
}

FIXTURE_TEARDOWN(shadow)
{
	tear_down(&self->file);
}

/* 0 if the page at p has byte at offset 7 and zeros elsewhere. */
static size_t shadow_differs(const char *p, int byte)
{
	size_t before = differs(p, 0, 7);

	if (before)
		return before;
	if (read_byte(p + 7) != byte)
		return 8;
	return differs(p + 8, 0, page_size() - 8);
}

#define EXPECT_SHADOW(p, byte)	EXPECT_EQ(shadow_differs(p, byte), 0)

TEST_F(shadow, written_and_read)
{
	/* One page is read first, another is written first. Then many writes. */
	EXPECT_EQ(differs(self->past, 0, self->page), 0);
	EXPECT_EQ(write_byte(self->past + 7, 1), 0);
	EXPECT_SHADOW(self->past, 1);
	EXPECT_EQ(write_byte(self->past + self->page + 7, 2), 0);
	EXPECT_SHADOW(self->past + self->page, 2);
	for (int i = 0; i < 100; i++) {
		EXPECT_EQ(write_byte(self->past + 7, i), 0);
		EXPECT_EQ(read_byte(self->past + 7), i);
	}
	EXPECT_SHADOW(self->past + self->page, 2);
	EXPECT_EQ(pages_of(0, self->addr, FILE_PAGES + 2, PAGES), PAGES - FILE_PAGES - 2);
}

/* A poisoned shadow page is never read again: an access raises SIGBUS. */
TEST_F(shadow, broken_memory_raises_sigbus)
{
	if (geteuid())
		SKIP(return, "it takes root to break things");
	need(_metadata, "hwpoison");
	EXPECT_EQ(write_byte(self->past, 1), 0);
	EXPECT_EQ(write_byte(self->past + self->page, 2), 0);
	in_child(poison, self->past);
	ASSERT_EQ(madvise(self->past, 2 * self->page, MADV_DONTNEED), 0);
	EXPECT_EQ(read_byte(self->past), -SIGBUS);
	EXPECT_EQ(last_signal.si_code, BUS_MCEERR_AR);
	EXPECT_EQ(write_byte(self->past, 1), -SIGBUS);
	EXPECT_EQ(read_byte(self->past + self->page), 2);
	/* Growth removes it like any other shadow page. */
	ASSERT_EQ(ftruncate(self->fd, self->len), 0);
	EXPECT_EQ(read_byte(self->past), 0);
}

/* A shadow page stays in the mapping, whatever unmaps it. */
TEST_F(shadow, survives_what_unmaps_it)
{
	EXPECT_EQ(write_byte(self->past + 7, 1), 0);
	ASSERT_EQ(madvise(self->addr, self->len, MADV_DONTNEED), 0);
	EXPECT_SHADOW(self->past, 1);
	EXPECT_EQ(write_byte(self->past + 7, 2), 0);
	ASSERT_EQ(ftruncate(self->fd, 0), 0);
	EXPECT_SHADOW(self->past, 2);

	/* Page 0 is past EOF now. It gets a new shadow page. */
	EXPECT_EQ(pages_of(0, self->addr, 0, FILE_PAGES), FILE_PAGES);
	EXPECT_EQ(write_byte(self->addr + 7, 3), 0);
	ASSERT_EQ(madvise(self->addr, self->len, MADV_DONTNEED), 0);
	EXPECT_SHADOW(self->addr, 3);
	EXPECT_SHADOW(self->past, 2);

	ASSERT_EQ(msync(self->addr, self->len, MS_SYNC), 0);
	ASSERT_EQ(mprotect(self->addr, self->len, PROT_NONE), 0);
	ASSERT_EQ(mprotect(self->addr, self->len, PROT_READ), 0);
	EXPECT_SHADOW(self->past, 2);
	EXPECT_EQ(write_byte(self->past, 1), -SIGSEGV);
	ASSERT_EQ(mprotect(self->addr, self->len, PROT_READ | PROT_WRITE), 0);
	EXPECT_EQ(write_byte(self->past + 7, 4), 0);
	EXPECT_SHADOW(self->past, 4);
}

TEST_F(shadow, shared_by_parts_and_copies)
{
	char *to = mmap(NULL, self->len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *last = self->past + 3 * self->page, *copy, *moved;

	ASSERT_NE(to, MAP_FAILED);
	copy = mremap(self->addr, 0, self->len, MREMAP_MAYMOVE);
	ASSERT_NE(copy, MAP_FAILED);
	/* Split the mapping and move one part. Neither page has been touched yet. */
	ASSERT_EQ(munmap(self->past + self->page, self->page), 0);
	moved = mremap(last, self->page, self->page, MREMAP_MAYMOVE | MREMAP_FIXED, to);
	ASSERT_EQ(moved, to);

	EXPECT_EQ(write_byte(self->past + 7, 1), 0);
	EXPECT_EQ(write_byte(moved + 7, 2), 0);
	EXPECT_SHADOW(copy + self->page, 1);
	EXPECT_SHADOW(copy + 4 * self->page, 2);
	EXPECT_EQ(write_byte(copy + self->page + 7, 3), 0);
	EXPECT_EQ(write_byte(copy + 4 * self->page + 7, 4), 0);
	EXPECT_SHADOW(self->past, 3);
	EXPECT_SHADOW(moved, 4);

	/* Unmap all but one part. */
	ASSERT_EQ(munmap(copy, self->len), 0);
	ASSERT_EQ(munmap(self->addr, self->len), 0);
	EXPECT_SHADOW(moved, 4);
	/* A new copy of that part shows the same shadow page. */
	copy = mremap(moved, 0, self->page, MREMAP_MAYMOVE);
	ASSERT_NE(copy, MAP_FAILED);
	EXPECT_SHADOW(copy, 4);
	munmap(to, self->len);
	munmap(copy, self->page);
}

TEST_F(shadow, shared_with_children)
{
	char *early = self->past, *late = self->past + self->page, *own = late + self->page;
	struct turns t;
	int status;
	pid_t pid;

	ASSERT_EQ(pipe(t.to_child), 0);
	ASSERT_EQ(pipe(t.to_parent), 0);
	EXPECT_EQ(write_byte(early + 7, 1), 0);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		/* One bit for each check that fails. */
		int bad = shadow_differs(early, 1) ? 1 : 0;

		write_byte(early + 7, 2);
		write_byte(late + 7, 3);
		go_on(t.to_parent[1]);
		wait_for(t.to_child[0]);
		bad |= shadow_differs(early, 4) ? 2 : 0;
		bad |= shadow_differs(late, 5) ? 4 : 0;
		bad |= shadow_differs(own, 6) ? 8 : 0;
		/* The parent unmaps its copy. That of this process stays. */
		go_on(t.to_parent[1]);
		wait_for(t.to_child[0]);
		bad |= shadow_differs(own, 6) ? 16 : 0;
		bad |= madvise(own, self->page, MADV_DONTNEED) ? 32 : 0;
		bad |= shadow_differs(own, 6) ? 64 : 0;
		_exit(bad);
	}
	wait_for(t.to_parent[0]);
	EXPECT_SHADOW(early, 2);
	EXPECT_SHADOW(late, 3);
	EXPECT_EQ(write_byte(early + 7, 4), 0);
	EXPECT_EQ(write_byte(late + 7, 5), 0);
	EXPECT_EQ(write_byte(own + 7, 6), 0);
	go_on(t.to_child[1]);
	wait_for(t.to_parent[0]);
	ASSERT_EQ(munmap(self->addr, self->len), 0);
	go_on(t.to_child[1]);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
}

struct other_view {
	enum backing backing;
	int device, fd;
	size_t page, len;
};

/* A process that opts in a mapping of its own of the same file. */
static int another_mapping_has_zeros(void *arg)
{
	const struct other_view *v = arg;
	char *addr = map_file(SHARED_WRITE, v->fd, v->len);

	if (addr == MAP_FAILED || enable(v->device, addr, v->len))
		return 1;
	if (pages_of(0, addr, FILE_PAGES, PAGES) != PAGES - FILE_PAGES)
		return 2;
	return write_byte(addr + v->len - 1, 9) ? 3 : 0;
}

/*
 * A large page of a tmpfs may straddle EOF. When a process faults inside EOF, core mm maps all of
 * it. From then on this process sees the file's page past EOF, and not the others' shadow page.
 */
TEST(known_limit_large_page_past_eof)
{
	const size_t page = page_size(), huge = HUGE_PAGE;
	int device = open_device(), fd, status;
	char *area, *addr, *past;
	struct turns t;
	pid_t pid;

	need_backing(_metadata, TMPFS_HUGE);
	catch_signals();
	ASSERT_GE(device, 0);
	fd = new_file(TMPFS_HUGE);
	ASSERT_GE(fd, 0);
	/* The mapping has to contain all of the large page. */
	area = mmap(NULL, 2 * huge, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(area, MAP_FAILED);
	addr = (char *)(((unsigned long)area + huge - 1) & -huge);
	ASSERT_EQ(mmap(addr, huge, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0), addr);
	ASSERT_EQ(enable(device, addr, huge), 0);
	past = addr + 2 * page;
	ASSERT_EQ(pipe(t.to_child), 0);
	ASSERT_EQ(pipe(t.to_parent), 0);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		wait_for(t.to_child[0]);
		/* Maps all of the large page. One bit for each check that fails. */
		_exit((read_byte(addr) != 1 ? 1 : 0) | (read_byte(past) != 0 ? 2 : 0));
	}
	EXPECT_EQ(write_byte(past, 2), 0);
	/* tmpfs allocates a large page for this byte. */
	EXPECT_EQ(pwrite(fd, "\1", 1, 0), 1);
	go_on(t.to_child[1]);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	EXPECT_EQ(read_byte(addr), 1);
	EXPECT_EQ(read_byte(past), 2);
	munmap(area, 2 * huge);
	close(fd);
	close(device);
}

/* Shadow pages never show in other mappings of the file, nor in the file itself. */
TEST_F(shadow, seen_by_nobody_else)
{
	struct other_view view = { variant->backing, self->device, self->fd, self->page, self->len };
	char *opted = map_file(SHARED_WRITE, self->fd, self->len);
	char *plain = map_file(SHARED_READ, self->fd, self->len);
	char *got = malloc(self->len);
	struct stat st;

	ASSERT_NE(opted, MAP_FAILED);
	ASSERT_NE(plain, MAP_FAILED);
	ASSERT_NE(got, NULL);
	ASSERT_EQ(enable(self->device, opted, self->len), 0);
	for (int i = FILE_PAGES; i < PAGES; i++)
		EXPECT_EQ(write_byte(self->addr + i * self->page + 7, 1), 0);
	EXPECT_EQ(pages_of(0, opted, FILE_PAGES, PAGES), PAGES - FILE_PAGES);
	EXPECT_EQ(in_child(another_mapping_has_zeros, &view), 0);
	EXPECT_SHADOW(self->past, 1);
	EXPECT_EQ(differs(self->addr + self->len - self->page + 8, 0, self->page - 8), 0);
	for (int i = FILE_PAGES; i < PAGES; i++)
		EXPECT_EQ(read_byte(plain + i * self->page), -SIGBUS);
	ASSERT_EQ(msync(self->addr, self->len, MS_SYNC), 0);
	ASSERT_EQ(fstat(self->fd, &st), 0);
	EXPECT_EQ(st.st_size, (off_t)(FILE_PAGES * self->page));
	EXPECT_EQ(pread(self->fd, got, self->len, FILE_PAGES * self->page), 0);

	/* After growth and fsync() the file still has zeros there. */
	ASSERT_EQ(ftruncate(self->fd, self->len), 0);
	ASSERT_EQ(fsync(self->fd), 0);
	EXPECT_EQ(pages_of(0, plain, FILE_PAGES, PAGES), PAGES - FILE_PAGES);
	ASSERT_EQ(pread(self->fd, got, self->len, 0), (ssize_t)self->len);
	EXPECT_EQ(differs(got, CONTENT, FILE_PAGES * self->page), 0);
	EXPECT_EQ(pages_of(0, got, FILE_PAGES, PAGES), PAGES - FILE_PAGES);
	munmap(opted, self->len);
	munmap(plain, self->len);
	free(got);
}

/* One thread reads a page and one writes it, both for the first time. */
#define RACE_ROUNDS	100

struct race {
	char *p;
	pthread_barrier_t start;
	atomic_int bad;
};

static void *write_at_once(void *arg)
{
	struct race *r = arg;

	for (int i = 0; i < RACE_ROUNDS; i++) {
		pthread_barrier_wait(&r->start);
		if (write_byte(r->p + 7, 1))
			r->bad++;
		pthread_barrier_wait(&r->start);
	}
	return NULL;
}

TEST_F_TIMEOUT(shadow, read_and_written_at_once, 60)
{
	struct race r = { .p = self->past };
	pthread_t thread;

	ASSERT_EQ(pthread_barrier_init(&r.start, NULL, 2), 0);
	ASSERT_EQ(pthread_create(&thread, NULL, write_at_once, &r), 0);
	for (int i = 0; i < RACE_ROUNDS; i++) {
		int first;

		/* A new mapping each time, in the same place: pages never touched. */
		ASSERT_EQ(mmap(self->addr, self->len, PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_FIXED, self->fd, 0), self->addr);
		ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
		pthread_barrier_wait(&r.start);
		first = read_byte(r.p + 7);
		pthread_barrier_wait(&r.start);
		EXPECT_TRUE(first == 0 || first == 1);
		/* Reader and writer got the same page. */
		EXPECT_EQ(read_byte(r.p + 7), 1);
	}
	ASSERT_EQ(pthread_join(thread, NULL), 0);
	EXPECT_EQ(r.bad, 0);
}

/* Rss of /proc/self/smaps_rollup, in pages; -1 if it cannot be read. */
static long rss(void)
{
	FILE *file = fopen("/proc/self/smaps_rollup", "re");
	char line[256];
	long kb = -1;

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "Rss: %ld kB", &kb) == 1)
			break;
	if (file)
		fclose(file);
	return kb < 0 ? -1 : kb * 1024 / (long)page_size();
}

/* VmRSS as /proc/self/status has it, in pages: what core mm counts. */
static long counted_rss(void)
{
	FILE *file = fopen("/proc/self/status", "re");
	char line[256];
	long kb = -1;

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "VmRSS: %ld kB", &kb) == 1)
			break;
	if (file)
		fclose(file);
	return kb < 0 ? -1 : kb * 1024 / (long)page_size();
}

#define MANY_PAGES	1024L

/* Other pages come and go meanwhile, and the counters are per CPU, so they are not exact. */
#define EXPECT_ABOUT(value, expected) do {	\
	EXPECT_GE(value, (expected) - 200);	\
	EXPECT_LE(value, (expected) + 200);	\
} while (0)

/* A shadow page counts once because the mapping holds it, and once more while it is mapped. */
TEST_F(shadow, counted_in_rss)
{
	size_t len = MANY_PAGES * self->page;
	long before, counted;
	char *addr;

	addr = map_file(SHARED_WRITE, self->fd, len);
	ASSERT_NE(addr, MAP_FAILED);
	ASSERT_EQ(enable(self->device, addr, len), 0);
	before = rss();
	counted = counted_rss();
	ASSERT_GE(before, 0);
	ASSERT_GE(counted, 0);
	for (long i = FILE_PAGES; i < MANY_PAGES; i++)
		ASSERT_EQ(write_byte(addr + i * self->page, 1), 0);
	EXPECT_ABOUT(rss() - before, MANY_PAGES);
	EXPECT_ABOUT(counted_rss() - counted, 2 * MANY_PAGES);
	ASSERT_EQ(madvise(addr, len, MADV_DONTNEED), 0);
	EXPECT_ABOUT(rss() - before, 0);
	EXPECT_ABOUT(counted_rss() - counted, MANY_PAGES);
	for (long i = FILE_PAGES; i < MANY_PAGES; i++)
		ASSERT_EQ(read_byte(addr + i * self->page), 1);
	EXPECT_ABOUT(counted_rss() - counted, 2 * MANY_PAGES);
	/* A part of the mapping still holds all shadow pages. */
	munmap(addr, len / 2);
	EXPECT_ABOUT(counted_rss() - counted, MANY_PAGES + MANY_PAGES / 2);
	munmap(addr + len / 2, len / 2);
	EXPECT_ABOUT(rss() - before, 0);
	EXPECT_ABOUT(counted_rss() - counted, 0);
}

TEST_F(shadow, counted_in_rss_until_the_file_grows)
{
	size_t len = MANY_PAGES * self->page;
	char *addr = map_file(SHARED_WRITE, self->fd, len);
	long counted;

	ASSERT_NE(addr, MAP_FAILED);
	ASSERT_EQ(enable(self->device, addr, len), 0);
	counted = counted_rss();
	for (long i = FILE_PAGES; i < MANY_PAGES; i++)
		ASSERT_EQ(write_byte(addr + i * self->page, 1), 0);
	ASSERT_EQ(madvise(addr, len, MADV_DONTNEED), 0);
	EXPECT_ABOUT(counted_rss() - counted, MANY_PAGES);
	ASSERT_EQ(ftruncate(self->fd, len / 2), 0);
	EXPECT_ABOUT(counted_rss() - counted, MANY_PAGES / 2);
	ASSERT_EQ(disable(self->device, addr, len), 0);
	EXPECT_ABOUT(counted_rss() - counted, 0);
	munmap(addr, len);
}

/* When the process that counts the pages unmaps them, another with the mapping counts them. */
TEST_F(shadow, counted_in_rss_of_who_is_left)
{
	size_t len = MANY_PAGES * self->page;
	char *addr = map_file(SHARED_WRITE, self->fd, len);
	long counted, told;
	int to_parent[2];
	struct turns t;
	pid_t pid;

	ASSERT_NE(addr, MAP_FAILED);
	ASSERT_EQ(enable(self->device, addr, len), 0);
	ASSERT_EQ(pipe(t.to_child), 0);
	ASSERT_EQ(pipe(to_parent), 0);
	counted = counted_rss();
	for (long i = FILE_PAGES; i < MANY_PAGES; i++)
		ASSERT_EQ(write_byte(addr + i * self->page, 1), 0);
	ASSERT_EQ(madvise(addr, len, MADV_DONTNEED), 0);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		for (int i = 0; i < 2; i++) {
			told = counted_rss();
			if (write(to_parent[1], &told, sizeof(told)) != sizeof(told))
				_exit(1);
			wait_for(t.to_child[0]);
		}
		_exit(0);
	}
	ASSERT_EQ(read(to_parent[0], &told, sizeof(told)), sizeof(told));
	EXPECT_ABOUT(told, counted);
	EXPECT_ABOUT(counted_rss() - counted, MANY_PAGES);
	munmap(addr, len);
	EXPECT_ABOUT(counted_rss() - counted, 0);
	go_on(t.to_child[1]);
	ASSERT_EQ(read(to_parent[0], &told, sizeof(told)), sizeof(told));
	EXPECT_ABOUT(told - counted, MANY_PAGES);
	go_on(t.to_child[1]);
	ASSERT_EQ(waitpid(pid, NULL, 0), pid);
}

/* A memory cgroup for a child, made and removed by root. */
#define CGROUP		"/sys/fs/cgroup/nosigbus"

static int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), ret;

	if (fd < 0)
		return -errno;
	ret = write(fd, text, strlen(text)) < 0 ? -errno : 0;
	close(fd);
	return ret;
}

/* The number in a file, or, with name, in the line that starts with it; -1 if there is none. */
static long long read_number(const char *path, const char *name)
{
	FILE *file = fopen(path, "re");
	long long value = -1, number;
	char line[256];

	while (file && value < 0 && fgets(line, sizeof(line), file)) {
		size_t skip = name ? strlen(name) : 0;

		if ((!name || !strncmp(line, name, skip)) && sscanf(line + skip, "%lld", &number) == 1)
			value = number;
	}
	if (file)
		fclose(file);
	return value;
}

FIXTURE(memory_cgroup) {
	MAPPED_FILE;
	struct turns t;
};

FIXTURE_SETUP(memory_cgroup)
{
	if (geteuid())
		SKIP(return, "making a cgroup takes root");
	need(_metadata, "memcg");
	set_up_file(_metadata, &self->file, EXT4, 0, 0);
	self->len = 16 << 20;
	ASSERT_EQ(write_file("/sys/fs/cgroup/cgroup.subtree_control", "+memory"), 0);
	ASSERT_EQ(mkdir(CGROUP, 0755), 0) TH_LOG("%s", strerror(errno));
	ASSERT_EQ(pipe(self->t.to_child), 0);
	ASSERT_EQ(pipe(self->t.to_parent), 0);
}

FIXTURE_TEARDOWN(memory_cgroup)
{
	/* The cgroup is empty, but the kernel may have work in flight that keeps it busy. */
	for (int i = 0; i < 100 && rmdir(CGROUP) && errno == EBUSY; i++)
		usleep(20000);
	EXPECT_NE(access(CGROUP, F_OK), 0);
}

/* In the cgroup: opts in a mapping. At each turn takes one step: touches all pages; unmaps. */
static void toucher(struct turns *t, int device, int fd, size_t len)
{
	size_t size = page_size();
	char *addr;

	if (write_file(CGROUP "/cgroup.procs", "0"))
		_exit(1);
	addr = map_file(SHARED_WRITE, fd, len);
	if (addr == MAP_FAILED || enable(device, addr, len))
		_exit(2);
	go_on(t->to_parent[1]);
	wait_for(t->to_child[0]);
	for (size_t i = 0; i < len; i += size)
		if (write_byte(addr + i, 1))
			_exit(3);
	go_on(t->to_parent[1]);
	wait_for(t->to_child[0]);
	munmap(addr, len);
	go_on(t->to_parent[1]);
	wait_for(t->to_child[0]);
	_exit(0);
}

TEST_F(memory_cgroup, is_charged)
{
	/* About 1 per cent of the charge is page tables and xarray nodes. */
	const long long slack = 1 << 20;
	long long before, kmem, touched, touched_kmem, after = 0;
	int status;
	pid_t pid = fork();

	ASSERT_GE(pid, 0);
	if (!pid)
		toucher(&self->t, self->device, self->fd, self->len);
	wait_for(self->t.to_parent[0]);
	before = read_number(CGROUP "/memory.current", NULL);
	kmem = read_number(CGROUP "/memory.stat", "kernel ");
	go_on(self->t.to_child[1]);
	wait_for(self->t.to_parent[0]);
	touched = read_number(CGROUP "/memory.current", NULL);
	touched_kmem = read_number(CGROUP "/memory.stat", "kernel ");
	go_on(self->t.to_child[1]);
	wait_for(self->t.to_parent[0]);
	/* The memcg uncharges in batches, and page tables are freed after a grace period. */
	for (int i = 0; i < 100; i++) {
		after = read_number(CGROUP "/memory.current", NULL);
		if (after - before < slack)
			break;
		usleep(20000);
	}
	go_on(self->t.to_child[1]);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_EQ(status, 0);
	ASSERT_GE(before, 0);
	ASSERT_GE(kmem, 0);
	EXPECT_GE(touched - before, (long long)self->len - slack);
	EXPECT_LE(touched - before, (long long)self->len + slack);
	/* Charged as kernel memory: shadow pages are on no LRU list and cannot be reclaimed. */
	EXPECT_GE(touched_kmem - kmem, (long long)self->len - slack);
	EXPECT_LT(after - before, slack);
}

/* When the cgroup is over its limit, the OOM killer kills the writer and no other process. */
TEST_F(memory_cgroup, over_the_limit_is_killed_alone)
{
	long long system = read_number("/proc/vmstat", "oom_kill ");
	int status;
	pid_t pid;

	ASSERT_GE(system, 0);
	ASSERT_EQ(write_file(CGROUP "/memory.max", "8M"), 0);
	ASSERT_EQ(write_file(CGROUP "/memory.swap.max", "0"), 0);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid)
		toucher(&self->t, self->device, self->fd, self->len);
	wait_for(self->t.to_parent[0]);
	go_on(self->t.to_child[1]);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
		TH_LOG("status %#x", status);
	EXPECT_EQ(read_number(CGROUP "/memory.events", "oom_kill "), 1);
	EXPECT_EQ(read_number("/proc/vmstat", "oom_kill "), system + 1);
	EXPECT_LE(read_number(CGROUP "/memory.peak", NULL), 8LL << 20);
}

TEST_HARNESS_MAIN
