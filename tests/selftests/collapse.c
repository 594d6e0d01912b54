// SPDX-License-Identifier: GPL-2.0-only
/*
 * Huge pages that are made of small ones while there are stand-ins: core mm frees the page tables
 * of every mapping of that part of the file, and must spare those of opted-in ones.
 */

#include "mapped_file.h"
#include "sys_files.h"

#include <pthread.h>
#include <stdatomic.h>

#define HUGE_PAGE	(2UL << 20)
#define FILE_PAGES	3

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

FIXTURE(collapse) {
	MAPPED_FILE;
};

FIXTURE_VARIANT(collapse) {
	int sharing;
	int prot;
};

FIXTURE_VARIANT_ADD(collapse, private) {
	.sharing = MAP_PRIVATE, .prot = PROT_READ | PROT_WRITE,
};

FIXTURE_VARIANT_ADD(collapse, shared_read) {
	.sharing = MAP_SHARED, .prot = PROT_READ,
};

FIXTURE_VARIANT_ADD(collapse, shared_write) {
	.sharing = MAP_SHARED, .prot = PROT_READ | PROT_WRITE,
};

/* Maps the file where a huge page of it would be mapped as one. */
static char *map_huge_aligned(int fd, int prot, int sharing)
{
	char *area = mmap(NULL, 2 * HUGE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned long addr = ((unsigned long)area + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);

	if (area == MAP_FAILED)
		return area;
	return mmap((void *)addr, HUGE_PAGE, prot, sharing | MAP_FIXED, fd, 0);
}

FIXTURE_SETUP(collapse)
{
	if (variant->sharing == MAP_SHARED && variant->prot & PROT_WRITE)
		need_class(_metadata, SHARED_WRITE);
	need(_metadata, "thp");
	set_up_file(_metadata, &self->file, MEMFD, 0, HUGE_PAGE / page_size());
	ASSERT_EQ(ftruncate(self->fd, FILE_PAGES * self->page), 0);
	self->addr = map_huge_aligned(self->fd, variant->prot, variant->sharing);
	ASSERT_NE(self->addr, MAP_FAILED);
}

FIXTURE_TEARDOWN(collapse)
{
	tear_down(&self->file);
}

/* What the owner of the file does, in another process, through a plain mapping of its own. */
static int collapse_file(void *arg)
{
	char *addr = map_huge_aligned(*(int *)arg, PROT_READ | PROT_WRITE, MAP_SHARED);

	if (addr == MAP_FAILED)
		return 1;
	for (int i = 0; i < FILE_PAGES; i++)
		addr[i * page_size()] = 'f';
	/* It gives up where somebody else has a page for a moment, or there is no huge page free. */
	for (int i = 0; madvise(addr, HUGE_PAGE, MADV_COLLAPSE); i++) {
		if (i == 1000 || (errno != EAGAIN && errno != EBUSY && errno != ENOMEM))
			return 2;
		usleep(1000);
	}
	return 0;
}

/* A lost page table is also reported by the kernel, at exit: "Bad rss-counter state". */
TEST_F(collapse, spares_stand_ins)
{
	bool shadows = variant->sharing == MAP_SHARED && variant->prot & PROT_WRITE;
	int pages = HUGE_PAGE / self->page;

	ASSERT_EQ(enable(self->device, self->addr, HUGE_PAGE), 0);
	for (int i = FILE_PAGES; i < pages; i++) {
		char *at = self->addr + i * self->page;

		ASSERT_EQ(shadows ? write_byte(at, i) : read_byte(at), 0);
	}
	ASSERT_EQ(in_child(collapse_file, &self->fd), 0);

	for (int i = 0; i < pages; i++) {
		int expected = i < FILE_PAGES ? 'f' : shadows ? i & 0xff : 0;

		ASSERT_EQ(read_byte(self->addr + i * self->page), expected);
	}
	/* And they are still where DISABLE finds them. */
	ASSERT_EQ(disable(self->device, self->addr, HUGE_PAGE), 0);
	EXPECT_EQ(read_byte(self->addr), 'f');
}

/*
 * Core mm must not map a huge page in an opted-in mapping: it would unmap it without taking it off
 * its counts, and say so later ("Bad page cache", "Bad rss-counter state").
 */
static void use_huge_page(struct __test_metadata *_metadata, FIXTURE_DATA(collapse) * self,
			  bool writable)
{
	for (int i = 0; i < FILE_PAGES; i++) {
		EXPECT_EQ(read_byte(self->addr + i * self->page), 'f');
		if (writable)
			EXPECT_EQ(write_byte(self->addr + i * self->page, 'f'), 0);
	}
	EXPECT_EQ(read_byte(self->addr + HUGE_PAGE - 1), 0);
	EXPECT_EQ(ftruncate(self->fd, self->page), 0);
	EXPECT_EQ(read_byte(self->addr), 'f');
	for (size_t i = 1; i < HUGE_PAGE / self->page; i++)
		EXPECT_GE(read_byte(self->addr + i * self->page), 0);
	EXPECT_EQ(munmap(self->addr + HUGE_PAGE / 2, HUGE_PAGE / 2), 0);
	EXPECT_EQ(read_byte(self->addr), 'f');
}

TEST_F(collapse, huge_page_mapped_before)
{
	ASSERT_EQ(in_child(collapse_file, &self->fd), 0);
	ASSERT_EQ(read_byte(self->addr), 'f');
	ASSERT_EQ(enable(self->device, self->addr, HUGE_PAGE), 0);
	use_huge_page(_metadata, self, variant->prot & PROT_WRITE);
}

TEST_F(collapse, huge_page_made_before)
{
	ASSERT_EQ(in_child(collapse_file, &self->fd), 0);
	ASSERT_EQ(enable(self->device, self->addr, HUGE_PAGE), 0);
	use_huge_page(_metadata, self, variant->prot & PROT_WRITE);
}

/* In page tables it is in small pages, or as a whole where VM_MIXEDMAP does not forbid that. */
TEST_F(collapse, huge_page_is_mapped)
{
	ASSERT_EQ(in_child(collapse_file, &self->fd), 0);
	ASSERT_EQ(enable(self->device, self->addr, HUGE_PAGE), 0);
	EXPECT_EQ(read_byte(self->addr), 'f');
	EXPECT_EQ(number_in("/proc/self/smaps_rollup", "ShmemPmdMapped:"),
		  IS_ORDINARY_VMA ? (long)HUGE_PAGE / 1024 : 0);
}

TEST_F(collapse, huge_page_advised)
{
	ASSERT_EQ(in_child(collapse_file, &self->fd), 0);
	ASSERT_EQ(enable(self->device, self->addr, HUGE_PAGE), 0);
	ASSERT_EQ(madvise(self->addr, HUGE_PAGE, MADV_HUGEPAGE), 0);
	use_huge_page(_metadata, self, variant->prot & PROT_WRITE);
}

/*
 * Somebody punches a hole in the file, which unmaps a huge page of it in all processes, without their
 * mmap locks, in two steps: the entry of the page table, and then the counts. Who opts in meanwhile
 * waits for the second: otherwise the process goes on being charged for it.
 */
#define ROUNDS	150

struct puncher {
	int fd;
	atomic_int round, done;
	int failed;
};

static void *punch_holes(void *arg)
{
	struct puncher *p = arg;

	for (int round = 1; round <= ROUNDS; round++) {
		while (atomic_load(&p->round) < round)
			;
		if (fallocate(p->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, page_size(),
			      page_size()))
			p->failed++;
		atomic_store(&p->done, round);
	}
	return NULL;
}

/* What is mapped of files in memory, in kB. */
static long rss_of_files(void)
{
	FILE *file = fopen("/proc/self/status", "re");
	char line[256];
	long rss = -1;

	while (file && rss < 0 && fgets(line, sizeof(line), file))
		sscanf(line, "RssShmem: %ld", &rss);
	if (file)
		fclose(file);
	return rss;
}

TEST_F_TIMEOUT(collapse, huge_page_being_unmapped, 300)
{
	struct puncher puncher = { .fd = self->fd };
	long before = rss_of_files(), after;
	pthread_t thread;

	ASSERT_GE(before, 0);
	ASSERT_EQ(pthread_create(&thread, NULL, punch_holes, &puncher), 0);
	for (int round = 1; round <= ROUNDS; round++) {
		ASSERT_EQ(ftruncate(self->fd, 0), 0);
		ASSERT_EQ(ftruncate(self->fd, FILE_PAGES * self->page), 0);
		ASSERT_EQ(in_child(collapse_file, &self->fd), 0);
		ASSERT_EQ(read_byte(self->addr), 'f');
		atomic_store(&puncher.round, round);
		/* Each time a little later. */
		for (volatile int i = 0; i < round * 40; i++)
			;
		ASSERT_EQ(enable(self->device, self->addr, HUGE_PAGE), 0);
		while (atomic_load(&puncher.done) < round)
			;
		ASSERT_EQ(munmap(self->addr, HUGE_PAGE), 0);
		ASSERT_EQ(mmap(self->addr, HUGE_PAGE, variant->prot, variant->sharing | MAP_FIXED,
			       self->fd, 0), self->addr);
	}
	ASSERT_EQ(pthread_join(thread, NULL), 0);
	EXPECT_EQ(puncher.failed, 0);
	after = rss_of_files();
	EXPECT_LT(after, before + (long)HUGE_PAGE / 1024) TH_LOG("%ld kB, before %ld kB", after, before);
}

/* A page of the file that is written to through it is the file's, or a private copy. */
TEST_F(collapse, huge_page_advised_is_written)
{
	bool writable = variant->prot & PROT_WRITE;
	bool shared = variant->sharing == MAP_SHARED;
	char byte = 0;

	ASSERT_EQ(in_child(collapse_file, &self->fd), 0);
	ASSERT_EQ(enable(self->device, self->addr, HUGE_PAGE), 0);
	ASSERT_EQ(madvise(self->addr, HUGE_PAGE, MADV_HUGEPAGE), 0);
	EXPECT_EQ(write_byte(self->addr + self->page, 'g'), writable ? 0 : -SIGSEGV);
	EXPECT_EQ(read_byte(self->addr + self->page), writable ? 'g' : 'f');
	EXPECT_EQ(pread(self->fd, &byte, 1, self->page), 1);
	EXPECT_EQ(byte, writable && shared ? 'g' : 'f');
	ASSERT_EQ(disable(self->device, self->addr, HUGE_PAGE), 0);
	EXPECT_EQ(read_byte(self->addr + self->page), writable ? 'g' : 'f');
}

TEST_HARNESS_MAIN
