// SPDX-License-Identifier: GPL-2.0-only
/*
 * What an opted-in mapping shows, for each class of mapping on each file system.
 * What system calls do to mappings does not depend on the file system: see vma.c.
 */

#include "mapped_file.h"

#include <pthread.h>
#include <stdatomic.h>

/*
 * The file has two full pages and TAIL bytes of a third; the mapping has three
 * pages more, past EOF.
 */
#define FILE_PAGES	3
#define PAGES		6
#define TAIL		100

FIXTURE(mapping) {
	MAPPED_FILE;
	/* The open file that is mapped. fd is for writing to the file and shrinking it. */
	int map_fd;
};

FIXTURE_VARIANT(mapping) {
	enum backing backing;
	enum class class;
	bool open_read_only;
};

#define VARIANT(name, fs, how, read_only)				\
	FIXTURE_VARIANT_ADD(mapping, name) {				\
		.backing = fs, .class = how, .open_read_only = read_only,	\
	}

VARIANT(memfd_private, MEMFD, PRIVATE, false);
VARIANT(memfd_shared_read, MEMFD, SHARED_READ, false);
VARIANT(memfd_shared_write, MEMFD, SHARED_WRITE, false);
VARIANT(tmpfs_private, TMPFS, PRIVATE, false);
VARIANT(tmpfs_shared_read, TMPFS, SHARED_READ, false);
VARIANT(tmpfs_shared_write, TMPFS, SHARED_WRITE, false);
VARIANT(ext4_private, EXT4, PRIVATE, false);
VARIANT(ext4_shared_read, EXT4, SHARED_READ, false);
VARIANT(ext4_shared_write, EXT4, SHARED_WRITE, false);
VARIANT(xfs_private, XFS, PRIVATE, false);
VARIANT(xfs_shared_read, XFS, SHARED_READ, false);
VARIANT(xfs_shared_write, XFS, SHARED_WRITE, false);
VARIANT(btrfs_private, BTRFS, PRIVATE, false);
VARIANT(btrfs_shared_read, BTRFS, SHARED_READ, false);
VARIANT(btrfs_shared_write, BTRFS, SHARED_WRITE, false);
VARIANT(p9_private, P9, PRIVATE, false);
VARIANT(p9_shared_read, P9, SHARED_READ, false);
VARIANT(p9_shared_write, P9, SHARED_WRITE, false);
VARIANT(overlay_private, OVERLAY, PRIVATE, false);
VARIANT(overlay_shared_read, OVERLAY, SHARED_READ, false);
VARIANT(overlay_shared_write, OVERLAY, SHARED_WRITE, false);
VARIANT(overlay_copied_up_private, OVERLAY_COPIED_UP, PRIVATE, false);
VARIANT(overlay_copied_up_shared_read, OVERLAY_COPIED_UP, SHARED_READ, false);
VARIANT(overlay_copied_up_shared_write, OVERLAY_COPIED_UP, SHARED_WRITE, false);
/* Of a file that was opened O_RDONLY, MAP_SHARED mappings can never be writable. */
VARIANT(overlay_lower_private, OVERLAY_LOWER, PRIVATE, true);
VARIANT(overlay_lower_shared, OVERLAY_LOWER, SHARED_READ, true);
VARIANT(memfd_o_rdonly_private, MEMFD, PRIVATE, true);
VARIANT(memfd_o_rdonly_shared, MEMFD, SHARED_READ, true);
VARIANT(ext4_o_rdonly_private, EXT4, PRIVATE, true);
VARIANT(ext4_o_rdonly_shared, EXT4, SHARED_READ, true);

FIXTURE_SETUP(mapping)
{
	need_class(_metadata, variant->class);
	set_up_file(_metadata, &self->file, variant->backing,
		    (FILE_PAGES - 1) * page_size() + TAIL, PAGES);
	self->map_fd = self->fd;
	if (variant->open_read_only) {
		self->map_fd = open_again(variant->backing, self->fd, O_RDONLY);
		ASSERT_GE(self->map_fd, 0) TH_LOG("open: %s", strerror(errno));
	}
	self->addr = map_file(variant->class, self->map_fd, self->len);
	ASSERT_NE(self->addr, MAP_FAILED) TH_LOG("mmap: %s", strerror(errno));
}

