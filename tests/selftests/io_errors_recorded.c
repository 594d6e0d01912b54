// SPDX-License-Identifier: GPL-2.0-only
/*
 * NOSIGBUS_RECORD_ERRORS: when the file system fails a fault inside EOF, the module maps a
 * stand-in, and NOSIGBUS_STATUS returns the error. io_errors_signalled.c tests the same without
 * this flag. Needs root, and the setup of selftests.sh.
 */

#include "broken_file_systems.h"
#include "core_dump.h"
#include "mapped_file.h"
#include "status.h"
#include "turns.h"

#include <linux/fs.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>

/* FILE_PAGES of a file, PAGES of a mapping. */
#define FILE_PAGES	8
#define PAGES		12

/* No test here takes long, except in a slow guest. */
#define HARNESS_SECONDS	300

/*
 * The file has CONTENT at first, and NEW later. The tests write MARK to stand-ins, at offset
 * MARK_AT of the page.
 */
#define MARK		0x4d
#define MARK_AT		2000
#define NEW		0x33

/* Blocks of ext4-small. */
#define SMALL_BLOCK	1024

/* Why the file system fails. */
enum cause { BAD_DISK, BAD_GFS2_DISK, FULL_TMPFS, TMPFS_QUOTA, FULL_EXT4, XFS_QUOTA, IMMUTABLE };

static const struct {
	enum backing on;
	/* The error of write(2) once space or quota is used up; 0: these are not the cause. */
	int used_up;
	/* The error that the module records, and its flags. */
	int error;
	unsigned int error_flags;
	/* The pages can be read. Only writes to them fail. */
	bool refuses_writes;
	/* At most so many bytes of each page of the file are CONTENT. The rest is a hole. */
	size_t content;
} causes[] = {
	[BAD_DISK] = { DM_EXT4, 0, EIO, 0, false, SIZE_MAX },
	/* A read of the page for its errno would need the cluster lock that GFS2's faults take. */
	[BAD_GFS2_DISK] = { DM_GFS2, 0, EIO, NOSIGBUS_ERROR_DEDUCED, false, SIZE_MAX },
	[FULL_TMPFS] = { SMALL_TMPFS, -ENOSPC, ENOSPC, 0, false, 0 },
	[TMPFS_QUOTA] = { QUOTA_TMPFS, -EDQUOT, EDQUOT, 0, false, 0 },
	[FULL_EXT4] = { SMALL_EXT4, -ENOSPC, ENOSPC, NOSIGBUS_ERROR_DEDUCED, true, SMALL_BLOCK },
	/* A write to blocks that two files share needs new blocks, which exceed the quota. */
	[XFS_QUOTA] = { XFS, -EDQUOT, EIO, NOSIGBUS_ERROR_DEDUCED, true, SIZE_MAX },
	/* The file system's own error is EPERM. */
	[IMMUTABLE] = { EXT4, 0, EIO, NOSIGBUS_ERROR_DEDUCED, true, SIZE_MAX },
};

/* A file whose file system fails, and a mapping of it that records errors. */
struct subject {
	MAPPED_FILE;
	enum cause cause;
	enum class class;
	/* filler: a file that takes the space. twin: a file that shares the blocks. */
	int filler, twin;
	bool broken;
	/* What NOSIGBUS_STATUS should say. */
	struct nosigbus_status want;
};

/* How many bytes of a page are CONTENT: in the file, and (below) in a stand-in. */
static size_t file_content(const struct subject *s)
{
	return causes[s->cause].content < s->page ? causes[s->cause].content : s->page;
}

static size_t stand_in_content(const struct subject *s)
{
	return causes[s->cause].refuses_writes ? file_content(s) : 0;
}

static bool is_of_nobody(enum cause cause)
{
	return cause == TMPFS_QUOTA || cause == XFS_QUOTA;
}

/* Whether an access meets the error. */
static bool meets(const struct subject *s, enum how how)
{
	return how == WRITE ? s->class != SHARED_READ : !causes[s->cause].refuses_writes;
}

/*
 * The error of fsync(2) and msync(2) after a store to a kept page. It is 0 on tmpfs, which does not
 * look for errors there.
 */
static int told_by_fsync(const struct subject *s)
{
	bool looks = causes[s->cause].on != SMALL_TMPFS && causes[s->cause].on != QUOTA_TMPFS;

	return s->class == SHARED_WRITE && looks ? causes[s->cause].error : 0;
}

/* The simplest access that meets the error. */
static enum how simplest(const struct subject *s)
{
	return meets(s, READ) ? READ : WRITE;
}

static int set_immutable(int fd, bool immutable)
{
	int flags;

	if (ioctl(fd, FS_IOC_GETFLAGS, &flags))
		return -1;
	flags = immutable ? flags | FS_IMMUTABLE_FL : flags & ~FS_IMMUTABLE_FL;
	return ioctl(fd, FS_IOC_SETFLAGS, &flags);
}

/* Makes the file system fail from now on; false if that is not possible. */
static bool break_it(struct subject *s)
{
	s->broken = true;
	switch (s->cause) {
	case BAD_DISK:
	case BAD_GFS2_DISK:
		on_disk = causes[s->cause].on;
		return !disk_fails(true);
	case IMMUTABLE:
		return !set_immutable(s->fd, true);
	default:
		s->filler = new_file(causes[s->cause].on);
		return s->filler >= 0 && fill_up(s->filler) == causes[s->cause].used_up;
	}
}

/* Removes the cause of the failures. */
static bool mend(struct subject *s)
{
	s->broken = false;
	switch (s->cause) {
	case BAD_DISK:
	case BAD_GFS2_DISK:
		on_disk = causes[s->cause].on;
		return !disk_fails(false);
	case IMMUTABLE:
		return !set_immutable(s->fd, false);
	default:
		return !ftruncate(s->filler, 0) && !fsync(s->filler) && !close(s->filler);
	}
}

/* Creates a file of FILE_PAGES pages with its CONTENT; false if that fails. */
static bool new_content(struct subject *s)
{
	s->fd = new_file(causes[s->cause].on);
	if (s->fd < 0)
		return false;
	if (s->cause == XFS_QUOTA) {
		s->twin = new_file(causes[s->cause].on);
		return !fill(s->twin, CONTENT, 0, FILE_PAGES * s->page) && !fsync(s->twin) &&
			!ioctl(s->fd, FICLONE, s->twin);
	}
	if (ftruncate(s->fd, FILE_PAGES * s->page))
		return false;
	/* Write it with one call if possible, so that the page cache can use large folios. */
	if (file_content(s) == s->page && fill(s->fd, CONTENT, 0, FILE_PAGES * s->page))
		return false;
	for (int i = 0; i < FILE_PAGES && file_content(s) && file_content(s) < s->page; i++)
		if (fill(s->fd, CONTENT, i * s->page, file_content(s)))
			return false;
	if (fsync(s->fd))
		return false;
	/* Bad disk: drop the pages from the page cache now, before fault-around can map them. */
	return (s->cause != BAD_DISK && s->cause != BAD_GFS2_DISK) || make_all_cold(s->fd);
}

static void set_up_recording(struct __test_metadata *_metadata, struct subject *s)
{
	set_up_mapping(_metadata, &s->file, s->class);
	ASSERT_EQ(enable_with(s->device, s->addr, s->len, NOSIGBUS_RECORD_ERRORS, 0), 0);
	s->want.flags = NOSIGBUS_RECORD_ERRORS;
}

static void set_up(struct __test_metadata *_metadata, struct subject *s, enum cause why,
		   enum class class)
{
	need_backing(_metadata, causes[why].on);
	if (why == XFS_QUOTA)
		need(_metadata, "xfs-quota");
	set_up_device(_metadata, &s->file);
	s->cause = why;
	s->class = class;
	s->len = PAGES * s->page;
	s->twin = -1;
	if (is_of_nobody(why))
		ASSERT_EQ(seteuid(NOBODY), 0);
	ASSERT_TRUE(new_content(s)) TH_LOG("%s", strerror(errno));
	set_up_recording(_metadata, s);
	ASSERT_TRUE(break_it(s)) TH_LOG("%s", strerror(errno));
}

