// SPDX-License-Identifier: GPL-2.0-only
/*
 * Entries that map the zero page but are not stand-ins of the module. KSM maps it in place of
 * private copies that are all zeros, and userfaultfd maps it on request. Needs root, for KSM.
 */

#include "broken_file_systems.h"
#include "mapped_file.h"
#include "status.h"
#include "sys_files.h"

#include <linux/falloc.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#define PAGES	8
#define KSM	"/sys/kernel/mm/ksm/"

/* Whether the VMA at this address has this flag in its VmFlags; -1 if there is no VMA. */
static int has_vm_flag(const void *addr, const char *flag)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	unsigned long start, end;
	bool here = false;
	char line[512];
	int has = -1;

	while (f && has < 0 && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			here = start <= (unsigned long)addr && (unsigned long)addr < end;
		else if (here && !strncmp(line, "VmFlags:", 8))
			has = !!strstr(line, flag);
	}
	if (f)
		fclose(f);
	return has;
}

FIXTURE(merged) {
	MAPPED_FILE;
	/* Pages of zeros. When KSM has merged them, the test knows that KSM is at work. */
	char *control;
	long run, use_zero_pages, sleep;
};

static bool set_number(const char *path, long number)
{
	char text[32];

	snprintf(text, sizeof(text), "%ld", number);
	return write_to(path, text);
}

FIXTURE_SETUP(merged)
{
	if (geteuid())
		SKIP(return, "it takes root to start KSM");
	need(_metadata, "ksm");
	set_up_file(_metadata, &self->file, MEMFD, PAGES * page_size(), PAGES);
	set_up_mapping(_metadata, &self->file, PRIVATE);
	self->run = number_in(KSM "run", "");
	self->use_zero_pages = number_in(KSM "use_zero_pages", "");
	self->sleep = number_in(KSM "sleep_millisecs", "");
	ASSERT_TRUE(set_number(KSM "use_zero_pages", 1));
	ASSERT_TRUE(set_number(KSM "sleep_millisecs", 1));
	ASSERT_TRUE(set_number(KSM "run", 1));
}

FIXTURE_TEARDOWN_PARENT(merged)
{
	if (geteuid() || why_no("ksm"))
		return;
	EXPECT_TRUE(set_number(KSM "run", self->run));
	EXPECT_TRUE(set_number(KSM "use_zero_pages", self->use_zero_pages));
	EXPECT_TRUE(set_number(KSM "sleep_millisecs", self->sleep));
}

/* How many of the process's pages have been merged with the zero page. */
static long merged_zeros(void)
{
	return number_in("/proc/self/ksm_stat", "ksm_zero_pages ");
}

/* Waits until so many pages have been merged. */
static bool await_merged(long pages)
{
	for (int i = 0; i < 6000 && merged_zeros() < pages; i++)
		usleep(10000);
	return merged_zeros() >= pages;
}

/* Waits for so many full scans by KSM. */
static bool await_scans(int scans)
{
	long end = number_in(KSM "full_scans", "") + scans;

	for (int i = 0; i < 6000 && number_in(KSM "full_scans", "") < end; i++)
		usleep(10000);
	return number_in(KSM "full_scans", "") >= end;
}

/* Makes sure that KSM is at work: waits until it has merged the control pages. */
static void merge_control(struct __test_metadata *_metadata, char **control, size_t len)
{
	long before = merged_zeros();

	*control = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(*control, MAP_FAILED);
	ASSERT_EQ(madvise(*control, len, MADV_MERGEABLE), 0);
	memset(*control, 0, len);
	ASSERT_TRUE(await_merged(before + (long)(len / page_size())));
}

/* Private copies past EOF, of zeros, stay: they are no stand-ins. */
TEST_F_TIMEOUT(merged, copies_past_eof_stay, 300)
{
	ASSERT_EQ(madvise(self->addr, self->len, MADV_MERGEABLE), 0);
	ASSERT_EQ(has_vm_flag(self->addr, " mg"), 1);
	ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
	EXPECT_EQ(has_vm_flag(self->addr, " mg"), 0);
	ASSERT_EQ(ftruncate(self->fd, 0), 0);
	/* Map a stand-in below all copies, so that growth has something to drop. */
	ASSERT_EQ(read_byte(self->addr), 0);
	for (int i = 1; i < PAGES; i++) {
		ASSERT_EQ(write_byte(self->addr + i * self->page, 1), 0);
		ASSERT_EQ(write_byte(self->addr + i * self->page, 0), 0);
	}
	merge_control(_metadata, &self->control, self->len);
	ASSERT_TRUE(await_scans(3));
	EXPECT_EQ(merged_zeros(), PAGES);

	ASSERT_EQ(fill(self->fd, CONTENT, 0, self->size), 0);
	EXPECT_EQ(pages_of(CONTENT, self->addr, 0, 1), 1);
	EXPECT_EQ(pages_of(0, self->addr, 1, PAGES), PAGES - 1);
	ASSERT_EQ(disable(self->device, self->addr, self->len), 0);
	EXPECT_EQ(pages_of(0, self->addr, 1, PAGES), PAGES - 1);
}

