// SPDX-License-Identifier: GPL-2.0-only
/*
 * The counters of NOSIGBUS_STATUS are exact. Each test counts its own accesses and compares every
 * field.
 */

#include "core_dump.h"
#include "mapped_file.h"
#include "status.h"
#include "turns.h"

#include <linux/fs.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/uio.h>

/* FILE_PAGES of content, then PAST pages past EOF. */
#define FILE_PAGES	2
#define PAST		10
#define PAGES		(FILE_PAGES + PAST)

FIXTURE(status) {
	MAPPED_FILE;
	/* The status that NOSIGBUS_STATUS should return. */
	struct nosigbus_status want;
};

FIXTURE_VARIANT(status) {
	enum backing backing;
	enum class class;
};

FIXTURE_VARIANT_ADD(status, memfd_private) { MEMFD, PRIVATE };
FIXTURE_VARIANT_ADD(status, memfd_shared_read) { MEMFD, SHARED_READ };
FIXTURE_VARIANT_ADD(status, memfd_shared_write) { MEMFD, SHARED_WRITE };
FIXTURE_VARIANT_ADD(status, tmpfs_private) { TMPFS, PRIVATE };
FIXTURE_VARIANT_ADD(status, tmpfs_shared_read) { TMPFS, SHARED_READ };
FIXTURE_VARIANT_ADD(status, tmpfs_shared_write) { TMPFS, SHARED_WRITE };
FIXTURE_VARIANT_ADD(status, ext4_private) { EXT4, PRIVATE };
FIXTURE_VARIANT_ADD(status, ext4_shared_read) { EXT4, SHARED_READ };
FIXTURE_VARIANT_ADD(status, ext4_shared_write) { EXT4, SHARED_WRITE };
FIXTURE_VARIANT_ADD(status, xfs_shared_write) { XFS, SHARED_WRITE };
FIXTURE_VARIANT_ADD(status, btrfs_shared_write) { BTRFS, SHARED_WRITE };
FIXTURE_VARIANT_ADD(status, overlay_private) { OVERLAY, PRIVATE };

#define IS_WRITABLE()	(variant->class != SHARED_READ)
#define SHADOWS()	(variant->class == SHARED_WRITE)

#define EXPECT_STATUS_AT(at, want)	EXPECT_STATUS_OF(self->device, at, 0, want)
#define EXPECT_STATUS(want)		EXPECT_STATUS_AT(self->addr, want)

FIXTURE_SETUP(status)
{
	set_up_file(_metadata, &self->file, variant->backing, FILE_PAGES * page_size(), PAGES);
	set_up_opted_in(_metadata, &self->file, variant->class);
	EXPECT_STATUS(self->want);
}

FIXTURE_TEARDOWN(status)
{
	tear_down(&self->file);
}

#define TOUCH(first, end, how)		ASSERT_TRUE(touch(self->addr, first, end, how))
#define ADD(how, pages, fresh)		add(&self->want, variant->class, how, pages, fresh)
#define GIVE_BACK(pages)		give_back(&self->want, variant->class, pages)

TEST_F(status, first_touches)
{
	/* Inside EOF nothing counts. */
	TOUCH(0, FILE_PAGES, READ);
	EXPECT_STATUS(self->want);
	if (IS_WRITABLE()) {
		TOUCH(0, FILE_PAGES, WRITE);
		EXPECT_STATUS(self->want);
	}
	for (int i = FILE_PAGES + 3; i >= FILE_PAGES; i--) {
		TOUCH(i, i + 1, READ);
		ADD(READ, 1, 1);
		EXPECT_STATUS(self->want);
	}
	if (IS_WRITABLE()) {
		TOUCH(FILE_PAGES + 4, PAGES, WRITE);
		ADD(WRITE, PAST - 4, PAST - 4);
	} else {
		EXPECT_EQ(write_byte(self->addr + self->len - 1, 1), -SIGSEGV);
	}
	EXPECT_STATUS(self->want);

	/* An access to a page that is mapped already does not count, either. */
	TOUCH(0, IS_WRITABLE() ? PAGES : FILE_PAGES + 4, READ);
	EXPECT_STATUS(self->want);
	if (IS_WRITABLE())
		TOUCH(0, PAGES, WRITE);
	EXPECT_STATUS(self->want);
}