FIXTURE_TEARDOWN(mapping)
{
	tear_down(&self->file);
}

#define IS_PRIVATE()	(variant->class == PRIVATE)
#define IS_WRITABLE()	(variant->class != SHARED_READ)

TEST_F(mapping, not_opted_in_raises_sigbus)
{
	EXPECT_EQ(read_byte(self->addr), CONTENT);
	for (int i = FILE_PAGES; i < PAGES; i++)
		EXPECT_EQ(read_byte(self->addr + i * self->page), -SIGBUS);
}

TEST_F(mapping, past_eof_reads_zero)
{
	ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
	EXPECT_EQ(pages_of(0, self->addr, FILE_PAGES, PAGES), PAGES - FILE_PAGES);
}

TEST_F(mapping, inside_reads_the_file)
{
	ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
	EXPECT_EQ(differs(self->addr, CONTENT, self->size), 0);
	/* The page that holds EOF is the file's own. It has zeros after EOF. */
	EXPECT_EQ(differs(self->addr + self->size, 0, FILE_PAGES * self->page - self->size), 0);

	/* It is still the file's page: a write to the file shows. */
	if (!IS_PRIVATE()) {
		char byte = 0x77;

		ASSERT_EQ(pwrite(self->fd, &byte, 1, self->page + 5), 1);
		ASSERT_EQ(pwrite(self->fd, &byte, 1, 2 * self->page + 5), 1);
		EXPECT_EQ(read_byte(self->addr + self->page + 5), byte);
		EXPECT_EQ(read_byte(self->addr + 2 * self->page + 5), byte);
	}
}

TEST_F(mapping, enable_keeps_what_is_mapped)
{
	EXPECT_EQ(read_byte(self->addr), CONTENT);
	if (IS_WRITABLE())
		ASSERT_EQ(write_byte(self->addr + 1, 1), 0);
	ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
	EXPECT_EQ(read_byte(self->addr), CONTENT);
	EXPECT_EQ(read_byte(self->addr + 1), IS_WRITABLE() ? 1 : CONTENT);
}

/* A write to a page inside EOF, including the page that holds EOF, goes to the file. */
TEST_F(mapping, writes_inside_go_to_the_file)
{
	unsigned char got[3];
	bool to_file = variant->class == SHARED_WRITE;

	ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
	for (int i = 0; i < FILE_PAGES; i++)
		EXPECT_EQ(write_byte(self->addr + i * self->page + 5, 0x41 + i),
			  IS_WRITABLE() ? 0 : -SIGSEGV);
	ASSERT_EQ(msync(self->addr, self->len, MS_SYNC), 0);
	for (int i = 0; i < FILE_PAGES; i++) {
		ASSERT_EQ(pread(self->fd, got, 3, i * self->page + 4), 3);
		EXPECT_EQ(got[0], CONTENT);
		EXPECT_EQ(got[1], to_file ? 0x41 + i : CONTENT);
		EXPECT_EQ(got[2], CONTENT);
	}
}

TEST_F(mapping, shrunk_file_reads_zero)
{
	ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
	EXPECT_EQ(differs(self->addr, CONTENT, self->size), 0);

	ASSERT_EQ(ftruncate(self->fd, self->page), 0);
	EXPECT_EQ(differs(self->addr, CONTENT, self->page), 0);
	EXPECT_EQ(pages_of(0, self->addr, 1, PAGES), PAGES - 1);

	ASSERT_EQ(ftruncate(self->fd, 0), 0);
	EXPECT_EQ(pages_of(0, self->addr, 0, PAGES), PAGES);
}

TEST_F(mapping, pages_untouched_before_growth_show_the_file)
{
	char byte = 0x33;

	ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
	EXPECT_EQ(read_byte(self->addr + (PAGES - 1) * self->page), 0);
	ASSERT_EQ(pwrite(self->fd, &byte, 1, FILE_PAGES * self->page), 1);
	EXPECT_EQ(read_byte(self->addr + FILE_PAGES * self->page), byte);
}