/* Copies that were merged before opting in stay. After opting out, KSM may merge them again. */
TEST_F_TIMEOUT(merged, copies_of_before_stay, 300)
{
	ASSERT_EQ(madvise(self->addr, self->len, MADV_MERGEABLE), 0);
	memset(self->addr, 0, self->len);
	ASSERT_TRUE(await_merged(PAGES));
	ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
	EXPECT_EQ(merged_zeros(), 0);
	EXPECT_EQ(has_vm_flag(self->addr, " mg"), 0);

	/* Drop the first copy: page 0 shows the file. Opting out must not drop the others. */
	ASSERT_EQ(madvise(self->addr, self->page, MADV_DONTNEED), 0);
	ASSERT_EQ(enable(self->device, self->addr, self->len), OPTED_IN_TWICE);
	EXPECT_EQ(pages_of(0, self->addr, 1, PAGES), PAGES - 1);
	EXPECT_EQ(pages_of(CONTENT, self->addr, 0, 1), 1);
	ASSERT_EQ(disable(self->device, self->addr, self->len), 0);
	EXPECT_EQ(has_vm_flag(self->addr, " mg"), OPTING_OUT_IS_WHOLE);
	EXPECT_EQ(pages_of(0, self->addr, 1, PAGES), PAGES - 1);
	if (OPTING_OUT_IS_WHOLE)
		EXPECT_TRUE(await_merged(PAGES - 1));
	EXPECT_EQ(pages_of(0, self->addr, 1, PAGES), PAGES - 1);
}

/*
 * Another mapping of the same file has a private copy that is all zeros. Its page is between those
 * of two stand-ins of a mapping that records errors. The copy stays when that mapping clears the
 * errors, and when it opts out.
 */
TEST_F_TIMEOUT(merged, copies_of_a_stranger_stay, 300)
{
	static const int failed[] = { 0, 3, 4, 6, 9, 12, 15 };
	const size_t errors = ARRAY_SIZE(failed), len = 16 * self->page;
	const int copied = 5;
	int fd = new_file(SMALL_TMPFS), filler = new_file(SMALL_TMPFS);
	struct nosigbus_status status;
	char *strangers, *addr;

	ASSERT_GE(fd, 0);
	ASSERT_GE(filler, 0);
	ASSERT_EQ(ftruncate(fd, len), 0);
	ASSERT_EQ(fill(fd, CONTENT, copied * self->page, self->page), 0);
	strangers = map_file(PRIVATE, fd, len);
	ASSERT_NE(strangers, MAP_FAILED);
	ASSERT_EQ(madvise(strangers, len, MADV_MERGEABLE), 0);
	memset(strangers + copied * self->page, 0, self->page);
	ASSERT_TRUE(await_merged(1));
	ASSERT_EQ(fill_up(filler), -ENOSPC);

	addr = map_file(PRIVATE, fd, len);
	ASSERT_NE(addr, MAP_FAILED);
	ASSERT_EQ(enable_with(self->device, addr, len, NOSIGBUS_RECORD_ERRORS, 0), 0);
	for (size_t i = 0; i < errors; i++)
		ASSERT_EQ(read_byte(addr + failed[i] * self->page), 0);
	ASSERT_EQ(status_of(self->device, addr, NOSIGBUS_CLEAR_ERROR, &status), 0);
	ASSERT_EQ(status.errors, errors);
	EXPECT_EQ(pages_of(0, strangers, copied, copied + 1), 1);
	/* The errors have been cleared, so the file system is asked again, and fails again. */
	for (size_t i = 0; i < errors; i++)
		ASSERT_EQ(read_byte(addr + failed[i] * self->page), 0);
	ASSERT_EQ(status_of(self->device, addr, 0, &status), 0);
	ASSERT_EQ(status.errors, 2 * errors);
	ASSERT_EQ(disable(self->device, addr, len), 0);
	EXPECT_EQ(pages_of(0, strangers, copied, copied + 1), 1);
	EXPECT_EQ(read_byte(addr + copied * self->page), CONTENT);
	munmap(addr, len);
	munmap(strangers, len);
	close(filler);
	close(fd);
}

/* While a mapping is opted in, MADV_MERGEABLE does not make it mergeable. */
TEST_F(merged, is_not_mergeable_while_opted_in)
{
	ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
	EXPECT_EQ(madvise(self->addr, self->len, MADV_MERGEABLE), 0);
	EXPECT_EQ(has_vm_flag(self->addr, " mg"), 0);
	ASSERT_EQ(disable(self->device, self->addr, self->len), 0);
	EXPECT_EQ(has_vm_flag(self->addr, " mg"), 0);
}

/*
 * userfaultfd has filled the page tables with the zero page. None of the entries is a stand-in. One
 * thread punches holes into the file: for each entry, core mm reads vm_ops of the VMA. Meanwhile
 * another thread opts the mapping in and out.
 */
