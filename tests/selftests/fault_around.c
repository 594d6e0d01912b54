// SPDX-License-Identifier: GPL-2.0-only
/*
 * For sequential reads past EOF the module maps the zero page ahead, up to the end of the 64 KiB
 * window. For other reads it does not. Needs root, and the setup of selftests.sh.
 */

#include "broken_file_systems.h"
#include "mapped_file.h"
#include "status.h"

#include <linux/kernel-page-flags.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL	102
#endif

/* The number of pages of one page table on x86-64. The mappings of fixtures are aligned to that. */
#define TABLE_PAGES	512
#define PAGES		64
#define FILE_PAGES	20

/* How many pages core mm maps around a faulting one. Default: 64 KiB, which is WINDOW pages. */
#define AROUND		"/sys/kernel/debug/fault_around_bytes"
#define WINDOW		16

/* 0 if the value cannot be read: not root, or the kernel does not have the file. */
static size_t around_bytes(void)
{
	FILE *f = fopen(AROUND, "r");
	size_t bytes = 0;

	if (!f)
		return 0;
	if (fscanf(f, "%zu", &bytes) != 1)
		bytes = 0;
	fclose(f);
	return bytes;
}

static bool set_around_bytes(size_t bytes)
{
	FILE *f = fopen(AROUND, "w");

	if (!f)
		return false;
	fprintf(f, "%zu", bytes);
	return !fclose(f);
}

/* Reserves address space for so many pages. It starts "before" pages before a page table does. */
static char *area_at(size_t pages, size_t before)
{
	size_t page = page_size(), table = TABLE_PAGES * page;
	char *area = mmap(NULL, pages * page + 2 * table, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (area == MAP_FAILED)
		return area;
	return area + table + (-(unsigned long)area & (table - 1)) - before * page;
}

FIXTURE(around) {
	MAPPED_FILE;
	int pagemap;
};

FIXTURE_VARIANT(around) {
	enum backing backing;
	enum class class;
};

FIXTURE_VARIANT_ADD(around, memfd_private) { MEMFD, PRIVATE };
FIXTURE_VARIANT_ADD(around, memfd_shared_read) { MEMFD, SHARED_READ };
FIXTURE_VARIANT_ADD(around, ext4_private) { EXT4, PRIVATE };
FIXTURE_VARIANT_ADD(around, ext4_shared_read) { EXT4, SHARED_READ };

/* Maps so many pages of the file there, from page "first" on. */
static char *map_at(enum class class, int fd, char *at, size_t pages, size_t first)
{
	size_t page = page_size();

	return mmap(at, pages * page, class_prot(class), class_flags(class) | MAP_FIXED, fd,
		    first * page);
}

FIXTURE_SETUP(around)
{
	char *area = area_at(2 * PAGES, 0);

	if (!around_bytes())
		SKIP(return, "takes root");
	set_up_file(_metadata, &self->file, variant->backing, FILE_PAGES * page_size(), PAGES);
	self->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	ASSERT_GE(self->pagemap, 0);
	ASSERT_NE(area, MAP_FAILED);
	self->addr = map_at(variant->class, self->fd, area, PAGES, 0);
	ASSERT_EQ(self->addr, area);
	ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
}

FIXTURE_TEARDOWN(around)
{
	close(self->pagemap);
	tear_down(&self->file);
}

/* How many of the pages from first to end (exclusive) have an entry in the page table. */
#define MAPPED(addr, first, end)	mapped_pages(self->pagemap, addr, first, end)

#define READ_AT(addr, i, byte)	ASSERT_EQ(read_byte((addr) + (i) * self->page), byte)
#define READ_ZERO(i)		READ_AT(self->addr, i, 0)

/* Both the page table and NOSIGBUS_STATUS have so many pages mapped. */
#define EXPECT_MAPPED_AT(addr, first, end, pages) do {				\
	struct nosigbus_status _told = { .zero_pages = pages };			\
	int _pages = _told.zero_pages;						\
										\
	EXPECT_EQ(MAPPED(addr, first, end), _pages);				\
	EXPECT_STATUS_OF(self->device, addr, 0, _told);				\
} while (0)
#define EXPECT_MAPPED(pages)	EXPECT_MAPPED_AT(self->addr, FILE_PAGES, PAGES, pages)