static void take_down(struct __test_metadata *_metadata, struct subject *s)
{
	if (s->broken)
		EXPECT_TRUE(mend(s));
	close(s->twin);
	tear_down(&s->file);
	EXPECT_EQ(seteuid(0), 0);
}

FIXTURE(recorded) {
	struct subject s;
};

FIXTURE_VARIANT(recorded) {
	enum cause cause;
	enum class class;
};

FIXTURE_VARIANT_ADD(recorded, eio_private) { BAD_DISK, PRIVATE };
FIXTURE_VARIANT_ADD(recorded, eio_shared_read) { BAD_DISK, SHARED_READ };
FIXTURE_VARIANT_ADD(recorded, eio_shared_write) { BAD_DISK, SHARED_WRITE };
FIXTURE_VARIANT_ADD(recorded, eio_gfs2_private) { BAD_GFS2_DISK, PRIVATE };
FIXTURE_VARIANT_ADD(recorded, eio_gfs2_shared_read) { BAD_GFS2_DISK, SHARED_READ };
FIXTURE_VARIANT_ADD(recorded, enospc_tmpfs_private) { FULL_TMPFS, PRIVATE };
FIXTURE_VARIANT_ADD(recorded, enospc_tmpfs_shared_read) { FULL_TMPFS, SHARED_READ };
FIXTURE_VARIANT_ADD(recorded, enospc_tmpfs_shared_write) { FULL_TMPFS, SHARED_WRITE };
FIXTURE_VARIANT_ADD(recorded, edquot_tmpfs_private) { TMPFS_QUOTA, PRIVATE };
FIXTURE_VARIANT_ADD(recorded, edquot_tmpfs_shared_read) { TMPFS_QUOTA, SHARED_READ };
FIXTURE_VARIANT_ADD(recorded, edquot_tmpfs_shared_write) { TMPFS_QUOTA, SHARED_WRITE };
FIXTURE_VARIANT_ADD(recorded, enospc_ext4_shared_write) { FULL_EXT4, SHARED_WRITE };
FIXTURE_VARIANT_ADD(recorded, edquot_xfs_shared_write) { XFS_QUOTA, SHARED_WRITE };
FIXTURE_VARIANT_ADD(recorded, immutable_ext4_shared_write) { IMMUTABLE, SHARED_WRITE };

FIXTURE_SETUP(recorded)
{
	if (geteuid())
		SKIP(return, "it takes root to break things");
	set_up(_metadata, &self->s, variant->cause, variant->class);
}

FIXTURE_TEARDOWN(recorded)
{
	take_down(_metadata, &self->s);
}

/* Shared writable mappings: what a process stores in a stand-in has to be kept. */
FIXTURE(kept) {
	struct subject s;
};

FIXTURE_VARIANT(kept) {
	enum cause cause;
};

FIXTURE_VARIANT_ADD(kept, eio) { BAD_DISK };
FIXTURE_VARIANT_ADD(kept, enospc_tmpfs) { FULL_TMPFS };
FIXTURE_VARIANT_ADD(kept, edquot_tmpfs) { TMPFS_QUOTA };
FIXTURE_VARIANT_ADD(kept, enospc_ext4) { FULL_EXT4 };
FIXTURE_VARIANT_ADD(kept, edquot_xfs) { XFS_QUOTA };
FIXTURE_VARIANT_ADD(kept, immutable_ext4) { IMMUTABLE };

FIXTURE_SETUP(kept)
{
	if (geteuid())
		SKIP(return, "it takes root to break things");
	set_up(_metadata, &self->s, variant->cause, SHARED_WRITE);
}

FIXTURE_TEARDOWN(kept)
{
	take_down(_metadata, &self->s);
}

static char *page_at(const struct subject *s, int i)
{
	return s->addr + i * s->page;
}

#define EXPECT_STATUS_AT(at, want)	EXPECT_STATUS_OF(s->device, at, 0, want)
#define EXPECT_STATUS()			EXPECT_STATUS_AT(s->addr, s->want)

/* 0 if the page at p has so many bytes of CONTENT, then zeros, and if marked MARK at MARK_AT. */
static size_t page_differs(const char *p, size_t content, bool marked)
{
	for (size_t i = 0; i < page_size(); i++) {
		int want = marked && i == MARK_AT ? MARK : i < content ? CONTENT : 0;

		if (read_byte(p + i) != want)
			return i + 1;
	}
	return 0;
}

#define EXPECT_STAND_IN(i, marked) \
	EXPECT_EQ(page_differs(page_at(s, i), stand_in_content(s), marked), 0)

/* One access to page i: 0, or minus the signal that it has raised. */
static int access_page(const struct subject *s, int i, enum how how)
{
	char *p = page_at(s, i) + MARK_AT;
	int ret = how == WRITE ? write_byte(p, MARK) : read_byte(p);

	return ret < 0 ? ret : 0;
}

/* Updates the wanted status: there has been an error at page i of the file. */
static void add_error(struct subject *s, int i, enum how how)
{
	add(&s->want, s->class, how, 1, 1);
	s->want.errors++;
	if (s->want.error)
		return;
	s->want.error = causes[s->cause].error;
	s->want.error_flags = causes[s->cause].error_flags;
	s->want.error_offset = i * s->page;
}

/* Updates the wanted status: kept pages are mapped once more, and the file system is not asked. */
static void add_again(struct subject *s, int pages)
{
	add(&s->want, s->class, READ, pages, 0);
}

/* An access that meets the error at page i. The page has no stand-in yet. */
#define HIT(i, how) do {						\
	ASSERT_TRUE(meets(s, how));					\
	ASSERT_EQ(access_page(s, i, how), 0);				\
	add_error(s, i, how);						\
} while (0)

/* Updates the wanted status: the error has been cleared, which drops so many kept pages. */
static void forget(struct subject *s, int pages)
{
	s->want.error = 0;
	s->want.error_flags = 0;
	s->want.error_offset = 0;
	if (s->class == SHARED_WRITE)
		s->want.shadow_pages_held -= pages;
}

/* NOSIGBUS_CLEAR_ERROR returns the error once more, and clears it. */
#define CLEAR(pages) do {						\
	EXPECT_STATUS_OF(s->device, s->addr, NOSIGBUS_CLEAR_ERROR, s->want);	\
	forget(s, pages);						\
	EXPECT_STATUS();						\
} while (0)

TEST_F_TIMEOUT(recorded, is_answered_and_counted, HARNESS_SECONDS)
{
	struct subject *s = &self->s;
	int i = 5;

	EXPECT_STATUS();
	for (enum how how = READ; how <= WRITE; how++) {
		if (!meets(s, how)) {
			EXPECT_EQ(access_page(s, i, how), how == READ ? 0 : -SIGSEGV);
			EXPECT_STATUS();
			continue;
		}
		HIT(i, how);
		EXPECT_STATUS();
		/* The stand-in is mapped now: more accesses do not meet the error. */
		EXPECT_EQ(access_page(s, i, how), 0);
		EXPECT_EQ(access_page(s, i, READ), 0);
		EXPECT_STATUS();
		i -= 2;
	}
	HIT(6, simplest(s));
	/* Every NOSIGBUS_STATUS returns the error. */
	for (int n = 0; n < 3; n++)
		EXPECT_STATUS();

	/* Past EOF there is no error. */
	EXPECT_EQ(pages_of(0, s->addr, FILE_PAGES, PAGES), PAGES - FILE_PAGES);
	add(&s->want, s->class, READ, PAGES - FILE_PAGES, PAGES - FILE_PAGES);
	EXPECT_STATUS();
	for (i = 0; i < PAGES; i++)
		EXPECT_STATUS_AT(page_at(s, i) + 1, s->want);
}