TEST_F(mapping, write_past_eof)
{
	char *past = self->addr + FILE_PAGES * self->page;
	struct stat st;

	ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
	if (!IS_WRITABLE()) {
		EXPECT_EQ(write_byte(past, 1), -SIGSEGV);
		EXPECT_EQ(mprotect(self->addr, self->len, PROT_READ | PROT_WRITE), -1);
		EXPECT_EQ(errno, EACCES);
		EXPECT_EQ(read_byte(past), 0);
		return;
	}

	/* The first page is written first. The second is read first, then written. */
	EXPECT_EQ(write_byte(past + 7, 1), 0);
	EXPECT_EQ(read_byte(past + self->page), 0);
	EXPECT_EQ(write_byte(past + self->page + 7, 2), 0);
	EXPECT_EQ(differs(past, 0, 7), 0);
	EXPECT_EQ(read_byte(past + 7), 1);
	EXPECT_EQ(differs(past + 8, 0, self->page - 8 + 7), 0);
	EXPECT_EQ(read_byte(past + self->page + 7), 2);

	/* A private page stays, even when the file grows over it. */
	ASSERT_EQ(fstat(self->fd, &st), 0);
	EXPECT_EQ(st.st_size, (off_t)self->size);
	if (IS_PRIVATE()) {
		ASSERT_EQ(ftruncate(self->fd, self->len), 0);
		EXPECT_EQ(read_byte(past + 7), 1);
		EXPECT_EQ(differs(past + 8, 0, self->page - 8), 0);
	}
}

TEST_F(mapping, system_calls_read_zeros)
{
	char *past = self->addr + FILE_PAGES * self->page;
	char *got = malloc(2 * self->page);
	int pipe_fd[2];

	ASSERT_NE(got, NULL);
	ASSERT_EQ(pipe(pipe_fd), 0);
	EXPECT_EQ(write(pipe_fd[1], past, 2 * self->page), -1);
	EXPECT_EQ(errno, EFAULT);

	ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
	memset(got, 1, 2 * self->page);
	EXPECT_EQ(write(pipe_fd[1], past, 2 * self->page), (ssize_t)(2 * self->page));
	EXPECT_EQ(read(pipe_fd[0], got, 2 * self->page), (ssize_t)(2 * self->page));
	EXPECT_EQ(differs(got, 0, 2 * self->page), 0);

	/* write() reads across EOF; read() writes to the mapping. */
	EXPECT_EQ(write(pipe_fd[1], past - 1, 2), 2);
	if (IS_WRITABLE()) {
		EXPECT_EQ(read(pipe_fd[0], past, 2), 2);
	} else {
		EXPECT_EQ(read(pipe_fd[0], past, 2), -1);
		EXPECT_EQ(errno, EFAULT);
	}
	close(pipe_fd[0]);
	close(pipe_fd[1]);
	free(got);
}

TEST_F(mapping, munmap_ends_it)
{
	ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
	EXPECT_EQ(read_byte(self->addr + FILE_PAGES * self->page), 0);
	ASSERT_EQ(munmap(self->addr, self->len), 0);
	EXPECT_EQ(read_byte(self->addr + FILE_PAGES * self->page), -SIGSEGV);

	/* A mapping in the same place is a new one. */
	ASSERT_EQ(mmap(self->addr, self->len, PROT_READ, class_flags(variant->class) | MAP_FIXED,
		       self->map_fd, 0), self->addr);
	EXPECT_EQ(read_byte(self->addr + FILE_PAGES * self->page), -SIGBUS);
}

#define SHRINK_ROUNDS	20
#define SHRINK_PAGES	64

struct shrinker {
	int fd, pages;
	size_t page;
	char *addr;
	enum class class;
	atomic_bool done;
	atomic_int signals;
};

static void *shrink_to_nothing(void *arg)
{
	struct shrinker *s = arg;

	for (long pages = s->pages; pages >= 0; pages--)
		if (ftruncate(s->fd, pages * s->page))
			abort();
	atomic_store(&s->done, true);
	return NULL;
}

/* Reads, or writes and reads, all pages from the last to the first. */
static void access_pages(struct shrinker *s)
{
	for (int i = s->pages - 1; i >= 0; i--) {
		char *p = s->addr + i * s->page;

		if (s->class != SHARED_READ && write_byte(p + 1, i) < 0)
			s->signals++;
		if (read_byte(p) < 0)
			s->signals++;
	}
}