TEST_F_TIMEOUT(around, isolated_pages, 300)
{
	int pages = 0;

	/* The first access, and accesses that skip a page, upwards. */
	for (int i = FILE_PAGES; i < PAGES; i += 2) {
		READ_ZERO(i);
		EXPECT_MAPPED(++pages);
	}
	/* The pages between them, downwards: the next page is always mapped already. */
	for (int i = PAGES - 1; i > FILE_PAGES; i -= 2) {
		READ_ZERO(i);
		EXPECT_MAPPED(++pages);
	}
}

/* The file is empty. No page precedes the first page of the mapping, so it is not sequential. */
TEST_F(around, first_page_of_file)
{
	ASSERT_EQ(ftruncate(self->fd, 0), 0);
	READ_ZERO(0);
	EXPECT_MAPPED_AT(self->addr, 0, PAGES, 1);
}

TEST_F_TIMEOUT(around, one_page_after_the_other, 300)
{
	int first = FILE_PAGES, mapped = 1;

	READ_ZERO(first);
	EXPECT_MAPPED(mapped);
	for (int i = first + 1; i < PAGES; i++) {
		READ_ZERO(i);
		/* The module maps the rest of the first window, and then whole windows. */
		if (i == first + mapped)
			mapped = (i / WINDOW + 1) * WINDOW - first;
		EXPECT_MAPPED(mapped);
	}
	EXPECT_EQ(pages_of(CONTENT, self->addr, 0, FILE_PAGES), FILE_PAGES);
	EXPECT_EQ(pages_of(0, self->addr, FILE_PAGES, PAGES), PAGES - FILE_PAGES);
}

TEST_F(around, ends_with_vma)
{
	const int short_of = 5, end = 2 * WINDOW + short_of;
	char *behind = self->addr + end * self->page;

	/* The VMA ends inside a window, and another mapping of the file follows. */
	ASSERT_EQ(munmap(behind, self->len - end * self->page), 0);
	ASSERT_EQ(map_at(variant->class, self->fd, behind, PAGES - end, end), behind);
	ASSERT_EQ(enable(self->device, behind, (PAGES - end) * self->page), 0);
	READ_ZERO(end - short_of - 1);
	READ_ZERO(end - short_of);
	EXPECT_MAPPED_AT(self->addr, FILE_PAGES, end, 1 + short_of);
	EXPECT_MAPPED_AT(behind, 0, PAGES - end, 0);
}

TEST_F(around, begins_with_vma)
{
	const int first = WINDOW + WINDOW / 2;
	char *addr = self->addr + first * self->page;

	ASSERT_EQ(munmap(self->addr, first * self->page), 0);
	READ_AT(addr, 0, 0);
	READ_AT(addr, 1, 0);
	/* Windows do not move with the start of the VMA. */
	EXPECT_MAPPED_AT(addr, 0, PAGES - first, WINDOW / 2);
	READ_AT(addr, WINDOW / 2, 0);
	EXPECT_MAPPED_AT(addr, 0, PAGES - first, WINDOW + WINDOW / 2);
}

/* Two readers take turns. The module maps pages ahead for both. */
TEST_F(around, two_readers)
{
	const int first[] = { WINDOW + WINDOW / 2, 2 * WINDOW + WINDOW / 2 };

	READ_ZERO(first[0]);
	READ_ZERO(first[1]);
	EXPECT_MAPPED(2);
	READ_ZERO(first[0] + 1);
	EXPECT_MAPPED(1 + WINDOW / 2);
	READ_ZERO(first[1] + 1);
	EXPECT_MAPPED(WINDOW);
}

struct child_arg {
	char *addr;
	size_t page;
};

/* Reads the page after that of the parent. Returns how many pages are mapped then. */
static int read_next(void *arg)
{
	const struct child_arg *a = arg;
	int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	if (pagemap < 0 || read_byte(a->addr + (FILE_PAGES + 1) * a->page))
		return 255;
	return mapped_pages(pagemap, a->addr, FILE_PAGES, PAGES);
}