/* A core dump reads all pages. It has a hole where a read fails, as without the module. */
TEST_F_TIMEOUT(recorded, not_for_a_core_dump, HARNESS_SECONDS)
{
	struct subject *s = &self->s;
	int fd = core_file("0xf");

	ASSERT_GE(fd, 0) TH_LOG("no core");
	close(fd);
	EXPECT_STATUS();
	HIT(1, simplest(s));
	EXPECT_STATUS();
}

TEST_F_TIMEOUT(recorded, has_what_the_file_has, HARNESS_SECONDS)
{
	struct subject *s = &self->s;

	/* Read, and then written to, if it can be. */
	EXPECT_STAND_IN(1, false);
	if (s->class == SHARED_READ)
		return;
	EXPECT_EQ(access_page(s, 1, WRITE), 0);
	EXPECT_STAND_IN(1, true);
	/* Not read before. */
	EXPECT_EQ(access_page(s, 2, WRITE), 0);
	EXPECT_STAND_IN(2, true);
	/* Byte by byte. */
	for (size_t i = 0; i < s->page; i++)
		ASSERT_EQ(write_byte(page_at(s, 3) + i, i % 251), 0);
	for (size_t i = 0; i < s->page; i++)
		ASSERT_EQ(read_byte(page_at(s, 3) + i), (int)(i % 251));
	EXPECT_STAND_IN(2, true);
}

