// SPDX-License-Identifier: GPL-2.0-only
/*
 * Core mm collapses pages of a file into a huge page while there are stand-ins. It frees the page
 * tables of all mappings of that part of the file, and has to spare those of opted-in mappings.
 */

#include "mapped_file.h"
#include "sys_files.h"

#include <pthread.h>
#include <stdatomic.h>

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

/* Maps the file at an address at which core mm can map a huge page with a PMD. */
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

/* Run in another process: collapses the file through a plain mapping. */
static int collapse_file(void *arg)
{
	char *addr = map_huge_aligned(*(int *)arg, PROT_READ | PROT_WRITE, MAP_SHARED);

	if (addr == MAP_FAILED)
		return 1;
	for (int i = 0; i < FILE_PAGES; i++)
		addr[i * page_size()] = 'f';
	/* This fails while another task holds a reference on a page, or if no huge page is free. */
	for (int i = 0; madvise(addr, HUGE_PAGE, MADV_COLLAPSE); i++) {
		if (i == 1000 || (errno != EAGAIN && errno != EBUSY && errno != ENOMEM))
			return 2;
		usleep(1000);
	}
	return 0;
}

/* If a page table is lost, the kernel also logs "Bad rss-counter state" at exit. */
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
	/* The stand-ins are still in the page table, where DISABLE finds them. */
	ASSERT_EQ(disable(self->device, self->addr, HUGE_PAGE), 0);
	EXPECT_EQ(read_byte(self->addr), 'f');
}

/*
 * Core mm must not map a huge page with a PMD in an opted-in mapping. It would unmap the page
 * without lowering rmap and RSS counts, and later log "Bad page cache" or "Bad rss-counter state".
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

/* Core mm maps the huge page by PTEs, or, if VM_MIXEDMAP does not forbid that, by a PMD. */
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
 * A thread punches a hole in the file. Core mm then unmaps a huge page in all processes, without
 * their mmap locks and in two steps: it clears the PMD, then lowers the counts. ENABLE meanwhile
 * has to wait for the second step. Otherwise the page stays in the RSS of the process.
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

/* RssShmem of this process, in kB. */
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

/* A write to the huge page goes to the file, or to a private copy of the page. */
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