/* Parent and child both continue after the same page. Each gets pages ahead for itself only. */
TEST_F(around, forked_child)
{
	struct child_arg arg = { .addr = self->addr, .page = self->page };
	struct nosigbus_status want = { .zero_pages = 2 * WINDOW - FILE_PAGES };

	READ_ZERO(FILE_PAGES);
	EXPECT_MAPPED(1);
	EXPECT_EQ(in_child(read_next, &arg), 2 * WINDOW - FILE_PAGES);
	EXPECT_STATUS_OF(self->device, self->addr, 0, want);
	EXPECT_EQ(MAPPED(self->addr, FILE_PAGES, PAGES), 1);
	READ_ZERO(FILE_PAGES + 1);
	EXPECT_EQ(MAPPED(self->addr, FILE_PAGES, PAGES), 2 * WINDOW - FILE_PAGES);
}

/* A guard region that was installed before opting in stays. */
TEST_F(around, guard_region)
{
	const int guard = FILE_PAGES + 4;
	char *at = self->addr + guard * self->page;
	struct nosigbus_status want = { .zero_pages = guard - FILE_PAGES };

	if (variant->class == PRIVATE)
		SKIP(return, "has the kernel take a private mapping for one with copies");
	ASSERT_EQ(disable(self->device, self->addr, self->len), 0);
	ASSERT_EQ(madvise(at, self->page, MADV_GUARD_INSTALL), 0);
	ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
	READ_ZERO(FILE_PAGES);
	READ_ZERO(FILE_PAGES + 1);
	EXPECT_STATUS_OF(self->device, self->addr, 0, want);
	EXPECT_EQ(MAPPED(self->addr, FILE_PAGES, guard), guard - FILE_PAGES);
	EXPECT_EQ(MAPPED(self->addr, guard + 1, PAGES), 0);
	EXPECT_EQ(read_byte(at), -SIGSEGV);
	EXPECT_EQ(pages_of(0, self->addr, guard + 1, PAGES), PAGES - guard - 1);
	EXPECT_EQ(read_byte(at), -SIGSEGV);
}

TEST_F(around, ends_with_page_table)
{
	const int before = 8, pages = 32;
	char *addr = area_at(pages, before);

	ASSERT_NE(addr, MAP_FAILED);
	ASSERT_EQ(map_at(variant->class, self->fd, addr, pages, FILE_PAGES), addr);
	ASSERT_EQ(enable(self->device, addr, pages * self->page), 0);
	READ_AT(addr, 0, 0);
	READ_AT(addr, 1, 0);
	EXPECT_MAPPED_AT(addr, 0, pages, before);
	/* In the next page table, sequential reading starts anew. */
	READ_AT(addr, before, 0);
	EXPECT_MAPPED_AT(addr, 0, pages, before + 1);
	READ_AT(addr, before + 1, 0);
	EXPECT_MAPPED_AT(addr, 0, pages, before + WINDOW);
	munmap(addr, pages * self->page);
}

TEST_F(around, eof_in_window)
{
	const int window_end = 2 * WINDOW, more = 4;

	for (int i = 0; i < FILE_PAGES; i++)
		READ_AT(self->addr, i, CONTENT);
	EXPECT_MAPPED(0);
	READ_ZERO(FILE_PAGES);
	READ_ZERO(FILE_PAGES + 1);
	EXPECT_MAPPED(window_end - FILE_PAGES);
	EXPECT_EQ(pages_of(CONTENT, self->addr, 0, FILE_PAGES), FILE_PAGES);

	/* The file grows. Its new EOF is inside the range that was mapped ahead. */
	ASSERT_EQ(fill(self->fd, CONTENT, FILE_PAGES * self->page, more * self->page), 0);
	EXPECT_EQ(MAPPED(self->addr, FILE_PAGES, FILE_PAGES + more), 0);
	EXPECT_EQ(MAPPED(self->addr, FILE_PAGES + more, window_end), window_end - FILE_PAGES - more);
	EXPECT_EQ(pages_of(CONTENT, self->addr, 0, FILE_PAGES + more), FILE_PAGES + more);
	EXPECT_EQ(pages_of(0, self->addr, FILE_PAGES + more, PAGES), PAGES - FILE_PAGES - more);
}

TEST_F(around, something_is_there)
{
	const int taken = FILE_PAGES + 4;

	READ_ZERO(taken + 4);
	READ_ZERO(taken);
	EXPECT_MAPPED(2);
	READ_ZERO(FILE_PAGES);
	READ_ZERO(FILE_PAGES + 1);
	/* Pages are mapped ahead up to the first entry that exists, not after it. */
	EXPECT_MAPPED(2 + 4);
	EXPECT_EQ(MAPPED(self->addr, FILE_PAGES, taken + 1), 5);
	READ_ZERO(taken + 1);
	EXPECT_EQ(pages_of(0, self->addr, FILE_PAGES, PAGES), PAGES - FILE_PAGES);
}