TEST_F(status, again_after_dontneed)
{
	for (int round = 0; round < 3; round++) {
		TOUCH(0, PAGES, READ);
		ADD(READ, PAST, round ? 0 : PAST);
		EXPECT_STATUS(self->want);
		ASSERT_EQ(madvise(self->addr, self->len, MADV_DONTNEED), 0);
		EXPECT_STATUS(self->want);
		if (!IS_WRITABLE())
			continue;
		TOUCH(0, PAGES, WRITE);
		ADD(WRITE, PAST, 0);
		EXPECT_STATUS(self->want);
		ASSERT_EQ(madvise(self->past, 3 * self->page, MADV_DONTNEED), 0);
		TOUCH(0, PAGES, WRITE);
		ADD(WRITE, 3, 0);
		EXPECT_STATUS(self->want);
		ASSERT_EQ(madvise(self->addr, self->len, MADV_DONTNEED), 0);
	}
}

/*
 * Neither before the first stand-in nor after it. The dump does not make the module watch the file,
 * either: inotify reports the changes of a memfd only if the module watches it.
 */
TEST_F(status, none_for_a_core_dump)
{
	int in = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	char path[32], event[sizeof(struct inotify_event) + NAME_MAX + 1];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", self->fd);
	ASSERT_GE(inotify_add_watch(in, path, IN_MODIFY), 0);
	for (int i = 0; i < 2; i++) {
		int fd = core_file("0xf");

		ASSERT_GE(fd, 0) TH_LOG("no core");
		close(fd);
		EXPECT_STATUS(self->want);
		if (variant->backing == MEMFD) {
			ASSERT_EQ(fill(self->fd, CONTENT, 0, 1), 0);
			EXPECT_EQ(read(in, event, sizeof(event)) > 0, i > 0);
		}
		TOUCH(PAGES - 1, PAGES, READ);
		if (!i)
			ADD(READ, 1, 1);
		EXPECT_STATUS(self->want);
	}
	close(in);
}

TEST_F(status, at_any_byte)
{
	TOUCH(0, PAGES, READ);
	ADD(READ, PAST, PAST);
	for (int i = 0; i < PAGES; i++) {
		char *p = self->addr + i * self->page;

		EXPECT_STATUS_AT(p, self->want);
		EXPECT_STATUS_AT(p + 1, self->want);
		EXPECT_STATUS_AT(p + self->page - 1, self->want);
	}
	/* A new mapping at the same address has its own counters. */
	ASSERT_EQ(munmap(self->addr, self->len), 0);
	ASSERT_EQ(mmap(self->addr, self->len, PROT_READ, MAP_SHARED | MAP_FIXED, self->fd, 0),
		  self->addr);
	ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
	EXPECT_STATUS((struct nosigbus_status){});
}

TEST_F(status, growth)
{
	enum how how = IS_WRITABLE() ? WRITE : READ;

	TOUCH(FILE_PAGES, PAGES, how);
	ADD(how, PAST, PAST);
	/* Inside the page that holds EOF, there is nothing to give back. */
	ASSERT_EQ(ftruncate(self->fd, FILE_PAGES * self->page), 0);
	EXPECT_STATUS(self->want);
	/* One byte takes its page. */
	ASSERT_EQ(ftruncate(self->fd, (FILE_PAGES + 3) * self->page + 1), 0);
	GIVE_BACK(4);
	EXPECT_STATUS(self->want);
	ASSERT_EQ(ftruncate(self->fd, (FILE_PAGES + 4) * self->page), 0);
	EXPECT_STATUS(self->want);
	TOUCH(0, FILE_PAGES + 4, how);
	TOUCH(0, FILE_PAGES + 4, READ);
	EXPECT_STATUS(self->want);

	ASSERT_EQ(pwrite(self->fd, "x", 1, (FILE_PAGES + 6) * self->page - 1), 1);
	GIVE_BACK(2);
	EXPECT_STATUS(self->want);
	ASSERT_EQ(ftruncate(self->fd, self->len), 0);
	GIVE_BACK(4);
	EXPECT_STATUS(self->want);
	TOUCH(0, PAGES, how);
	EXPECT_EQ(self->want.shadow_pages_held, 0);
	EXPECT_STATUS(self->want);

	/* Truncation unmaps all pages, including private copies. */
	ASSERT_EQ(ftruncate(self->fd, FILE_PAGES * self->page), 0);
	EXPECT_STATUS(self->want);
	TOUCH(0, PAGES, READ);
	ADD(READ, PAST, PAST);
	EXPECT_STATUS(self->want);

	/* A page without a stand-in is not counted as given back. */
	ASSERT_EQ(ftruncate(self->fd, self->page), 0);
	ASSERT_EQ(ftruncate(self->fd, FILE_PAGES * self->page), 0);
	EXPECT_STATUS(self->want);
}