/* The first error stays, whatever happens to others and to the mapping. */
TEST_F_TIMEOUT(recorded, is_told_until_cleared, HARNESS_SECONDS)
{
	char *to = mmap(NULL, self->s.len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct subject *s = &self->s;
	struct nosigbus_status *board, last;
	enum how how = simplest(s);
	int status;
	pid_t pid;

	ASSERT_NE(to, MAP_FAILED);
	board = mmap(NULL, s->page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(board, MAP_FAILED);
	HIT(5, how);
	HIT(2, how);
	EXPECT_STATUS();
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		bool bad = status_of(s->device, s->addr, 0, &board[0]) ||
			access_page(s, 6, how) || status_of(s->device, s->addr, 0, &board[1]);

		_exit(bad);
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	EXPECT_SAME_STATUS(board[0], s->want);
	add_error(s, 6, how);
	EXPECT_SAME_STATUS(board[1], s->want);
	EXPECT_STATUS();

	/* The mapping moves. Then the page with the error is unmapped. */
	ASSERT_EQ(mremap(s->addr, s->len, s->len, MREMAP_MAYMOVE | MREMAP_FIXED, to), to);
	s->addr = to;
	EXPECT_STATUS();
	ASSERT_EQ(munmap(page_at(s, 5), s->page), 0);
	EXPECT_STATUS();
	EXPECT_STATUS_AT(page_at(s, 6), s->want);

	/* The file grows, then shrinks until the page with the error is past EOF. */
	ASSERT_TRUE(mend(s));
	ASSERT_EQ(ftruncate(s->fd, s->len), 0);
	EXPECT_STATUS();
	ASSERT_EQ(ftruncate(s->fd, 3 * s->page), 0);
	EXPECT_STATUS();
	ASSERT_EQ(ftruncate(s->fd, 0), 0);
	EXPECT_STATUS();
	EXPECT_TRUE(touch(s->addr, 0, 5, READ));
	ASSERT_EQ(status_of(s->device, s->addr, 0, &last), 0);
	EXPECT_EQ(last.error, s->want.error);
	EXPECT_EQ(last.error_flags, s->want.error_flags);
	EXPECT_EQ(last.error_offset, s->want.error_offset);
	munmap(board, s->page);
}

TEST_F_TIMEOUT(recorded, is_recorded_again_after_clearing, HARNESS_SECONDS)
{
	enum how how = simplest(&self->s);
	struct subject *s = &self->s;

	/* There is nothing to clear yet. */
	CLEAR(0);
	HIT(3, how);
	HIT(5, how);
	CLEAR(2);
	CLEAR(0);
	/* The cause remains. The error at page 5 is the first one now. */
	HIT(5, how);
	EXPECT_STATUS();
	HIT(3, how);
	EXPECT_STATUS();
	CLEAR(2);
	if (s->class != SHARED_READ) {
		HIT(4, WRITE);
		EXPECT_STATUS();
		CLEAR(1);
	}
}

/* After the error has been cleared, the file system is asked again for the pages that failed. */
TEST_F_TIMEOUT(recorded, asks_the_file_after_clearing, HARNESS_SECONDS)
{
	bool writable = self->s.class != SHARED_READ;
	bool shared = self->s.class == SHARED_WRITE;
	struct subject *s = &self->s;
	int past = FILE_PAGES + 1;
	unsigned char byte;

	HIT(3, simplest(s));
	if (writable) {
		HIT(5, WRITE);
		ASSERT_EQ(access_page(s, past, WRITE), 0);
		add(&s->want, s->class, WRITE, 1, 1);
	}
	ASSERT_TRUE(mend(s));
	ASSERT_EQ(fill(s->fd, NEW, 0, FILE_PAGES * s->page), 0);
	/* Other pages show the file. The stand-ins stay. */
	EXPECT_EQ(differs(page_at(s, 4), NEW, s->page), 0);
	EXPECT_EQ(differs(page_at(s, 2), NEW, s->page), 0);
	EXPECT_STAND_IN(3, !meets(s, READ));
	if (writable)
		EXPECT_STAND_IN(5, true);
	EXPECT_STATUS();

	CLEAR(2);
	EXPECT_EQ(differs(page_at(s, 3), NEW, s->page), 0);
	/* Only a private copy (COW) stays. */
	if (shared)
		EXPECT_EQ(differs(page_at(s, 5), NEW, s->page), 0);
	if (writable && !shared)
		EXPECT_STAND_IN(5, true);
	if (writable) {
		/* The stand-in past EOF has nothing to do with the error, so it stays. */
		EXPECT_EQ(read_byte(page_at(s, past) + MARK_AT), MARK);
		for (int i = 2; i <= 5; i++) {
			EXPECT_EQ(write_byte(page_at(s, i) + 7, MARK), 0);
			ASSERT_EQ(pread(s->fd, &byte, 1, i * s->page + 7), 1);
			EXPECT_EQ(byte, shared ? MARK : NEW);
		}
	}
	EXPECT_STATUS();
}

static bool same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

#define EXPECT_SAME_STAT(a, b) do {				\
	EXPECT_EQ((a).st_size, (b).st_size);			\
	EXPECT_EQ((a).st_blocks, (b).st_blocks);		\
	EXPECT_TRUE(same_time((a).st_mtim, (b).st_mtim));	\
	EXPECT_TRUE(same_time((a).st_ctim, (b).st_ctim));	\
} while (0)

/* 0 if the file's content has not changed, or 1 plus the index of the first changed page. */
static int file_differs(const struct subject *s)
{
	char *bytes = malloc(FILE_PAGES * s->page);
	int bad = 0;

	if (!bytes || pread(s->fd, bytes, FILE_PAGES * s->page, 0) !=
	    (ssize_t)(FILE_PAGES * s->page))
		bad = -1;
	for (int i = 0; i < FILE_PAGES && !bad; i++)
		if (page_differs(bytes + i * s->page, file_content(s), false))
			bad = i + 1;
	free(bytes);
	return bad;
}

TEST_F_TIMEOUT(recorded, does_not_touch_the_file, HARNESS_SECONDS)
{
	struct stat before, refused, after, mended;
	struct subject *s = &self->s;

	ASSERT_EQ(fstat(s->fd, &before), 0);
	/* The clock that file times are taken from has coarse ticks. */
	usleep(20000);
	HIT(3, simplest(s));
	HIT(4, simplest(s));
	ASSERT_EQ(fstat(s->fd, &refused), 0);
	/* File systems set the times and then refuse the write. */
	if (causes[s->cause].refuses_writes) {
		before.st_mtim = refused.st_mtim;
		before.st_ctim = refused.st_ctim;
	}
	EXPECT_SAME_STAT(before, refused);
	usleep(20000);
	for (int round = 0; round < 3; round++) {
		for (int i = 3; i <= 4; i++) {
			EXPECT_EQ(access_page(s, i, READ), 0);
			if (s->class != SHARED_READ)
				EXPECT_EQ(access_page(s, i, WRITE), 0);
		}
		/* The kept pages have been written to, so that the next msync() fails, once. */
		EXPECT_EQ(msync(s->addr, s->len, MS_SYNC) ? errno : 0, told_by_fsync(s));
		EXPECT_EQ(msync(s->addr, s->len, MS_SYNC), 0);
		ASSERT_EQ(madvise(page_at(s, 3), 2 * s->page, MADV_DONTNEED), 0);
	}
	ASSERT_EQ(fstat(s->fd, &after), 0);
	EXPECT_SAME_STAT(before, after);

	ASSERT_TRUE(mend(s));
	ASSERT_EQ(fstat(s->fd, &mended), 0);
	EXPECT_EQ(file_differs(s), 0);
	ASSERT_EQ(munmap(s->addr, s->len), 0);
	ASSERT_EQ(fsync(s->fd), 0);
	ASSERT_EQ(fstat(s->fd, &after), 0);
	EXPECT_SAME_STAT(mended, after);
	EXPECT_EQ(file_differs(s), 0);
}

TEST_F_TIMEOUT(recorded, truncation_takes_the_page, HARNESS_SECONDS)
{
	bool shared = self->s.class == SHARED_WRITE;
	struct subject *s = &self->s;
	enum how how = simplest(s);
	unsigned char byte;

	HIT(1, how);
	HIT(4, how);
	if (shared) {
		EXPECT_EQ(access_page(s, 1, WRITE), 0);
		EXPECT_EQ(access_page(s, 4, WRITE), 0);
	}
	ASSERT_TRUE(mend(s));
	ASSERT_EQ(ftruncate(s->fd, 3 * s->page), 0);
	EXPECT_STATUS();
	EXPECT_STAND_IN(1, shared);
	/* The kept page is past EOF now. The shadow page has kept its content. */
	EXPECT_EQ(read_byte(page_at(s, 4) + MARK_AT), shared ? MARK : 0);
	add(&s->want, s->class, READ, 1, 0);
	EXPECT_STATUS();

	ASSERT_EQ(ftruncate(s->fd, FILE_PAGES * s->page), 0);
	give_back(&s->want, s->class, 1);
	EXPECT_STATUS();
	EXPECT_EQ(differs(page_at(s, 4), 0, s->page), 0);
	ASSERT_EQ(fill(s->fd, NEW, 4 * s->page, s->page), 0);
	EXPECT_EQ(differs(page_at(s, 4), NEW, s->page), 0);
	if (shared) {
		EXPECT_EQ(access_page(s, 4, WRITE), 0);
		ASSERT_EQ(pread(s->fd, &byte, 1, 4 * s->page + MARK_AT), 1);
		EXPECT_EQ(byte, MARK);
	}
	EXPECT_STATUS();

	/* The file has not grown over page 1. Its stand-in stays until the error is cleared. */
	EXPECT_STAND_IN(1, shared);
	ASSERT_EQ(ftruncate(s->fd, s->len), 0);
	EXPECT_STAND_IN(1, shared);
	EXPECT_STATUS();
	CLEAR(1);
	EXPECT_EQ(page_differs(page_at(s, 1), file_content(s), false), 0);
}

TEST_F_TIMEOUT(recorded, opting_out_ends_it, HARNESS_SECONDS)
{
	enum how how = simplest(&self->s);
	struct subject *s = &self->s;
	struct nosigbus_status status;

	HIT(3, how);
	if (s->class == PRIVATE)
		HIT(4, WRITE);
	EXPECT_STATUS();
	ASSERT_EQ(disable(s->device, s->addr, s->len), 0);
	EXPECT_EQ(status_of(s->device, s->addr, 0, &status), -ENOENT);
	EXPECT_EQ(access_page(s, 3, how), -SIGBUS);
	EXPECT_EQ(last_signal.si_code, BUS_ADRERR);
	EXPECT_EQ(last_signal.si_addr, page_at(s, 3) + MARK_AT);
	/* Private copies stay. */
	if (s->class == PRIVATE)
		EXPECT_STAND_IN(4, true);

	/* Opt in again, without the flag, and then with it: the counters start from 0. */
	ASSERT_EQ(enable(s->device, s->addr, s->len), 0);
	EXPECT_EQ(access_page(s, 3, how), -SIGBUS);
	EXPECT_EQ(last_signal.si_code, BUS_ADRERR);
	ASSERT_EQ(disable(s->device, s->addr, s->len), 0);
	ASSERT_EQ(enable_with(s->device, s->addr, s->len, NOSIGBUS_RECORD_ERRORS, 0), 0);
	memset(&s->want, 0, sizeof(s->want));
	s->want.flags = NOSIGBUS_RECORD_ERRORS;
	EXPECT_STATUS();
	HIT(6, how);
	EXPECT_STATUS();
	EXPECT_STAND_IN(6, how == WRITE);
	ASSERT_TRUE(mend(s));
	ASSERT_EQ(disable(s->device, s->addr, s->len), 0);
	EXPECT_EQ(page_differs(page_at(s, 6), file_content(s), false), 0);
	EXPECT_EQ(file_differs(s), 0);
}

/* Each mapping records its own errors, if it has the flag, with their offset in the file. */
TEST_F_TIMEOUT(recorded, other_mappings, HARNESS_SECONDS)
{
	enum how how = simplest(&self->s);
	struct subject *s = &self->s, plain = *s, without = *s, other = *s;

	plain.addr = map_file(s->class, s->fd, s->len);
	ASSERT_NE(plain.addr, MAP_FAILED);
	without.addr = map_file(s->class, s->fd, s->len);
	ASSERT_NE(without.addr, MAP_FAILED);
	ASSERT_EQ(enable(s->device, without.addr, s->len), 0);
	other.addr = mmap(NULL, s->len, class_prot(s->class), class_flags(s->class), s->fd,
			  2 * s->page);
	ASSERT_NE(other.addr, MAP_FAILED);
	ASSERT_EQ(enable_with(s->device, other.addr, s->len, NOSIGBUS_RECORD_ERRORS, 0), 0);

	HIT(5, how);
	EXPECT_EQ(access_page(&plain, 5, how), -SIGBUS);
	EXPECT_EQ(access_page(&without, 5, how), -SIGBUS);
	EXPECT_STATUS();
	EXPECT_STATUS_AT(without.addr, (struct nosigbus_status){});
	EXPECT_STATUS_AT(other.addr, other.want);

	/* "other" maps the file from page 2: its pages 3 and 1 are the file's pages 5 and 3. */
	ASSERT_EQ(access_page(&other, 3, how), 0);
	add_error(&other, 5, how);
	EXPECT_STATUS_AT(other.addr, other.want);
	ASSERT_EQ(access_page(&other, 1, how), 0);
	add_error(&other, 3, how);
	EXPECT_STATUS_AT(other.addr, other.want);
	EXPECT_STATUS();
	CLEAR(1);
	EXPECT_STATUS_AT(other.addr, other.want);
	EXPECT_EQ(access_page(&plain, 5, how), -SIGBUS);
	HIT(4, how);

	/* The other mappings show none of these stores. */
	ASSERT_TRUE(mend(s));
	EXPECT_EQ(page_differs(page_at(&plain, 5), file_content(s), false), 0);
	EXPECT_EQ(page_differs(page_at(&without, 5), file_content(s), false), 0);
	munmap(plain.addr, s->len);
	munmap(without.addr, s->len);
	munmap(other.addr, s->len);
}

/* A system call that accesses the mapping finds the same pages as the process itself. */
TEST_F_TIMEOUT(recorded, system_calls, HARNESS_SECONDS)
{
	struct subject *s = &self->s;
	char *bytes = malloc(s->page);
	int fds[2];

	ASSERT_NE(bytes, NULL);
	ASSERT_EQ(pipe2(fds, O_NONBLOCK), 0);
	ASSERT_EQ(write(fds[1], page_at(s, 3), s->page), (ssize_t)s->page);
	if (meets(s, READ))
		add_error(s, 3, READ);
	EXPECT_STATUS();
	ASSERT_EQ(read(fds[0], bytes, s->page), (ssize_t)s->page);
	EXPECT_EQ(page_differs(bytes, stand_in_content(s), false), 0);

	ASSERT_EQ(write(fds[1], memset(bytes, MARK, s->page), s->page), (ssize_t)s->page);
	if (s->class == SHARED_READ) {
		EXPECT_EQ(read(fds[0], page_at(s, 5), s->page), -1);
		EXPECT_EQ(errno, EFAULT);
	} else {
		/* First read a single byte into the page. The rest of it does not change. */
		ASSERT_EQ(read(fds[0], page_at(s, 5) + MARK_AT, 1), 1);
		add_error(s, 5, WRITE);
		EXPECT_STAND_IN(5, true);
		ASSERT_EQ(read(fds[0], page_at(s, 5), s->page - 1), (ssize_t)s->page - 1);
		EXPECT_EQ(differs(page_at(s, 5), MARK, s->page - 1), 0);
	}
	EXPECT_STATUS();
	close(fds[0]);
	close(fds[1]);
	free(bytes);
}

TEST_F_TIMEOUT(recorded, signals_the_eventfd, HARNESS_SECONDS)
{
	int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct subject *s = &self->s;
	enum how how = simplest(s);
	uint64_t counter;

	ASSERT_GE(event, 0);
	ASSERT_EQ(disable(s->device, s->addr, s->len), 0);
	s->want.flags = NOSIGBUS_RECORD_ERRORS | NOSIGBUS_EVENTFD;
	ASSERT_EQ(enable_with(s->device, s->addr, s->len, s->want.flags, event), 0);
	for (int i = 1; i < 4; i++) {
		EXPECT_EQ(read(event, &counter, sizeof(counter)), -1);
		HIT(2 * i, how);
		EXPECT_EQ(read(event, &counter, sizeof(counter)), sizeof(counter));
		EXPECT_EQ(counter, 1);
		HIT(2 * i - 1, how);
		EXPECT_EQ(read(event, &counter, sizeof(counter)), -1);
		EXPECT_STATUS_OF(s->device, s->addr, i == 2 ? NOSIGBUS_CLEAR_ERROR : 0, s->want);
		if (i == 2)
			forget(s, 4);
	}
	close(event);
}

/* Several threads meet the error at the same time, all at one page or each at a page of its own. */
#define THREADS		4

struct meeting {
	pthread_t thread;
	pthread_barrier_t *barrier;
	struct subject *s;
	int index, rounds;
	enum how how;
	bool same;
	int bad;
};

/* After each round, checks that no store is lost. Then one thread clears the error. */
static void *meet_error(void *arg)
{
	struct meeting *m = arg;
	struct subject *s = m->s;
	struct nosigbus_status status;

	for (int round = 0; round < m->rounds; round++) {
		for (int n = 0; n < FILE_PAGES; n++) {
			int i = m->same ? n : (n + m->index) % FILE_PAGES;
			char *p = page_at(s, i) + MARK_AT + m->index;

			pthread_barrier_wait(m->barrier);
			if (m->how == READ ? read_byte(p) : write_byte(p, MARK))
				m->bad++;
		}
		pthread_barrier_wait(m->barrier);
		for (int i = 0; i < FILE_PAGES && m->how == WRITE && s->class == SHARED_WRITE; i++)
			if (read_byte(page_at(s, i) + MARK_AT + m->index) != MARK)
				m->bad++;
		if (pthread_barrier_wait(m->barrier) == PTHREAD_BARRIER_SERIAL_THREAD &&
		    status_of(s->device, s->addr, NOSIGBUS_CLEAR_ERROR, &status))
			m->bad++;
	}
	return NULL;
}

static bool run_meeting(struct subject *s, int rounds, int writers, bool same)
{
	struct meeting threads[THREADS];
	pthread_barrier_t barrier;
	int bad = 0;

	if (pthread_barrier_init(&barrier, NULL, THREADS))
		return false;
	for (int i = 0; i < THREADS; i++) {
		threads[i] = (struct meeting) {
			.barrier = &barrier, .s = s, .index = i, .rounds = rounds,
			.how = i < writers ? WRITE : READ, .same = same,
		};
		if (pthread_create(&threads[i].thread, NULL, meet_error, &threads[i]))
			return false;
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i].thread, NULL);
		bad += threads[i].bad;
	}
	pthread_barrier_destroy(&barrier);
	return !bad;
}