TEST_F_TIMEOUT(around, growth, 300)
{
	const int window_end = 2 * WINDOW;

	for (int end = FILE_PAGES + 1; end <= PAGES; end++) {
		ASSERT_EQ(ftruncate(self->fd, FILE_PAGES * self->page), 0);
		READ_ZERO(FILE_PAGES);
		READ_ZERO(FILE_PAGES + 1);
		ASSERT_EQ(MAPPED(self->addr, FILE_PAGES, PAGES), window_end - FILE_PAGES);
		ASSERT_EQ(fill(self->fd, CONTENT, FILE_PAGES * self->page,
			       (end - FILE_PAGES) * self->page), 0);
		ASSERT_EQ(pages_of(CONTENT, self->addr, FILE_PAGES, end), end - FILE_PAGES);
		ASSERT_EQ(pages_of(0, self->addr, end, PAGES), PAGES - end);
	}
}

/* With private copies nothing is mapped ahead: a reaped copy must not read as zeros. */
TEST_F_TIMEOUT(around, not_among_copies, 300)
{
	struct nosigbus_status want = {};

	if (variant->class != PRIVATE)
		SKIP(return, "only private mappings have copies");
	ASSERT_EQ(write_byte(self->addr + (PAGES - 1) * self->page, 1), 0);
	want.private_pages = 1;
	for (int i = FILE_PAGES; i < PAGES - 1; i++) {
		READ_ZERO(i);
		want.zero_pages++;
		EXPECT_STATUS_OF(self->device, self->addr, 0, want);
		EXPECT_EQ(MAPPED(self->addr, FILE_PAGES, PAGES), i - FILE_PAGES + 2);
	}
}

/* A write to a zero page that was mapped ahead makes a copy, which is not counted. */
TEST_F(around, written_to)
{
	struct nosigbus_status want = { .zero_pages = 2 * WINDOW - FILE_PAGES };

	READ_ZERO(FILE_PAGES);
	READ_ZERO(FILE_PAGES + 1);
	if (variant->class == SHARED_READ) {
		EXPECT_EQ(write_byte(self->addr + (FILE_PAGES + 2) * self->page, 1), -SIGSEGV);
		return;
	}
	ASSERT_EQ(write_byte(self->addr + (FILE_PAGES + 2) * self->page, 1), 0);
	EXPECT_EQ(read_byte(self->addr + (FILE_PAGES + 2) * self->page), 1);
	EXPECT_STATUS_OF(self->device, self->addr, 0, want);
	EXPECT_EQ(pages_of(0, self->addr, FILE_PAGES, FILE_PAGES + 2), 2);
	EXPECT_EQ(pages_of(0, self->addr, FILE_PAGES + 3, PAGES), PAGES - FILE_PAGES - 3);
}

/* The first read of a page that was mapped ahead does not count and sends no event. */
TEST_F(around, no_event)
{
	const int window_end = 2 * WINDOW;
	struct nosigbus_status want = {
		.flags = NOSIGBUS_EVENTFD, .zero_pages = window_end - FILE_PAGES,
	};
	int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	eventfd_t count;

	ASSERT_GE(event, 0);
	ASSERT_EQ(disable(self->device, self->addr, self->len), 0);
	ASSERT_EQ(enable_with(self->device, self->addr, self->len, NOSIGBUS_EVENTFD, event), 0);
	READ_ZERO(FILE_PAGES);
	READ_ZERO(FILE_PAGES + 1);
	ASSERT_EQ(eventfd_read(event, &count), 0);
	EXPECT_EQ(count, 1);
	EXPECT_STATUS_OF(self->device, self->addr, 0, want);
	for (int i = FILE_PAGES + 2; i < window_end; i++)
		READ_ZERO(i);
	EXPECT_EQ(eventfd_read(event, &count), -1);
	EXPECT_EQ(errno, EAGAIN);
	EXPECT_STATUS_OF(self->device, self->addr, 0, want);
	READ_ZERO(window_end);
	ASSERT_EQ(eventfd_read(event, &count), 0);
	EXPECT_EQ(count, 1);
	close(event);
}