#define ENTRIES	(1 << 14)

FIXTURE(entries) {
	MAPPED_FILE;
	int uffd;
};

FIXTURE_SETUP(entries)
{
	struct uffdio_api api = { .api = UFFD_API };

	need(_metadata, "userfaultfd");
	set_up_device(_metadata, &self->file);
	self->len = (size_t)ENTRIES * self->page;
	self->fd = new_file(MEMFD);
	ASSERT_GE(self->fd, 0);
	ASSERT_EQ(ftruncate(self->fd, self->len), 0);
	set_up_mapping(_metadata, &self->file, PRIVATE);
	self->uffd = syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	ASSERT_GE(self->uffd, 0) TH_LOG("userfaultfd: %s", strerror(errno));
	ASSERT_EQ(ioctl(self->uffd, UFFDIO_API, &api), 0);
}

FIXTURE_TEARDOWN(entries)
{
	close(self->uffd);
	tear_down(&self->file);
}

static long fill_with_zero_pages(int uffd, char *addr, size_t len)
{
	struct uffdio_range range = { .start = (unsigned long)addr, .len = len };
	struct uffdio_register reg = { .range = range, .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct uffdio_zeropage zero = { .range = range };

	if (ioctl(uffd, UFFDIO_REGISTER, &reg) || ioctl(uffd, UFFDIO_ZEROPAGE, &zero) ||
	    ioctl(uffd, UFFDIO_UNREGISTER, &range))
		return -errno;
	return zero.zeropage;
}

/*
 * Keeping a page walks the mappings of the file only if some page table may have something to
 * unmap. At a hole there is nothing. A walk would take the entries away, and these accesses would
 * meet the full file system, too.
 */
TEST_F(entries, stay_when_pages_are_kept_at_holes)
{
	const int pages = 8;
	const size_t len = pages * self->page;
	struct nosigbus_status status;
	char *strangers, *addr;
	int fd, filler;

	need_backing(_metadata, SMALL_TMPFS);
	fd = new_file(SMALL_TMPFS);
	filler = new_file(SMALL_TMPFS);
	ASSERT_GE(fd, 0);
	ASSERT_GE(filler, 0);
	ASSERT_EQ(ftruncate(fd, len), 0);
	ASSERT_EQ(fill_up(filler), -ENOSPC);
	strangers = map_file(PRIVATE, fd, len);
	ASSERT_NE(strangers, MAP_FAILED);
	ASSERT_EQ(fill_with_zero_pages(self->uffd, strangers, len), (long)len);

	addr = map_file(SHARED_WRITE, fd, len);
	ASSERT_NE(addr, MAP_FAILED);
	ASSERT_EQ(enable_with(self->device, addr, len, NOSIGBUS_RECORD_ERRORS, 0), 0);
	for (int i = 0; i < pages; i++)
		EXPECT_EQ(write_byte(addr + i * self->page, i), 0);
	ASSERT_EQ(status_of(self->device, addr, 0, &status), 0);
	EXPECT_EQ(status.errors, pages);
	for (int i = 0; i < pages; i++) {
		EXPECT_EQ(read_byte(addr + i * self->page), i);
		EXPECT_EQ(read_byte(strangers + i * self->page), 0);
	}
	munmap(addr, len);
	munmap(strangers, len);
	close(filler);
	close(fd);
}

struct puncher {
	pthread_barrier_t barrier;
	int fd;
	size_t len;
	bool stop, failed;
	atomic_bool punched;
};

static void *punch(void *arg)
{
	struct puncher *p = arg;

	for (;;) {
		pthread_barrier_wait(&p->barrier);
		if (p->stop)
			return NULL;
		if (fallocate(p->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, p->len))
			p->failed = true;
		p->punched = true;
		pthread_barrier_wait(&p->barrier);
	}
}

/* The minimum, even on a slow machine. */
#define ROUNDS		100

TEST_F_TIMEOUT(entries, are_walked_while_it_opts_in_and_out, 300)
{
	struct puncher p = { .fd = self->fd, .len = self->len };
	double end = seconds() + number_of("RACE_SECONDS", 5);
	long times = 0;
	pthread_t thread;

	ASSERT_EQ(pthread_barrier_init(&p.barrier, NULL, 2), 0);
	ASSERT_EQ(pthread_create(&thread, NULL, punch, &p), 0);
	do {
		ASSERT_EQ(fill_with_zero_pages(self->uffd, self->addr, self->len), (long)self->len);
		p.punched = false;
		pthread_barrier_wait(&p.barrier);
		do {
			ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
			ASSERT_EQ(disable(self->device, self->addr, self->len), 0);
			times++;
		} while (!p.punched);
		pthread_barrier_wait(&p.barrier);
		ASSERT_FALSE(p.failed);
	} while (seconds() < end || times < ROUNDS);
	p.stop = true;
	pthread_barrier_wait(&p.barrier);
	pthread_join(thread, NULL);
	TH_LOG("opted in and out %ld times", times);
}

TEST_HARNESS_MAIN