TEST_F(status, shrinking)
{
	TOUCH(0, PAGES, READ);
	ADD(READ, PAST, PAST);
	for (int pages = FILE_PAGES - 1; pages >= 0; pages--) {
		ASSERT_EQ(ftruncate(self->fd, pages * self->page), 0);
		EXPECT_STATUS(self->want);
		TOUCH(0, PAGES, READ);
		/* All pages past EOF were unmapped. One page more is past EOF now. */
		ADD(READ, PAGES - pages, 1);
		EXPECT_STATUS(self->want);
	}
}

/* A page shared with the child, which copies to it each status that it gets. */
static struct nosigbus_status *new_board(void)
{
	return mmap(NULL, page_size(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

/* Touches every other page: none is mapped ahead, whichever process has read which page. */
static bool touch_apart(char *addr, int first, int end, enum how how)
{
	for (int i = first; i < end; i += 2)
		if (!touch(addr, i, i + 1, how))
			return false;
	return true;
}

#define APART(first, end)		(((end) - (first) + 1) / 2)

TEST_F(status, children)
{
	int mid = FILE_PAGES + 4, late = FILE_PAGES + 8;
	struct nosigbus_status *board = new_board();
	enum how how = IS_WRITABLE() ? WRITE : READ;
	struct turns t;
	int status;
	pid_t pid;

	ASSERT_NE(board, MAP_FAILED);
	ASSERT_EQ(pipe(t.to_child), 0);
	ASSERT_EQ(pipe(t.to_parent), 0);
	ASSERT_TRUE(touch_apart(self->addr, 0, mid, READ));
	ADD(READ, APART(FILE_PAGES, mid), APART(FILE_PAGES, mid));
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		/* One bit for each check that fails. */
		int bad = status_of(self->device, self->addr, 0, &board[0]) ? 1 : 0;

		/* fork() has copied these entries, so the accesses do not count. */
		bad |= !touch_apart(self->addr, 0, mid, READ) ? 2 : 0;
		bad |= status_of(self->device, self->addr, 0, &board[1]) ? 4 : 0;
		bad |= !touch_apart(self->addr, mid, late, how) ? 8 : 0;
		bad |= status_of(self->device, self->addr, 0, &board[2]) ? 16 : 0;
		go_on(t.to_parent[1]);
		wait_for(t.to_child[0]);
		bad |= status_of(self->device, self->addr, 0, &board[3]) ? 32 : 0;
		bad |= !touch_apart(self->addr, late, PAGES, how) ? 64 : 0;
		bad |= status_of(self->device, self->addr, 0, &board[4]) ? 128 : 0;
		_exit(bad);
	}
	wait_for(t.to_parent[0]);
	EXPECT_SAME_STATUS(board[0], self->want);
	EXPECT_SAME_STATUS(board[1], self->want);
	ADD(how, APART(mid, late), APART(mid, late));
	EXPECT_SAME_STATUS(board[2], self->want);
	EXPECT_STATUS(self->want);

	/* The parent has page tables of its own, so its accesses count again. */
	ASSERT_TRUE(touch_apart(self->addr, mid, late, READ));
	ADD(READ, APART(mid, late), 0);
	EXPECT_STATUS(self->want);
	ASSERT_EQ(munmap(self->addr, self->len), 0);
	go_on(t.to_child[1]);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	EXPECT_SAME_STATUS(board[3], self->want);
	ADD(how, APART(late, PAGES), APART(late, PAGES));
	EXPECT_SAME_STATUS(board[4], self->want);
}

TEST_F(status, parts_and_copies)
{
	char *area = mmap(NULL, 2 * self->len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *last = self->past + 6 * self->page, *moved, *middle;

	ASSERT_NE(area, MAP_FAILED);
	TOUCH(FILE_PAGES, FILE_PAGES + 8, READ);
	ADD(READ, 8, 8);
	/* munmap() of a part does not free its shadow pages. */
	ASSERT_EQ(munmap(self->past + 5 * self->page, self->page), 0);
	EXPECT_STATUS(self->want);
	EXPECT_STATUS_AT(last, self->want);
	EXPECT_STATUS_AT(last + 4 * self->page - 1, self->want);

	/* Move the four pages after it. Two of them have been touched. */
	moved = mremap(last, 4 * self->page, 4 * self->page, MREMAP_MAYMOVE | MREMAP_FIXED, area);
	ASSERT_EQ(moved, area);
	EXPECT_STATUS(self->want);
	EXPECT_STATUS_AT(moved, self->want);
	ASSERT_TRUE(touch(moved, 0, 4, READ));
	ADD(READ, 2, 2);
	EXPECT_STATUS(self->want);
	EXPECT_STATUS_AT(moved, self->want);

	/* Move the second and third page of the rest. */
	middle = mremap(self->past + self->page, 2 * self->page, 2 * self->page,
			MREMAP_MAYMOVE | MREMAP_FIXED, area + self->len);
	ASSERT_EQ(middle, area + self->len);
	EXPECT_STATUS(self->want);
	EXPECT_STATUS_AT(self->past + 3 * self->page, self->want);
	EXPECT_STATUS_AT(middle, self->want);
	ASSERT_TRUE(touch(middle, 0, 2, READ));
	ASSERT_TRUE(touch(self->past, 3, 5, READ));
	EXPECT_STATUS_AT(middle, self->want);

	if (variant->class != PRIVATE) {
		char *copy = mremap(middle, 0, 2 * self->page, MREMAP_MAYMOVE);

		ASSERT_NE(copy, MAP_FAILED);
		EXPECT_STATUS_AT(copy, self->want);
		ASSERT_TRUE(touch(copy, 0, 2, READ));
		ADD(READ, 2, 0);
		EXPECT_STATUS_AT(copy, self->want);
		EXPECT_STATUS(self->want);
		munmap(copy, 2 * self->page);
	}

	/* Unmap all but one part. */
	ASSERT_EQ(munmap(self->addr, self->len), 0);
	ASSERT_EQ(munmap(middle, 2 * self->page), 0);
	EXPECT_STATUS_AT(moved, self->want);
	munmap(area, 2 * self->len);
}

/* Each VMA is a mapping of its own. */
TEST_F(status, mappings_count_for_themselves)
{
	char *other = map_file(variant->class, self->fd, self->len);
	int prot = class_prot(variant->class), flags = class_flags(variant->class) | MAP_FIXED;
	struct nosigbus_status of_other = {}, of_third = {};
	char *area, *third;

	ASSERT_NE(other, MAP_FAILED);
	ASSERT_EQ(enable(self->device, other, self->len), 0);
	TOUCH(0, FILE_PAGES + 3, READ);
	ADD(READ, 3, 3);
	ASSERT_TRUE(touch(other, 0, FILE_PAGES + 5, READ));
	add(&of_other, variant->class, READ, 5, 5);
	EXPECT_STATUS(self->want);
	EXPECT_STATUS_AT(other, of_other);

	ASSERT_EQ(ftruncate(self->fd, (FILE_PAGES + 4) * self->page), 0);
	GIVE_BACK(3);
	give_back(&of_other, variant->class, 4);
	EXPECT_STATUS(self->want);
	EXPECT_STATUS_AT(other, of_other);
	ASSERT_EQ(munmap(other, self->len), 0);
	EXPECT_STATUS(self->want);

	/* One ENABLE opts in two VMAs. Both map the first pages of the file. */
	ASSERT_EQ(ftruncate(self->fd, 0), 0);
	area = mmap(NULL, 2 * self->len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(area, MAP_FAILED);
	other = mmap(area, self->len, prot, flags, self->fd, 0);
	ASSERT_EQ(other, area);
	third = mmap(area + self->len, self->len, prot, flags, self->fd, 0);
	ASSERT_EQ(third, area + self->len);
	ASSERT_EQ(enable(self->device, area, 2 * self->len), 0);
	memset(&of_other, 0, sizeof(of_other));
	ASSERT_TRUE(touch(other, 0, 3, READ));
	add(&of_other, variant->class, READ, 3, 3);
	EXPECT_STATUS_AT(other, of_other);
	EXPECT_STATUS_AT(other + self->len - 1, of_other);
	EXPECT_STATUS_AT(third, of_third);
	ASSERT_TRUE(touch(third, 2, 9, READ));
	add(&of_third, variant->class, READ, 7, 7);
	EXPECT_STATUS_AT(other, of_other);
	EXPECT_STATUS_AT(third, of_third);
	munmap(area, 2 * self->len);
}

TEST_F(status, system_calls)
{
	size_t len = PAST * self->page;
	int fds[2], zero;

	ASSERT_EQ(pipe2(fds, O_NONBLOCK), 0);
	ASSERT_EQ(write(fds[1], self->past, len), (ssize_t)len);
	ADD(READ, PAST, PAST);
	EXPECT_STATUS(self->want);
	close(fds[0]);
	close(fds[1]);

	zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	ASSERT_GE(zero, 0);
	ASSERT_EQ(madvise(self->past, len, MADV_DONTNEED), 0);
	if (IS_WRITABLE()) {
		ASSERT_EQ(read(zero, self->past, len), (ssize_t)len);
		ADD(WRITE, PAST, 0);
	} else {
		EXPECT_EQ(read(zero, self->past, len), -1);
		EXPECT_EQ(errno, EFAULT);
	}
	EXPECT_STATUS(self->want);
	close(zero);
}

TEST_F(status, opting_out)
{
	struct nosigbus_status status;

	TOUCH(0, PAGES, READ);
	ADD(READ, PAST, PAST);
	EXPECT_STATUS(self->want);
	ASSERT_EQ(disable(self->device, self->addr, self->len), 0);
	EXPECT_EQ(status_of(self->device, self->addr, 0, &status), -ENOENT);

	/* After opting in again, all counters start from 0. */
	ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
	memset(&self->want, 0, sizeof(self->want));
	EXPECT_STATUS(self->want);
	TOUCH(0, PAGES, READ);
	ADD(READ, PAST, PAST);
	EXPECT_STATUS(self->want);

	/* One of two parts opts out. The other keeps the counters. */
	ASSERT_EQ(munmap(self->past, self->page), 0);
	ASSERT_EQ(disable(self->device, self->addr, FILE_PAGES * self->page), 0);
	EXPECT_EQ(status_of(self->device, self->addr, 0, &status), -ENOENT);
	EXPECT_STATUS_AT(self->past + self->page, self->want);
}

TEST_F(status, flags)
{
	const unsigned int all[] = { 0, NOSIGBUS_RECORD_ERRORS, NOSIGBUS_EVENTFD,
				     NOSIGBUS_RECORD_ERRORS | NOSIGBUS_EVENTFD };
	int event = eventfd(0, EFD_CLOEXEC);

	ASSERT_GE(event, 0);
	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		ASSERT_EQ(disable(self->device, self->addr, self->len), 0);
		ASSERT_EQ(enable_with(self->device, self->addr, self->len, all[i],
				      all[i] & NOSIGBUS_EVENTFD ? event : 0), 0);
		memset(&self->want, 0, sizeof(self->want));
		self->want.flags = all[i];
		EXPECT_STATUS(self->want);
		TOUCH(0, PAGES, READ);
		ADD(READ, PAST, PAST);
		EXPECT_STATUS(self->want);
		/* There is no error to clear. */
		EXPECT_STATUS_OF(self->device, self->addr, NOSIGBUS_CLEAR_ERROR, self->want);
		EXPECT_STATUS(self->want);
		TOUCH(0, PAGES, READ);
		EXPECT_STATUS(self->want);
	}
	close(event);
}

/*
 * Random operations. An access past EOF counts if its page is not mapped, together with the pages
 * that it maps ahead. Growth gives back the shadow pages that it goes over.
 */
TEST_F_TIMEOUT(status, anything, 120)
{
	char *area = mmap(NULL, 2 * self->len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	int eof = FILE_PAGES, counted = 0, spared = 0, ahead = 0, freed;
	bool held[PAGES] = {};
	unsigned int seed = 1;
	char *to;

	ASSERT_NE(area, MAP_FAILED);
	ASSERT_GE(pagemap, 0);
	for (int step = 0; step < 1500; step++) {
		int first = rand_r(&seed) % PAGES, end = first + 1 + rand_r(&seed) % 3, before, more;
		enum how how = IS_WRITABLE() && rand_r(&seed) % 2 ? WRITE : READ;

		end = end > PAGES ? PAGES : end;
		switch (rand_r(&seed) % 12) {
		case 0:
			ASSERT_EQ(madvise(self->addr + first * self->page,
					  (end - first) * self->page, MADV_DONTNEED), 0);
			break;
		case 1:
			eof = first;
			ASSERT_EQ(ftruncate(self->fd, eof * self->page), 0);
			break;
		case 2:
			/* A write never shortens the file. */
			eof = first + 1 > eof ? first + 1 : eof;
			ASSERT_EQ(pwrite(self->fd, "x", 1, first * self->page), 1);
			break;
		case 3:
			to = self->addr == area ? area + self->len : area;
			ASSERT_EQ(mremap(self->addr, self->len, self->len,
					 MREMAP_MAYMOVE | MREMAP_FIXED, to), to);
			self->addr = to;
			break;
		default:
			for (int i = first; i < end; i++) {
				bool was_mapped = mapped_pages(pagemap, self->addr, i, i + 1);

				before = mapped_pages(pagemap, self->addr, i, PAGES);
				TOUCH(i, i + 1, how);
				if (i < eof)
					continue;
				more = mapped_pages(pagemap, self->addr, i, PAGES) - before;
				EXPECT_EQ(was_mapped, !more);
				spared += !more;
				if (!more)
					continue;
				/* Only the zero page is mapped ahead. */
				EXPECT_TRUE(more == 1 || (how == READ && !SHADOWS()));
				ADD(how, more, !held[i]);
				held[i] = true;
				counted++;
				ahead += more > 1;
			}
		}
		freed = 0;
		for (int i = 0; i < eof; i++) {
			freed += held[i];
			held[i] = false;
		}
		GIVE_BACK(freed);
		EXPECT_STATUS(self->want);
	}
	/* There have been enough accesses of each kind. */
	EXPECT_GT(counted, 200);
	EXPECT_GT(spared, 200);
	EXPECT_TRUE(variant->class != SHARED_READ || ahead);
	close(pagemap);
}

/* Several threads, each of which accesses pages again and again. */
#define THREADS		4
#define EACH_PAGES	32
#define ROUNDS		20

struct toucher {
	pthread_t thread;
	pthread_barrier_t *barrier;
	char *addr;
	int pages;
	enum how how;
	int bad;
};

/* Touches pages that no other thread touches. */
static void *touch_own(void *arg)
{
	struct toucher *t = arg;

	pthread_barrier_wait(t->barrier);
	for (int round = 0; round < ROUNDS; round++)
		if (!touch(t->addr, 0, t->pages, t->how) ||
		    madvise(t->addr, t->pages * page_size(), MADV_DONTNEED))
			t->bad++;
	return NULL;
}

/* Touches the same pages as the other threads, at the same time. */
static void *touch_shared(void *arg)
{
	struct toucher *t = arg;

	for (int round = 0; round < ROUNDS; round++) {
		for (int i = t->pages; i-- > 0;) {
			pthread_barrier_wait(t->barrier);
			if (!touch(t->addr, i, i + 1, t->how))
				t->bad++;
		}
		/* One thread unmaps the pages. The others wait for the next round. */
		if (pthread_barrier_wait(t->barrier) == PTHREAD_BARRIER_SERIAL_THREAD &&
		    madvise(t->addr, t->pages * page_size(), MADV_DONTNEED))
			t->bad++;
	}
	return NULL;
}

/* Runs the threads; "writers" of them write. Each starts "next" pages after the one before. */
static bool run_threads(void *(*run)(void *arg), char *addr, int pages, int next, int writers)
{
	struct toucher threads[THREADS];
	pthread_barrier_t barrier;
	int bad = 0;

	if (pthread_barrier_init(&barrier, NULL, THREADS))
		return false;
	for (int i = 0; i < THREADS; i++) {
		threads[i] = (struct toucher) {
			.barrier = &barrier, .addr = addr + i * next * page_size(), .pages = pages,
			.how = i < writers ? WRITE : READ,
		};
		if (pthread_create(&threads[i].thread, NULL, run, &threads[i]))
			return false;
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i].thread, NULL);
		bad += threads[i].bad;
	}
	pthread_barrier_destroy(&barrier);
	return !bad;
}

/* A mapping of so many pages that are all past EOF, opted in. */
#define NEW_PAST(pages) ({							\
	char *_addr = mmap(NULL, (pages) * self->page, class_prot(variant->class),	\
			   class_flags(variant->class), self->fd, FILE_PAGES * self->page);	\
										\
	ASSERT_NE(_addr, MAP_FAILED);						\
	ASSERT_EQ(enable(self->device, _addr, (pages) * self->page), 0);	\
	_addr;									\
})