/* After opting out no zero page is mapped: a write would change it for all processes. */
#define EXPECT_NO_ZERO_PAGE(addr, first, end) do {				\
	char *_anon = mmap(NULL, self->page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);	\
										\
	ASSERT_NE(_anon, MAP_FAILED);						\
	EXPECT_EQ(differs(_anon, 0, self->page), 0);				\
	ASSERT_EQ(mprotect(addr, (end) * self->page, PROT_READ | PROT_WRITE), 0);	\
	for (int _i = first; _i < (end); _i++)					\
		EXPECT_EQ(write_byte((addr) + _i * self->page, 1), -SIGBUS);	\
	EXPECT_EQ(differs(_anon, 0, self->page), 0);				\
	munmap(_anon, self->page);						\
} while (0)

TEST_F(around, opts_out)
{
	EXPECT_EQ(pages_of(CONTENT, self->addr, 0, FILE_PAGES), FILE_PAGES);
	READ_ZERO(FILE_PAGES);
	READ_ZERO(FILE_PAGES + 1);
	READ_ZERO(PAGES - 1);
	EXPECT_MAPPED(2 * WINDOW - FILE_PAGES + 1);
	ASSERT_EQ(disable(self->device, self->addr, self->len), 0);
	EXPECT_EQ(MAPPED(self->addr, 0, FILE_PAGES), FILE_PAGES);
	EXPECT_EQ(MAPPED(self->addr, FILE_PAGES, PAGES), 0);
	EXPECT_NO_ZERO_PAGE(self->addr, FILE_PAGES, PAGES);
	EXPECT_EQ(pages_of(CONTENT, self->addr, 0, FILE_PAGES), FILE_PAGES);
}

/* The lowest stand-in moves before opting out: first up, then down. */
TEST_F(around, opts_out_after_growth)
{
	const int grown = FILE_PAGES + 4, cut = FILE_PAGES - 4;

	READ_ZERO(FILE_PAGES);
	READ_ZERO(FILE_PAGES + 1);
	ASSERT_EQ(fill(self->fd, CONTENT, FILE_PAGES * self->page, 4 * self->page), 0);
	EXPECT_EQ(pages_of(CONTENT, self->addr, 0, grown), grown);
	READ_ZERO(grown + 2);
	ASSERT_EQ(disable(self->device, self->addr, self->len), 0);
	EXPECT_EQ(MAPPED(self->addr, 0, FILE_PAGES), FILE_PAGES);
	EXPECT_EQ(MAPPED(self->addr, grown, PAGES), 0);
	EXPECT_EQ(pages_of(CONTENT, self->addr, 0, grown), grown);

	ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
	READ_ZERO(grown + 2);
	ASSERT_EQ(ftruncate(self->fd, cut * self->page), 0);
	READ_ZERO(cut);
	READ_ZERO(cut + 1);
	ASSERT_EQ(disable(self->device, self->addr, self->len), 0);
	EXPECT_EQ(MAPPED(self->addr, 0, cut), cut);
	EXPECT_EQ(MAPPED(self->addr, cut, PAGES), 0);
	EXPECT_NO_ZERO_PAGE(self->addr, cut, PAGES);
}

/* Opting out also unmaps a zero page inside EOF that was mapped because of an error. */
TEST_F(around, opts_out_after_error)
{
	const int pages = 8, failed = 4;
	struct nosigbus_status status;
	int fd = new_file(SMALL_TMPFS), filler = new_file(SMALL_TMPFS);
	char *addr;

	ASSERT_GE(fd, 0);
	ASSERT_GE(filler, 0);
	ASSERT_EQ(fill(fd, CONTENT, 0, self->page), 0);
	ASSERT_EQ(ftruncate(fd, pages * self->page), 0);
	ASSERT_EQ(fill_up(filler), -ENOSPC);
	addr = map_file(variant->class, fd, pages * self->page);
	ASSERT_NE(addr, MAP_FAILED);
	ASSERT_EQ(enable_with(self->device, addr, pages * self->page, NOSIGBUS_RECORD_ERRORS, 0),
		  0);
	READ_AT(addr, 0, CONTENT);
	READ_AT(addr, failed, 0);
	ASSERT_EQ(status_of(self->device, addr, 0, &status), 0);
	EXPECT_EQ(status.errors, 1);
	EXPECT_EQ(status.zero_pages, 1);
	ASSERT_EQ(disable(self->device, addr, pages * self->page), 0);
	EXPECT_EQ(MAPPED(addr, 0, 1), 1);
	EXPECT_EQ(MAPPED(addr, 1, pages), 0);
	EXPECT_NO_ZERO_PAGE(addr, 1, pages);
	/* Once there is space, the write goes to the file. */
	ASSERT_EQ(ftruncate(filler, 0), 0);
	EXPECT_EQ(write_byte(addr + failed * self->page, 1), 0);
	munmap(addr, pages * self->page);
	close(filler);
	close(fd);
}