/* writers: how many threads write. Each page counts one error a round, for the first thread. */
static void expect_meeting(struct __test_metadata *_metadata, struct subject *s, int writers,
			   bool same)
{
	const unsigned int rounds = 10, times = rounds * FILE_PAGES;
	struct nosigbus_status got;

	EXPECT_TRUE(run_meeting(s, rounds, writers, same));
	ASSERT_EQ(status_of(s->device, s->addr, 0, &got), 0);
	if (s->class == SHARED_WRITE) {
		/* A second thread may briefly unmap the new stand-in, which then counts again. */
		EXPECT_GE(got.shadow_pages, s->want.shadow_pages + times);
		EXPECT_LE(got.shadow_pages, s->want.shadow_pages + THREADS * times);
		s->want.shadow_pages = got.shadow_pages;
	} else {
		s->want.zero_pages += times;
	}
	s->want.errors += times;
	EXPECT_SAME_STATUS(got, s->want);
}

TEST_F_TIMEOUT(recorded, threads_at_once, HARNESS_SECONDS)
{
	struct subject *s = &self->s;
	int writers = meets(s, READ) ? 0 : THREADS;

	expect_meeting(_metadata, s, writers, true);
	expect_meeting(_metadata, s, writers, false);
	if (s->class == SHARED_WRITE && !writers) {
		expect_meeting(_metadata, s, THREADS / 2, true);
		expect_meeting(_metadata, s, THREADS, false);
	}
}

/*
 * After the zero page has been unmapped, the next fault asks the file system again. A shadow page
 * is kept, so the file system is not asked.
 */
TEST_F_TIMEOUT(recorded, is_asked_again_or_kept, HARNESS_SECONDS)
{
	bool kept = self->s.class == SHARED_WRITE;
	struct subject *s = &self->s;
	enum how how = simplest(s);

	HIT(3, how);
	ASSERT_EQ(madvise(s->addr, s->len, MADV_DONTNEED), 0);
	EXPECT_EQ(access_page(s, 3, how), 0);
	if (kept)
		add_again(s, 1);
	else
		add_error(s, 3, how);
	EXPECT_STATUS();
	ASSERT_TRUE(mend(s));
	ASSERT_EQ(fill(s->fd, NEW, 0, FILE_PAGES * s->page), 0);
	ASSERT_EQ(madvise(s->addr, s->len, MADV_DONTNEED), 0);
	if (kept) {
		EXPECT_STAND_IN(3, how == WRITE);
		add_again(s, 1);
	} else {
		EXPECT_EQ(differs(page_at(s, 3), NEW, s->page), 0);
	}
	/* NOSIGBUS_STATUS returns the error in both cases. */
	EXPECT_STATUS();
	CLEAR(1);
	EXPECT_EQ(differs(page_at(s, 3), NEW, s->page), 0);
}