static void *access_until_done(void *arg)
{
	struct shrinker *s = arg;

	do
		access_pages(s);
	while (!atomic_load(&s->done));
	return NULL;
}

/* No access may raise a signal while the file shrinks under it, page by page. */
TEST_F_TIMEOUT(mapping, shrinks_under_accesses, 120)
{
	/* Other file systems are slow to shrink a file. */
	bool quick = variant->backing == MEMFD;
	int rounds = quick ? SHRINK_ROUNDS : 2, pages = quick ? SHRINK_PAGES : SHRINK_PAGES / 8;
	size_t len = pages * self->page;

	for (int round = 0; round < rounds; round++) {
		struct shrinker s = {
			.fd = self->fd, .pages = pages, .page = self->page,
			.class = variant->class,
		};
		pthread_t shrinker, other;

		ASSERT_EQ(ftruncate(self->fd, len), 0);
		s.addr = map_file(variant->class, self->map_fd, len);
		ASSERT_NE(s.addr, MAP_FAILED);
		ASSERT_EQ(enable(self->device, s.addr, len), 0);
		ASSERT_EQ(pthread_create(&other, NULL, access_until_done, &s), 0);
		ASSERT_EQ(pthread_create(&shrinker, NULL, shrink_to_nothing, &s), 0);
		access_until_done(&s);
		ASSERT_EQ(pthread_join(shrinker, NULL), 0);
		ASSERT_EQ(pthread_join(other, NULL), 0);
		EXPECT_EQ(s.signals, 0);
		munmap(s.addr, len);
	}
}

/*
 * On tmpfs with huge=always the first page of the file is allocated as a huge page. Core mm maps
 * all of it, even past EOF, where there is no fault then. Whichever page is touched first, no
 * access raises SIGBUS, and all pages past EOF are zeros.
 */
FIXTURE(huge) {
	MAPPED_FILE;
};

FIXTURE_VARIANT(huge) {
	enum class class;
	bool inside_first;
};

FIXTURE_VARIANT_ADD(huge, private_inside_first) { PRIVATE, true };
FIXTURE_VARIANT_ADD(huge, private_past_first) { PRIVATE, false };
FIXTURE_VARIANT_ADD(huge, shared_read_inside_first) { SHARED_READ, true };
FIXTURE_VARIANT_ADD(huge, shared_read_past_first) { SHARED_READ, false };
FIXTURE_VARIANT_ADD(huge, shared_write_inside_first) { SHARED_WRITE, true };
FIXTURE_VARIANT_ADD(huge, shared_write_past_first) { SHARED_WRITE, false };