TEST_F_TIMEOUT(status, threads_with_pages_of_their_own, 120)
{
	const int pages = THREADS * EACH_PAGES;

	for (int writers = 0; writers <= (IS_WRITABLE() ? THREADS : 0); writers += THREADS / 2) {
		struct nosigbus_status want = {};
		char *addr = NEW_PAST(pages);

		ASSERT_TRUE(run_threads(touch_own, addr, EACH_PAGES, EACH_PAGES, writers));
		add(&want, variant->class, WRITE, writers * EACH_PAGES * ROUNDS,
		    writers * EACH_PAGES);
		add(&want, variant->class, READ, (THREADS - writers) * EACH_PAGES * ROUNDS,
		    (THREADS - writers) * EACH_PAGES);
		EXPECT_STATUS_AT(addr, want);
		munmap(addr, pages * self->page);
	}
}

TEST_F_TIMEOUT(status, threads_at_the_same_page, 120)
{
	const unsigned int times = EACH_PAGES * ROUNDS;

	for (int writers = 0; writers <= (IS_WRITABLE() ? THREADS : 0); writers += THREADS / 2) {
		struct nosigbus_status want = {}, got;
		char *addr = NEW_PAST(EACH_PAGES);

		ASSERT_TRUE(run_threads(touch_shared, addr, EACH_PAGES, 0, writers));
		if (variant->class == PRIVATE && writers) {
			/* Several writers may copy a page. The module counts each of them. */
			ASSERT_EQ(status_of(self->device, addr, 0, &got), 0);
			EXPECT_GE(stand_ins(&got), times);
			EXPECT_LE(got.private_pages, times * writers);
			EXPECT_LE(got.zero_pages, writers == THREADS ? 0 : times);
			want.zero_pages = got.zero_pages;
			want.private_pages = got.private_pages;
		} else {
			add(&want, variant->class, READ, times, EACH_PAGES);
		}
		EXPECT_STATUS_AT(addr, want);
		munmap(addr, EACH_PAGES * self->page);
	}
}