#define ROUNDS	300
#define MET	10

struct grower {
	pthread_barrier_t barrier;
	int fd;
	bool failed, stop;
	atomic_bool grown;
};

static void *grow(void *arg)
{
	struct grower *g = arg;

	for (int round = 0;; round++) {
		size_t pages = 1 + round % PAGES;

		pthread_barrier_wait(&g->barrier);
		if (g->stop)
			return NULL;
		if (fill(g->fd, CONTENT, 0, pages * page_size()))
			g->failed = true;
		g->grown = true;
		pthread_barrier_wait(&g->barrier);
	}
}

/* The file grows while its pages are read. After the growth all pages inside EOF show the file. */
TEST_F_TIMEOUT(around, while_file_grows, 300)
{
	struct grower g = { .fd = self->fd };
	pthread_t thread;
	int met = 0;

	ASSERT_EQ(pthread_barrier_init(&g.barrier, NULL, 2), 0);
	ASSERT_EQ(pthread_create(&thread, NULL, grow, &g), 0);
	/* Repeat it until a pass has seen a part of the growth often enough. */
	for (int round = 0; round < ROUNDS || met < MET; round++) {
		int pages = 1 + round % PAGES, byte, seen;

		ASSERT_EQ(ftruncate(self->fd, 0), 0);
		/* Start at different pages, so that EOF is also in the middle of what is mapped. */
		READ_ZERO(round % 8);
		READ_ZERO(round % 8 + 1);
		ASSERT_EQ(MAPPED(self->addr, 0, PAGES), WINDOW - round % 8);
		g.grown = false;
		pthread_barrier_wait(&g.barrier);
		do {
			seen = 0;
			for (int i = 0; i < PAGES; i++) {
				byte = read_byte(self->addr + i * self->page);
				ASSERT_TRUE(byte == 0 || (i < pages && byte == CONTENT));
				seen += i < pages && byte;
			}
			met += seen && seen < pages;
			/* Unmap all pages, so that they fault again. */
			ASSERT_EQ(madvise(self->addr, self->len, MADV_DONTNEED), 0);
		} while (!g.grown);
		pthread_barrier_wait(&g.barrier);
		ASSERT_FALSE(g.failed);
		ASSERT_EQ(pages_of(CONTENT, self->addr, 0, pages), pages);
		ASSERT_EQ(pages_of(0, self->addr, pages, PAGES), PAGES - pages);
	}
	g.stop = true;
	pthread_barrier_wait(&g.barrier);
	pthread_join(thread, NULL);
	pthread_barrier_destroy(&g.barrier);
}

FIXTURE(around_huge) {
	MAPPED_FILE;
	int pagemap, kpageflags;
};

FIXTURE_SETUP(around_huge)
{
	if (!around_bytes())
		SKIP(return, "takes root");
	set_up_file(_metadata, &self->file, TMPFS_HUGE, 0, 0);
	self->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	ASSERT_GE(self->pagemap, 0);
	self->kpageflags = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	ASSERT_GE(self->kpageflags, 0);
	self->addr = area_at(2 * TABLE_PAGES, 0);
	ASSERT_NE(self->addr, MAP_FAILED);
}

FIXTURE_TEARDOWN(around_huge)
{
	close(self->kpageflags);
	close(self->pagemap);
	tear_down(&self->file);
}

/* Whether one huge page fills a whole page table. All pages must have been accessed. */
static bool is_huge(int pagemap, int kpageflags, const char *addr)
{
	for (int i = 0; i < TABLE_PAGES; i++) {
		int kind = i ? KPF_COMPOUND_TAIL : KPF_COMPOUND_HEAD;
		uint64_t entry = 0, flags = 0, pfn;

		if (pread(pagemap, &entry, 8, ((uintptr_t)addr / page_size() + i) * 8) != 8)
			return false;
		pfn = entry & ((1ULL << 55) - 1);
		if (!pfn || pread(kpageflags, &flags, 8, pfn * 8) != 8 || !(flags >> kind & 1))
			return false;
	}
	return true;
}