/* A file with two pages of content. The mapping is two huge pages long, and aligned to that. */
FIXTURE_SETUP(huge)
{
	char *area = mmap(NULL, 3 * HUGE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	need_class(_metadata, variant->class);
	ASSERT_NE(area, MAP_FAILED);
	set_up_file(_metadata, &self->file, TMPFS_HUGE, 2 * page_size(), 2 * HUGE_PAGE / page_size());
	self->addr = (char *)(((unsigned long)area + HUGE_PAGE - 1) & -HUGE_PAGE);
	ASSERT_EQ(mmap(self->addr, 2 * HUGE_PAGE, class_prot(variant->class),
		       class_flags(variant->class) | MAP_FIXED, self->fd, 0), self->addr);
	if (variant->inside_first)
		ASSERT_EQ(read_byte(self->addr), CONTENT);
}

FIXTURE_TEARDOWN(huge)
{
	tear_down(&self->file);
}

/* The file system does allocate a huge page. Otherwise these tests would show nothing. */
TEST_F(huge, file_has_a_huge_page)
{
	struct stat st;

	ASSERT_EQ(fstat(self->fd, &st), 0);
	EXPECT_EQ(st.st_blocks * 512, HUGE_PAGE);
}

TEST_F(huge, not_opted_in_raises_sigbus_beyond_it)
{
	EXPECT_EQ(read_byte(self->addr + self->page), CONTENT);
	EXPECT_EQ(read_byte(self->addr + HUGE_PAGE), -SIGBUS);
}

TEST_F(huge, past_eof_reads_zero)
{
	int pages = 2 * HUGE_PAGE / self->page;

	ASSERT_EQ(enable(self->device, self->addr, 2 * HUGE_PAGE), 0);
	EXPECT_EQ(pages_of(0, self->addr, 2, pages), pages - 2);
	EXPECT_EQ(pages_of(CONTENT, self->addr, 0, 2), 2);
	/* The same after the first pages have been touched. */
	EXPECT_EQ(pages_of(0, self->addr, 2, pages), pages - 2);
	if (variant->class != SHARED_READ) {
		EXPECT_EQ(write_byte(self->addr + 3 * self->page, 1), 0);
		EXPECT_EQ(write_byte(self->addr + HUGE_PAGE, 2), 0);
		EXPECT_EQ(read_byte(self->addr + 3 * self->page), 1);
		EXPECT_EQ(read_byte(self->addr + HUGE_PAGE), 2);
	}
}

TEST_F(huge, shrunk_file_reads_zero)
{
	int pages = 2 * HUGE_PAGE / self->page;

	ASSERT_EQ(enable(self->device, self->addr, 2 * HUGE_PAGE), 0);
	EXPECT_EQ(read_byte(self->addr + self->page), CONTENT);
	ASSERT_EQ(ftruncate(self->fd, self->page), 0);
	EXPECT_EQ(pages_of(0, self->addr, 1, pages), pages - 1);
	EXPECT_EQ(pages_of(CONTENT, self->addr, 0, 1), 1);
	ASSERT_EQ(ftruncate(self->fd, 0), 0);
	EXPECT_EQ(pages_of(0, self->addr, 0, pages), pages);
}

/* A read-only file system (made by selftests.sh), on which no file can shrink. */
FIXTURE(read_only_fs) {
	MAPPED_FILE;
	struct stat before;
};

FIXTURE_VARIANT(read_only_fs) {
	enum class class;
};

FIXTURE_VARIANT_ADD(read_only_fs, erofs_private) { PRIVATE };
FIXTURE_VARIANT_ADD(read_only_fs, erofs_shared) { SHARED_READ };

FIXTURE_SETUP(read_only_fs)
{
	const char *path = fs_path("erofs/file");

	need(_metadata, "erofs");
	ASSERT_NE(path, NULL);
	set_up_device(_metadata, &self->file);
	self->len = PAGES * self->page;
	self->fd = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_GE(self->fd, 0) TH_LOG("%s: %s", path, strerror(errno));
	ASSERT_EQ(fstat(self->fd, &self->before), 0);
	/* Two pages of "a", and one more byte. */
	ASSERT_EQ(self->before.st_size, (off_t)(2 * self->page + 1));
	set_up_mapping(_metadata, &self->file, variant->class);
}

FIXTURE_TEARDOWN(read_only_fs)
{
	tear_down(&self->file);
}

TEST_F(read_only_fs, past_eof_reads_zero)
{
	size_t size = self->before.st_size;
	struct stat after;

	EXPECT_EQ(read_byte(self->addr + FILE_PAGES * self->page), -SIGBUS);
	ASSERT_EQ(enable(self->device, self->addr, PAGES * self->page), 0);
	EXPECT_EQ(pages_of(0, self->addr, FILE_PAGES, PAGES), PAGES - FILE_PAGES);
	EXPECT_EQ(differs(self->addr, 'a', size), 0);
	EXPECT_EQ(differs(self->addr + size, 0, FILE_PAGES * self->page - size), 0);
	for (int i = 0; i < PAGES; i++)
		EXPECT_EQ(write_byte(self->addr + i * self->page + 1, 1),
			  variant->class == PRIVATE ? 0 : -SIGSEGV);
	ASSERT_EQ(fstat(self->fd, &after), 0);
	EXPECT_EQ(memcmp(&self->before, &after, sizeof(after)), 0);
}

TEST_F(read_only_fs, disable_brings_sigbus_back)
{
	ASSERT_EQ(enable(self->device, self->addr, PAGES * self->page), 0);
	EXPECT_EQ(pages_of(0, self->addr, FILE_PAGES, PAGES), PAGES - FILE_PAGES);
	ASSERT_EQ(disable(self->device, self->addr, PAGES * self->page), 0);
	EXPECT_EQ(read_byte(self->addr + FILE_PAGES * self->page), -SIGBUS);
	EXPECT_EQ(read_byte(self->addr), 'a');
}

TEST_HARNESS_MAIN