/*
 * A write to a page of a frozen file system waits in the file system until that is thawed. It holds
 * the locks of the fault meanwhile. The guard process thaws the file system when the test has ended
 * or died, or after GUARD_SECONDS.
 */
#define GUARD_SECONDS	30

struct guard {
	atomic_bool fired;
};

FIXTURE(frozen) {
	MAPPED_FILE;
	int fs, alive;
	pid_t guard_pid;
	struct guard *guard;
};

static void guard(struct guard *guard, int fs, int alive)
{
	struct pollfd test = { .fd = alive, .events = POLLIN };

	if (poll(&test, 1, GUARD_SECONDS * 1000) == 0)
		atomic_store(&guard->fired, true);
	ioctl(fs, FITHAW, 0);
	_exit(0);
}

FIXTURE_VARIANT(frozen) {
	bool as_syscall;
};

/* The fault of a store holds the VMA lock; that of a system call holds the mmap lock. */
FIXTURE_VARIANT_ADD(frozen, store) { false };
FIXTURE_VARIANT_ADD(frozen, system_call) { true };

FIXTURE_SETUP(frozen)
{
	int alive[2];

	if (geteuid())
		SKIP(return, "freezing a file system takes root");
	set_up_file(_metadata, &self->file, EXT4, FILE_PAGES * page_size(), PAGES);
	set_up_opted_in(_metadata, &self->file, SHARED_WRITE);

	self->fs = open(fs_path("ext4"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ASSERT_GE(self->fs, 0);
	self->guard = mmap(NULL, self->page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			   -1, 0);
	ASSERT_NE(self->guard, MAP_FAILED);
	ASSERT_EQ(pipe2(alive, O_CLOEXEC), 0);
	self->alive = alive[1];
	self->guard_pid = fork();
	ASSERT_GE(self->guard_pid, 0);
	if (!self->guard_pid) {
		/* A session of its own, so that it is not killed together with the test. */
		setsid();
		close(alive[1]);
		guard(self->guard, self->fs, alive[0]);
	}
	close(alive[0]);
}

FIXTURE_TEARDOWN(frozen)
{
	close(self->alive);
	ASSERT_EQ(waitpid(self->guard_pid, NULL, 0), self->guard_pid);
	close(self->fs);
	tear_down(&self->file);
}

struct hanging {
	char *addr;
	bool as_syscall;
	atomic_int tid, written;
};

static void *hang(void *arg)
{
	struct hanging *h = arg;
	char byte = 1;
	struct iovec from = { .iov_base = &byte, .iov_len = 1 };
	struct iovec to = { .iov_base = h->addr, .iov_len = 1 };

	atomic_store(&h->tid, gettid());
	if (h->as_syscall)
		process_vm_writev(getpid(), &from, 1, &to, 1, 0);
	else
		write_byte(h->addr, byte);
	atomic_store(&h->written, 1);
	return NULL;
}

TEST_F_TIMEOUT(frozen, status_waits_for_no_fault, 4 * GUARD_SECONDS)
{
	struct hanging h = { .addr = self->addr, .as_syscall = variant->as_syscall };
	struct nosigbus_status want = {};
	pthread_t thread;
	char byte;

	/* Map the page read-only first, so that the write waits in page_mkwrite. */
	ASSERT_EQ(read_byte(self->addr), CONTENT);
	ASSERT_EQ(ioctl(self->fs, FIFREEZE, 0), 0) TH_LOG("%s", strerror(errno));
	ASSERT_EQ(pthread_create(&thread, NULL, hang, &h), 0);
	while (!atomic_load(&h.tid) || thread_state(h.tid) != 'D') {
		ASSERT_FALSE(atomic_load(&self->guard->fired)) TH_LOG("the write does not wait");
		usleep(1000);
	}

	EXPECT_STATUS(want);
	EXPECT_EQ(read_byte(self->addr + self->len - 1), 0);
	want.shadow_pages = 1;
	want.shadow_pages_held = 1;
	EXPECT_STATUS(want);
	EXPECT_EQ(atomic_load(&h.written), 0);
	EXPECT_FALSE(atomic_load(&self->guard->fired)) TH_LOG("NOSIGBUS_STATUS has waited");

	ASSERT_EQ(ioctl(self->fs, FITHAW, 0), 0);
	ASSERT_EQ(pthread_join(thread, NULL), 0);
	EXPECT_EQ(atomic_load(&h.written), 1);
	ASSERT_EQ(pread(self->fd, &byte, 1, 0), 1);
	EXPECT_EQ(byte, 1);
	EXPECT_STATUS(want);
}

TEST_HARNESS_MAIN