static int another_descriptor(const struct subject *s)
{
	uid_t user = geteuid();
	int fd;

	/* After seteuid() /proc/self/fd belongs to root. */
	if (seteuid(0))
		return -1;
	fd = open_again(causes[s->cause].on, s->fd, O_RDONLY);
	return seteuid(user) ? -1 : fd;
}

/* After a store to a kept page, fsync() fails once on each descriptor that was open before. */
TEST_F_TIMEOUT(kept, fsync_tells_once, HARNESS_SECONDS)
{
	struct subject *s = &self->s;
	enum how how = simplest(s);
	int other = another_descriptor(s), later;

	ASSERT_GE(other, 0);
	EXPECT_EQ(fsync(s->fd), 0);
	HIT(3, how);
	if (how == READ) {
		/* The page has only been read. No store is lost, so msync() succeeds. */
		EXPECT_EQ(msync(s->addr, s->len, MS_SYNC), 0);
		EXPECT_EQ(access_page(s, 3, WRITE), 0);
	}
	EXPECT_EQ(msync(s->addr, s->len, MS_SYNC) ? errno : 0, told_by_fsync(s));
	EXPECT_EQ(msync(s->addr, s->len, MS_SYNC), 0);
	EXPECT_EQ(fsync(s->fd), 0);
	HIT(6, WRITE);
	EXPECT_EQ(fsync(s->fd) ? errno : 0, told_by_fsync(s));
	EXPECT_EQ(fdatasync(s->fd), 0);
	later = another_descriptor(s);
	EXPECT_EQ(fsync(later), 0);
	EXPECT_EQ(fsync(other) ? errno : 0, told_by_fsync(s));
	EXPECT_EQ(fsync(other), 0);

	/* MADV_DONTNEED loses no store. Neither it nor clearing makes fsync() fail again. */
	ASSERT_EQ(madvise(s->addr, s->len, MADV_DONTNEED), 0);
	EXPECT_EQ(read_byte(page_at(s, 6) + MARK_AT), MARK);
	add_again(s, 1);
	CLEAR(2);
	EXPECT_EQ(fsync(s->fd), 0);
	EXPECT_EQ(fsync(other), 0);
	EXPECT_EQ(fsync(later), 0);
	close(other);
	close(later);
}

/*
 * A kept page stays until the error is cleared, whatever unmaps it. Faults at neighbouring pages do
 * not map the file's page in its place (fault-around).
 */
TEST_F_TIMEOUT(kept, stays_until_cleared, HARNESS_SECONDS)
{
	struct subject *s = &self->s;
	enum how how = simplest(s);
	bool marked = how == WRITE;

	HIT(3, how);
	HIT(6, WRITE);
	ASSERT_TRUE(mend(s));
	/* From here on all pages of the file are in the page cache. */
	ASSERT_EQ(fill(s->fd, NEW, 0, FILE_PAGES * s->page), 0);
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < FILE_PAGES; i++)
			if (i != 3 && i != 6)
				EXPECT_EQ(differs(page_at(s, i), NEW, s->page), 0);
		EXPECT_STAND_IN(3, marked);
		EXPECT_STAND_IN(6, true);
		EXPECT_STATUS();
		ASSERT_EQ(madvise(s->addr, s->len, MADV_DONTNEED), 0);
		EXPECT_STATUS();
		for (int i = 2; i <= 4; i += 2) {
			EXPECT_EQ(read_byte(page_at(s, i)), NEW);
			EXPECT_EQ(write_byte(page_at(s, i) + 7, NEW), 0);
		}
		EXPECT_STAND_IN(3, marked);
		add_again(s, 1);
		EXPECT_EQ(write_byte(page_at(s, 6) + MARK_AT, MARK), 0);
		add_again(s, 1);
	}
	EXPECT_STATUS();
	ASSERT_EQ(mprotect(s->addr, s->len, PROT_NONE), 0);
	ASSERT_EQ(mprotect(s->addr, s->len, PROT_READ | PROT_WRITE), 0);
	EXPECT_EQ(msync(s->addr, s->len, MS_SYNC) ? errno : 0, told_by_fsync(s));
	ASSERT_EQ(fsync(s->fd), 0);
	ASSERT_EQ(posix_fadvise(s->fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	EXPECT_STAND_IN(3, marked);
	EXPECT_STAND_IN(6, true);
	EXPECT_STATUS();
	CLEAR(2);
	for (int i = 0; i < FILE_PAGES; i++)
		EXPECT_EQ(differs(page_at(s, i), NEW, s->page), 0);
	EXPECT_STATUS();
}

/* The file grows and shrinks. The kept page is inside EOF all the time. */
TEST_F_TIMEOUT(kept, size_changes_elsewhere, HARNESS_SECONDS)
{
	struct subject *s = &self->s;
	char *past = page_at(&self->s, FILE_PAGES + 1);

	HIT(3, WRITE);
	EXPECT_EQ(write_byte(past, 1), 0);
	add(&s->want, s->class, WRITE, 1, 1);
	ASSERT_TRUE(mend(s));
	for (int round = 0; round < 3; round++) {
		ASSERT_EQ(ftruncate(s->fd, s->len), 0);
		give_back(&s->want, s->class, 1);
		EXPECT_STATUS();
		EXPECT_EQ(read_byte(past), 0);
		EXPECT_STAND_IN(3, true);
		ASSERT_EQ(ftruncate(s->fd, 5 * s->page), 0);
		EXPECT_STAND_IN(3, true);
		EXPECT_EQ(write_byte(past, 1), 0);
		add(&s->want, s->class, WRITE, 1, 1);
		ASSERT_EQ(pwrite(s->fd, "x", 1, 6 * s->page), 1);
		EXPECT_STAND_IN(3, true);
		EXPECT_EQ(read_byte(past), 1);
		/* How often the kept page has been mapped depends on the file system. */
		ASSERT_EQ(status_of(s->device, s->addr, 0, &s->want), 0);
		EXPECT_EQ(s->want.shadow_pages_held, 2);
		EXPECT_EQ(s->want.error_offset, 3 * s->page);
	}
	/* Past EOF the kept page is an ordinary shadow page, which clearing does not drop. */
	ASSERT_EQ(ftruncate(s->fd, s->page), 0);
	EXPECT_STAND_IN(3, true);
	ASSERT_EQ(status_of(s->device, s->addr, NOSIGBUS_CLEAR_ERROR, &s->want), 0);
	EXPECT_EQ(s->want.error, (unsigned int)causes[s->cause].error);
	EXPECT_STAND_IN(3, true);
	EXPECT_EQ(read_byte(past), 1);
	ASSERT_EQ(ftruncate(s->fd, s->len), 0);
	EXPECT_EQ(pages_of(0, s->addr, 1, 4), 3);
	ASSERT_EQ(status_of(s->device, s->addr, 0, &s->want), 0);
	EXPECT_EQ(s->want.shadow_pages_held, 0);
}

/* A truncation cuts the page off and the file grows over it again, with no access in between. */
TEST_F_TIMEOUT(kept, cut_off_and_grown_over_unseen, HARNESS_SECONDS)
{
	struct subject *s = &self->s;

	HIT(3, WRITE);
	EXPECT_STAND_IN(3, true);
	ASSERT_TRUE(mend(s));
	ASSERT_EQ(ftruncate(s->fd, s->page), 0);
	ASSERT_EQ(ftruncate(s->fd, FILE_PAGES * s->page), 0);
	EXPECT_EQ(differs(page_at(s, 3), 0, s->page), 0);
	ASSERT_EQ(status_of(s->device, s->addr, 0, &s->want), 0);
	EXPECT_EQ(s->want.shadow_pages_held, 0);
}

/* A forked child sees the same kept pages. It can clear the error for both processes. */
TEST_F_TIMEOUT(kept, shared_with_children, HARNESS_SECONDS)
{
	struct subject *s = &self->s;
	struct turns t;
	int status;
	pid_t pid;

	ASSERT_EQ(pipe(t.to_child), 0);
	ASSERT_EQ(pipe(t.to_parent), 0);
	HIT(2, WRITE);
	/* If the pages can be read, map all of them, for both processes. */
	if (!meets(s, READ))
		EXPECT_TRUE(touch(s->addr, 0, FILE_PAGES, READ));
	EXPECT_STATUS();
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		struct nosigbus_status seen;
		/* One bit for each check that fails. */
		int bad = page_differs(page_at(s, 2), stand_in_content(s), true) ? 1 : 0;

		bad |= access_page(s, 4, WRITE) ? 2 : 0;
		write_byte(page_at(s, 2) + 7, 2);
		go_on(t.to_parent[1]);
		wait_for(t.to_child[0]);
		bad |= read_byte(page_at(s, 5) + 7) != 5 ? 4 : 0;
		bad |= read_byte(page_at(s, 4) + 7) != 4 ? 8 : 0;
		go_on(t.to_parent[1]);
		wait_for(t.to_child[0]);
		bad |= status_of(s->device, s->addr, NOSIGBUS_CLEAR_ERROR, &seen) ? 16 : 0;
		bad |= seen.error_offset != 2 * s->page ? 32 : 0;
		bad |= page_differs(page_at(s, 2), file_content(s), false) ? 64 : 0;
		bad |= write_byte(page_at(s, 2) + 7, 7) ? 128 : 0;
		_exit(bad);
	}
	wait_for(t.to_parent[0]);
	add_error(s, 4, WRITE);
	EXPECT_STATUS();
	EXPECT_EQ(read_byte(page_at(s, 2) + 7), 2);
	EXPECT_STAND_IN(4, true);
	/* The read has mapped the page in this process, too. */
	add_again(s, 1);
	EXPECT_STATUS();
	EXPECT_EQ(write_byte(page_at(s, 4) + 7, 4), 0);
	EXPECT_EQ(write_byte(page_at(s, 5) + 7, 5), 0);
	add_error(s, 5, WRITE);
	EXPECT_STATUS();
	go_on(t.to_child[1]);
	wait_for(t.to_parent[0]);
	add_again(s, 1);
	EXPECT_STATUS();

	ASSERT_TRUE(mend(s));
	go_on(t.to_child[1]);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0) TH_LOG("status %#x", status);
	forget(s, 3);
	EXPECT_STATUS();
	EXPECT_EQ(page_differs(page_at(s, 4), file_content(s), false), 0);
	EXPECT_EQ(page_differs(page_at(s, 5), file_content(s), false), 0);
	/* What the child has written has gone to the file. */
	EXPECT_EQ(read_byte(page_at(s, 2) + 7), 7);
}