/* EOF is at the end of a huge page, or inside one. */
TEST_F_TIMEOUT(around_huge, neighbours, 300)
{
	const int pages = 2 * TABLE_PAGES;

	for (int eof = TABLE_PAGES; eof <= TABLE_PAGES + 4; eof += 4) {
		struct nosigbus_status want = { .zero_pages = pages - eof }, seen;

		ASSERT_EQ(fill(self->fd, CONTENT, 0, eof * self->page), 0);
		ASSERT_EQ(map_at(SHARED_READ, self->fd, self->addr, pages, 0), self->addr);
		ASSERT_EQ(enable(self->device, self->addr, pages * self->page), 0);
		EXPECT_EQ(pages_of(CONTENT, self->addr, 0, eof), eof);
		EXPECT_TRUE(is_huge(self->pagemap, self->kpageflags, self->addr));
		EXPECT_EQ(pages_of(0, self->addr, eof, pages), pages - eof);
		ASSERT_EQ(status_of(self->device, self->addr, 0, &seen), 0);
		/* Core mm may map all of a huge page, even past EOF. Then there is no stand-in. */
		if (eof > TABLE_PAGES && !seen.zero_pages)
			want.zero_pages = 0;
		EXPECT_SAME_STATUS(seen, want);
		ASSERT_EQ(fill(self->fd, CONTENT, eof * self->page, (pages - eof) * self->page), 0);
		EXPECT_EQ(pages_of(CONTENT, self->addr, 0, pages), pages);
		if (eof > TABLE_PAGES)
			EXPECT_TRUE(is_huge(self->pagemap, self->kpageflags,
					    self->addr + TABLE_PAGES * self->page));
		ASSERT_EQ(ftruncate(self->fd, 0), 0);
		EXPECT_EQ(pages_of(0, self->addr, 0, pages), pages);
		want.zero_pages += pages;
		EXPECT_STATUS_OF(self->device, self->addr, 0, want);
		ASSERT_EQ(munmap(self->addr, pages * self->page), 0);
	}
}

FIXTURE(around_bytes) {
	MAPPED_FILE;
	int pagemap;
	size_t before;
};

FIXTURE_SETUP(around_bytes)
{
	set_up_file(_metadata, &self->file, MEMFD, 0, 2 * TABLE_PAGES);
	self->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	ASSERT_GE(self->pagemap, 0);
	self->before = around_bytes();
	self->addr = area_at(2 * TABLE_PAGES, 0);
	ASSERT_NE(self->addr, MAP_FAILED);
	ASSERT_EQ(map_at(SHARED_READ, self->fd, self->addr, 2 * TABLE_PAGES, 0), self->addr);
	ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
}

FIXTURE_TEARDOWN(around_bytes)
{
	if (self->before)
		set_around_bytes(self->before);
	close(self->pagemap);
	tear_down(&self->file);
}

/* The module's window does not depend on fault_around_bytes of core mm. */
TEST_F_TIMEOUT(around_bytes, have_no_say, 300)
{
	const size_t bytes[] = { self->page, TABLE_PAGES * self->page };

	for (int i = 0; i < 2; i++) {
		int first = i * TABLE_PAGES, mapped = i * TABLE_PAGES;

		if (!self->before || !set_around_bytes(bytes[i]))
			SKIP(return, "takes root, and a kernel with " AROUND);
		READ_ZERO(first);
		EXPECT_MAPPED_AT(self->addr, 0, 2 * TABLE_PAGES, mapped + 1);
		for (int j = 1; j < TABLE_PAGES; j++) {
			READ_ZERO(first + j);
			mapped = (first + j) / WINDOW * WINDOW + WINDOW;
			EXPECT_MAPPED_AT(self->addr, 0, 2 * TABLE_PAGES, mapped);
		}
	}
	/* After growth all pages show the file. */
	ASSERT_EQ(fill(self->fd, CONTENT, 0, 2 * TABLE_PAGES * self->page), 0);
	EXPECT_EQ(pages_of(CONTENT, self->addr, 0, 2 * TABLE_PAGES), 2 * TABLE_PAGES);
}

TEST_HARNESS_MAIN