/* Where the file system refuses only writes, reading a page or copying it is not an error. */
TEST_F_TIMEOUT(kept, only_what_fails, HARNESS_SECONDS)
{
	const enum class classes[] = { PRIVATE, SHARED_READ };
	struct subject *s = &self->s;

	for (size_t i = 0; i < ARRAY_SIZE(classes); i++) {
		struct subject other = *s;

		other.class = classes[i];
		other.addr = map_file(other.class, s->fd, s->len);
		ASSERT_NE(other.addr, MAP_FAILED);
		ASSERT_EQ(enable_with(s->device, other.addr, s->len, NOSIGBUS_RECORD_ERRORS, 0), 0);
		for (int page = 1; page < FILE_PAGES; page++) {
			EXPECT_EQ(access_page(&other, page, READ), 0);
			if (meets(s, READ)) {
				add_error(&other, page, READ);
			} else {
				EXPECT_EQ(page_differs(page_at(&other, page), file_content(s),
						       false), 0);
			}
			/* A write to a private mapping copies the page that is mapped. */
			EXPECT_EQ(access_page(&other, page, WRITE),
				  other.class == PRIVATE ? 0 : -SIGSEGV);
		}
		EXPECT_STATUS_AT(other.addr, other.want);
		munmap(other.addr, s->len);
	}
	EXPECT_STATUS();
}

/*
 * The parent writes a number to a page. The file system refuses that, so the page is kept. Then the
 * parent publishes the number. Meanwhile the child reads all pages in a loop, so that fault-around
 * maps pages of the page cache. Once the number is published, the child has to see it. Once the
 * parent has cleared the error, the child must not see any number from before.
 */
struct shown {
	atomic_bool stop;
	/* How often the child has been through all pages. */
	atomic_ulong passes;
	/* The published number of each page, and the highest number that has been cleared. */
	atomic_uint number[FILE_PAGES], cleared;
	/* The first wrong number that the child has seen, where, and what it should have been. */
	atomic_uint page, seen, expected, bad;
};

/* The number at p, or minus the signal that reading it has raised. */
static int64_t read_number(const char *p)
{
	int sig = sigsetjmp(access_failed, 0);

	return sig ? -sig : (int64_t)*(const volatile uint32_t *)p;
}

static int write_number(char *p, uint32_t number)
{
	int sig = sigsetjmp(access_failed, 0);

	if (sig)
		return -sig;
	*(volatile uint32_t *)p = number;
	return 0;
}

static void look(const struct subject *s, struct shown *shown)
{
	const uint32_t from_file = CONTENT * 0x01010101U;

	for (int pass = 0; !atomic_load(&shown->stop); pass++) {
		for (int i = 0; i < FILE_PAGES; i++) {
			unsigned int cleared = atomic_load(&shown->cleared);
			unsigned int expected = atomic_load(&shown->number[i]);
			int64_t seen = read_number(page_at(s, i) + MARK_AT);
			/* The parent has not changed the number during the read. */
			bool still = expected && atomic_load(&shown->number[i]) == expected;
			bool stale = seen > 0 && seen != from_file && seen <= cleared;

			if (seen >= 0 && !stale && (!still || seen == expected))
				continue;
			atomic_store(&shown->page, i);
			atomic_store(&shown->seen, seen);
			atomic_store(&shown->expected, expected);
			atomic_store(&shown->bad, 1);
			return;
		}
		atomic_fetch_add(&shown->passes, 1);
		if (pass % 2)
			madvise(s->addr, s->len, MADV_DONTNEED);
	}
}

/* Waits until the child has read all pages once; false if it has seen a wrong number. */
static bool wait_for_pass(struct shown *shown)
{
	unsigned long passes = atomic_load(&shown->passes);

	while (atomic_load(&shown->passes) < passes + 2 && !atomic_load(&shown->bad))
		sched_yield();
	return !atomic_load(&shown->bad);
}

TEST_F_TIMEOUT(kept, what_is_written_is_seen, HARNESS_SECONDS)
{
	struct subject *s = &self->s;
	struct nosigbus_status status;
	unsigned int number = 0, seed = 1;
	struct shown *shown;
	bool fine = true;
	int child_status;
	pid_t pid;

	shown = mmap(NULL, s->page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(shown, MAP_FAILED);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		look(s, shown);
		_exit(0);
	}
	for (int round = 0; round < 30 && fine; round++) {
		/* In a round some pages are written to several times, and some not at all. */
		for (int n = 0; n < FILE_PAGES && fine; n++) {
			int i = rand_r(&seed) % FILE_PAGES;

			if (n % 4 == 3)
				madvise(s->addr, s->len, MADV_DONTNEED);
			atomic_store(&shown->number[i], 0);
			EXPECT_EQ(write_number(page_at(s, i) + MARK_AT, ++number), 0);
			atomic_store(&shown->number[i], number);
			if (n % 4 == 2)
				fine = wait_for_pass(shown);
		}
		fine = fine && wait_for_pass(shown);
		for (int i = 0; i < FILE_PAGES; i++)
			atomic_store(&shown->number[i], 0);
		ASSERT_EQ(status_of(s->device, s->addr, NOSIGBUS_CLEAR_ERROR, &status), 0);
		EXPECT_GT(status.error, 0);
		atomic_store(&shown->cleared, number);
	}
	fine = fine && wait_for_pass(shown);
	atomic_store(&shown->stop, true);
	ASSERT_EQ(waitpid(pid, &child_status, 0), pid);
	EXPECT_EQ(child_status, 0);
	EXPECT_TRUE(fine) TH_LOG("page %u shows %#x, not %#x; %#x has been cleared", shown->page,
				 shown->seen, shown->expected, shown->cleared);
	TH_LOG("%u writes, %lu passes", number, shown->passes);
	munmap(shown, s->page);
}

/* One thread clears the error CLEARINGS times, while others meet it again and again. */
#define CLEARINGS	50

struct clearing {
	struct subject *s;
	pthread_t thread;
	atomic_bool *stop;
	int bad;
};

static void *clear_often(void *arg)
{
	struct clearing *c = arg;
	struct nosigbus_status status;
	__u64 seen = 0;

	for (int times = 0; times < CLEARINGS && !c->bad;) {
		if (status_of(c->s->device, c->s->addr, 0, &status))
			c->bad++;
		/* Clear only after a new stand-in is mapped, or no access would ever complete. */
		if (stand_ins(&status) == seen)
			continue;
		seen = stand_ins(&status);
		if (status_of(c->s->device, c->s->addr, NOSIGBUS_CLEAR_ERROR, &status))
			c->bad++;
		times++;
	}
	atomic_store(c->stop, true);
	return NULL;
}

static void *meet_often(void *arg)
{
	struct clearing *c = arg;

	for (int n = 0; !atomic_load(c->stop); n++) {
		char *p = page_at(c->s, n % FILE_PAGES) + MARK_AT;
		int seen = read_byte(p);

		if (seen != MARK && seen != 0 && seen != CONTENT)
			c->bad++;
		if (write_byte(p, MARK))
			c->bad++;
	}
	return NULL;
}

TEST_F_TIMEOUT(kept, cleared_while_others_meet_it, HARNESS_SECONDS)
{
	void *(*const run[])(void *) = { clear_often, meet_often, meet_often };
	struct clearing threads[ARRAY_SIZE(run)];
	struct subject *s = &self->s;
	struct nosigbus_status status;
	atomic_bool stop = false;

	for (size_t i = 0; i < ARRAY_SIZE(run); i++) {
		threads[i] = (struct clearing) { .s = s, .stop = &stop };
		ASSERT_EQ(pthread_create(&threads[i].thread, NULL, run[i], &threads[i]), 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(run); i++) {
		ASSERT_EQ(pthread_join(threads[i].thread, NULL), 0);
		EXPECT_EQ(threads[i].bad, 0);
	}

	/* Nothing is left over. */
	ASSERT_EQ(status_of(s->device, s->addr, NOSIGBUS_CLEAR_ERROR, &status), 0);
	ASSERT_EQ(status_of(s->device, s->addr, 0, &s->want), 0);
	EXPECT_EQ(s->want.error, 0);
	EXPECT_EQ(s->want.shadow_pages_held, 0);
	EXPECT_GT(s->want.errors, 0);
	HIT(3, WRITE);
	EXPECT_STATUS();
	ASSERT_TRUE(mend(s));
	EXPECT_EQ(file_differs(s), 0);
}

#define FIRST_ERRORS	100

struct newcomer {
	pthread_barrier_t barrier;
	char *addr;
	bool stop;
};

static void *meet_first(void *arg)
{
	struct newcomer *n = arg;

	for (;;) {
		pthread_barrier_wait(&n->barrier);
		if (n->stop)
			return NULL;
		write_byte(n->addr, MARK);
		pthread_barrier_wait(&n->barrier);
	}
}

/* NOSIGBUS_CLEAR_ERROR starts before the first error. If it returns the error, it clears it. */
TEST_F_TIMEOUT(kept, first_one_is_met_while_clearing, HARNESS_SECONDS)
{
	struct subject *s = &self->s;
	struct newcomer n = {};
	pthread_t thread;

	ASSERT_EQ(pthread_barrier_init(&n.barrier, NULL, 2), 0);
	ASSERT_EQ(pthread_create(&thread, NULL, meet_first, &n), 0);
	for (int i = 0; i < FIRST_ERRORS; i++) {
		char *addr = map_file(SHARED_WRITE, s->fd, s->len);
		struct nosigbus_status told = {}, status;

		ASSERT_NE(addr, MAP_FAILED);
		ASSERT_EQ(enable_with(s->device, addr, s->len, NOSIGBUS_RECORD_ERRORS, 0), 0);
		n.addr = addr + 3 * s->page + MARK_AT;
		pthread_barrier_wait(&n.barrier);
		while (!told.error)
			ASSERT_EQ(status_of(s->device, addr, NOSIGBUS_CLEAR_ERROR, &told), 0);
		pthread_barrier_wait(&n.barrier);
		/* The access may have been retried since, and have met another error. */
		ASSERT_EQ(status_of(s->device, addr, 0, &status), 0);
		EXPECT_TRUE(!status.error || status.errors > told.errors);
		ASSERT_EQ(munmap(addr, s->len), 0);
	}
	n.stop = true;
	pthread_barrier_wait(&n.barrier);
	pthread_join(thread, NULL);
	pthread_barrier_destroy(&n.barrier);
}

/* Poisoned memory: not an error of the file system, so it raises SIGBUS and is not recorded. */
FIXTURE(broken_memory) {
	struct subject s;
};

FIXTURE_VARIANT(broken_memory) {
	enum class class;
};

FIXTURE_VARIANT_ADD(broken_memory, private) { PRIVATE };
FIXTURE_VARIANT_ADD(broken_memory, shared_read) { SHARED_READ };
FIXTURE_VARIANT_ADD(broken_memory, shared_write) { SHARED_WRITE };

FIXTURE_SETUP(broken_memory)
{
	if (geteuid())
		SKIP(return, "it takes root to break things");
	need(_metadata, "hwpoison");
	set_up_file(_metadata, &self->s.file, MEMFD, FILE_PAGES * page_size(), PAGES);
	self->s.class = variant->class;
	set_up_recording(_metadata, &self->s);
}

FIXTURE_TEARDOWN(broken_memory)
{
	tear_down(&self->s.file);
}

TEST_F_TIMEOUT(broken_memory, raises_sigbus, HARNESS_SECONDS)
{
	struct subject *s = &self->s;
	char *plain = map_file(SHARED_READ, s->fd, s->len);

	ASSERT_NE(plain, MAP_FAILED);
	EXPECT_EQ(pages_of(CONTENT, s->addr, 0, FILE_PAGES), FILE_PAGES);
	EXPECT_EQ(pages_of(CONTENT, plain, 0, FILE_PAGES), FILE_PAGES);
	/* Poison a page that stays mapped here, and one that is then unmapped here. */
	ASSERT_EQ(in_child(poison, page_at(s, 1)), 128 + SIGBUS);
	ASSERT_EQ(in_child(poison, plain + 2 * s->page), 128 + SIGBUS);
	ASSERT_EQ(madvise(page_at(s, 2), s->page, MADV_DONTNEED), 0);
	for (int round = 0; round < 2; round++) {
		for (int i = 1; i <= 2; i++)
			for (enum how how = READ; how <= WRITE; how++) {
				if (how == WRITE && s->class == SHARED_READ)
					continue;
				EXPECT_EQ(access_page(s, i, how), -SIGBUS);
				EXPECT_EQ(last_signal.si_code, BUS_MCEERR_AR);
			}
		EXPECT_STATUS();
		EXPECT_STATUS_OF(s->device, s->addr, NOSIGBUS_CLEAR_ERROR, s->want);
	}
	EXPECT_EQ(access_page(s, 3, READ), 0);
	EXPECT_STATUS();
	munmap(plain, s->len);
}

TEST_HARNESS_MAIN
