// SPDX-License-Identifier: GPL-2.0-only
/* What an opted-in mapping shows, for each class of mapping on each file system. */

#include "nosigbus_test.h"

#include <pthread.h>
#include <stdatomic.h>

/*
 * The file has two full pages and TAIL bytes of a third; the mapping has three
 * pages more, past EOF.
 */
#define FILE_PAGES	3
#define PAGES		6
#define TAIL		100
#define CONTENT		0x5a

FIXTURE(mapping) {
	size_t page, size, len;
	int device, fd;
	char *addr;
};

FIXTURE_VARIANT(mapping) {
	enum backing backing;
	int sharing;
	int prot;
	bool open_read_only;
};

#define VARIANT(name, fs, share, protection, read_only)		\
	FIXTURE_VARIANT_ADD(mapping, name) {			\
		.backing = fs, .sharing = share,		\
		.prot = protection, .open_read_only = read_only,	\
	}

VARIANT(memfd_shared, MEMFD, MAP_SHARED, PROT_READ, false);
VARIANT(memfd_private, MEMFD, MAP_PRIVATE, PROT_READ | PROT_WRITE, false);
VARIANT(memfd_shared_o_rdonly, MEMFD, MAP_SHARED, PROT_READ, true);
VARIANT(memfd_private_o_rdonly, MEMFD, MAP_PRIVATE, PROT_READ | PROT_WRITE, true);
VARIANT(tmpfs_shared, TMPFS, MAP_SHARED, PROT_READ, false);
VARIANT(tmpfs_private, TMPFS, MAP_PRIVATE, PROT_READ | PROT_WRITE, false);
VARIANT(ext4_shared, EXT4, MAP_SHARED, PROT_READ, false);
VARIANT(ext4_private, EXT4, MAP_PRIVATE, PROT_READ | PROT_WRITE, false);

FIXTURE_SETUP(mapping)
{
	char path[64];
	char *content;
	int map_fd;

	catch_signals();
	self->page = page_size();
	self->size = (FILE_PAGES - 1) * self->page + TAIL;
	self->len = PAGES * self->page;

	self->device = open_device();
	ASSERT_GE(self->device, 0) TH_LOG("/dev/nosigbus: %s", strerror(errno));
	self->fd = new_file(variant->backing);
	ASSERT_GE(self->fd, 0) TH_LOG("new file: %s", strerror(errno));

	content = malloc(self->size);
	ASSERT_NE(content, NULL);
	memset(content, CONTENT, self->size);
	ASSERT_EQ(pwrite(self->fd, content, self->size, 0), (ssize_t)self->size);
	free(content);

	map_fd = self->fd;
	if (variant->open_read_only) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", self->fd);
		map_fd = open(path, O_RDONLY | O_CLOEXEC);
		ASSERT_GE(map_fd, 0);
	}
	self->addr = mmap(NULL, self->len, variant->prot, variant->sharing, map_fd, 0);
	ASSERT_NE(self->addr, MAP_FAILED);
	if (map_fd != self->fd)
		close(map_fd);
}

FIXTURE_TEARDOWN(mapping)
{
	munmap(self->addr, self->len);
	close(self->fd);
	close(self->device);
}

#define IS_PRIVATE() (variant->sharing == MAP_PRIVATE)

/* How many of the mapping's pages, from a given one on, read as zeros from end to end. */
static int zero_pages(const char *addr, size_t page, int first, int end)
{
	int zeros = 0;

	for (int i = first; i < end; i++)
		zeros += !differs(addr + i * page, 0, page);
	return zeros;
}

TEST_F(mapping, not_opted_in_raises_sigbus)
{
	EXPECT_EQ(read_byte(self->addr), CONTENT);
	for (int i = FILE_PAGES; i < PAGES; i++)
		EXPECT_EQ(read_byte(self->addr + i * self->page), -SIGBUS);
}

TEST_F(mapping, past_eof_reads_zero)
{
	ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
	EXPECT_EQ(zero_pages(self->addr, self->page, FILE_PAGES, PAGES), PAGES - FILE_PAGES);
}

TEST_F(mapping, inside_reads_the_file)
{
	ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
	EXPECT_EQ(differs(self->addr, CONTENT, self->size), 0);
	/* The page that holds EOF is the file's: zeros after EOF. */
	EXPECT_EQ(differs(self->addr + self->size, 0, FILE_PAGES * self->page - self->size), 0);

	/* And it stays the file's. */
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
	if (IS_PRIVATE())
		ASSERT_EQ(write_byte(self->addr + 1, 1), 0);
	ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
	EXPECT_EQ(read_byte(self->addr), CONTENT);
	EXPECT_EQ(read_byte(self->addr + 1), IS_PRIVATE() ? 1 : CONTENT);
}

TEST_F(mapping, shrunk_file_reads_zero)
{
	ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
	EXPECT_EQ(differs(self->addr, CONTENT, self->size), 0);

	ASSERT_EQ(ftruncate(self->fd, self->page), 0);
	EXPECT_EQ(differs(self->addr, CONTENT, self->page), 0);
	EXPECT_EQ(zero_pages(self->addr, self->page, 1, PAGES), PAGES - 1);

	ASSERT_EQ(ftruncate(self->fd, 0), 0);
	EXPECT_EQ(zero_pages(self->addr, self->page, 0, PAGES), PAGES);
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
	if (!IS_PRIVATE()) {
		EXPECT_EQ(write_byte(past, 1), -SIGSEGV);
		EXPECT_EQ(mprotect(self->addr, self->len, PROT_READ | PROT_WRITE), -1);
		EXPECT_EQ(errno, EACCES);
		EXPECT_EQ(read_byte(past), 0);
		return;
	}

	/* Write first; read first, then write. */
	EXPECT_EQ(write_byte(past + 7, 1), 0);
	EXPECT_EQ(read_byte(past + self->page), 0);
	EXPECT_EQ(write_byte(past + self->page + 7, 2), 0);
	EXPECT_EQ(differs(past, 0, 7), 0);
	EXPECT_EQ(read_byte(past + 7), 1);
	EXPECT_EQ(differs(past + 8, 0, self->page - 8 + 7), 0);
	EXPECT_EQ(read_byte(past + self->page + 7), 2);

	/* They are the mapping's own: neither size changes nor growth concern them. */
	ASSERT_EQ(fstat(self->fd, &st), 0);
	EXPECT_EQ(st.st_size, (off_t)self->size);
	ASSERT_EQ(ftruncate(self->fd, self->len), 0);
	EXPECT_EQ(read_byte(past + 7), 1);
	EXPECT_EQ(differs(past + 8, 0, self->page - 8), 0);
}

TEST_F(mapping, file_is_not_touched)
{
	struct stat before, after;

	ASSERT_EQ(fstat(self->fd, &before), 0);
	ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
	EXPECT_EQ(zero_pages(self->addr, self->page, FILE_PAGES, PAGES), PAGES - FILE_PAGES);
	if (IS_PRIVATE())
		EXPECT_EQ(write_byte(self->addr + FILE_PAGES * self->page, 1), 0);
	ASSERT_EQ(fstat(self->fd, &after), 0);
	EXPECT_EQ(before.st_size, after.st_size);
	EXPECT_EQ(before.st_blocks, after.st_blocks);
	EXPECT_EQ(before.st_mtim.tv_sec, after.st_mtim.tv_sec);
	EXPECT_EQ(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
	EXPECT_EQ(before.st_ctim.tv_sec, after.st_ctim.tv_sec);
	EXPECT_EQ(before.st_ctim.tv_nsec, after.st_ctim.tv_nsec);
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

	/* Across EOF, and into the mapping. */
	EXPECT_EQ(write(pipe_fd[1], past - 1, 2), 2);
	if (IS_PRIVATE()) {
		EXPECT_EQ(read(pipe_fd[0], past, 2), 2);
	} else {
		EXPECT_EQ(read(pipe_fd[0], past, 2), -1);
		EXPECT_EQ(errno, EFAULT);
	}
	close(pipe_fd[0]);
	close(pipe_fd[1]);
	free(got);
}

struct child_arg {
	char *addr;
	size_t page;
	bool write;
};

/* Exits 0 if the pages past EOF are zeros to the child and to a child of its own. */
static int child_of_child(void *arg)
{
	const struct child_arg *a = arg;

	return zero_pages(a->addr, a->page, FILE_PAGES, PAGES) != PAGES - FILE_PAGES;
}

static int child(void *arg)
{
	const struct child_arg *a = arg;
	char *past = a->addr + FILE_PAGES * a->page;

	if (child_of_child(arg))
		return 1;
	if (in_child(child_of_child, arg))
		return 2;
	if (a->write && (write_byte(past, 9) || read_byte(past) != 9))
		return 3;
	return munmap(a->addr, PAGES * a->page) ? 4 : 0;
}

TEST_F(mapping, fork_copies_are_opted_in)
{
	struct child_arg arg = { self->addr, self->page, IS_PRIVATE() };

	ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
	/* Before and after the parent has stand-ins mapped. */
	EXPECT_EQ(in_child(child, &arg), 0);
	EXPECT_EQ(zero_pages(self->addr, self->page, FILE_PAGES, PAGES), PAGES - FILE_PAGES);
	EXPECT_EQ(in_child(child, &arg), 0);
	/* What the child wrote is its own, and its munmap too. */
	EXPECT_EQ(zero_pages(self->addr, self->page, FILE_PAGES, PAGES), PAGES - FILE_PAGES);
}

TEST_F(mapping, munmap_ends_it)
{
	ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
	EXPECT_EQ(read_byte(self->addr + FILE_PAGES * self->page), 0);
	ASSERT_EQ(munmap(self->addr, self->len), 0);
	EXPECT_EQ(read_byte(self->addr + FILE_PAGES * self->page), -SIGSEGV);

	/* A mapping in the same place is a new one. */
	ASSERT_EQ(mmap(self->addr, self->len, PROT_READ, variant->sharing | MAP_FIXED, self->fd, 0),
		  self->addr);
	EXPECT_EQ(read_byte(self->addr + FILE_PAGES * self->page), -SIGBUS);
}

TEST_F(mapping, partial_munmap)
{
	ASSERT_EQ(ftruncate(self->fd, 0), 0);
	ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
	EXPECT_EQ(read_byte(self->addr), 0);

	/* The middle, the head, the tail: pages 1, 4 are left. */
	ASSERT_EQ(munmap(self->addr + 2 * self->page, 2 * self->page), 0);
	EXPECT_EQ(zero_pages(self->addr, self->page, 0, 2), 2);
	EXPECT_EQ(zero_pages(self->addr, self->page, 4, 6), 2);
	ASSERT_EQ(munmap(self->addr, self->page), 0);
	ASSERT_EQ(munmap(self->addr + 5 * self->page, self->page), 0);
	for (int i = 0; i < PAGES; i++)
		EXPECT_EQ(read_byte(self->addr + i * self->page),
			  i == 1 || i == 4 ? 0 : -SIGSEGV);
}

TEST_F(mapping, mprotect_splits)
{
	char *past = self->addr + FILE_PAGES * self->page;

	ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
	ASSERT_EQ(mprotect(past, self->page, PROT_NONE), 0);
	EXPECT_EQ(read_byte(past), -SIGSEGV);
	EXPECT_EQ(read_byte(past + self->page), 0);
	ASSERT_EQ(mprotect(past, self->page, PROT_READ), 0);
	EXPECT_EQ(zero_pages(self->addr, self->page, FILE_PAGES, PAGES), PAGES - FILE_PAGES);
}

TEST_F(mapping, mremap_moves_shrinks_and_grows)
{
	char *to = mmap(NULL, 2 * self->len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *grown;

	ASSERT_NE(to, MAP_FAILED);
	ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
	EXPECT_EQ(read_byte(self->addr + (PAGES - 1) * self->page), 0);

	ASSERT_EQ(mremap(self->addr, self->len, self->len, MREMAP_MAYMOVE | MREMAP_FIXED, to), to);
	EXPECT_EQ(read_byte(self->addr), -SIGSEGV);
	EXPECT_EQ(differs(to, CONTENT, self->size), 0);
	EXPECT_EQ(zero_pages(to, self->page, FILE_PAGES, PAGES), PAGES - FILE_PAGES);

	ASSERT_EQ(mremap(to, self->len, self->len - self->page, 0), to);
	EXPECT_EQ(zero_pages(to, self->page, FILE_PAGES, PAGES - 1), PAGES - 1 - FILE_PAGES);

	grown = mremap(to, self->len - self->page, 2 * self->len, MREMAP_MAYMOVE);
	ASSERT_NE(grown, MAP_FAILED);
	EXPECT_EQ(differs(grown, CONTENT, self->size), 0);
	EXPECT_EQ(zero_pages(grown, self->page, FILE_PAGES, 2 * PAGES), 2 * PAGES - FILE_PAGES);
	munmap(grown, 2 * self->len);
}

/*
 * Where there is room behind the mapping, core mm grows it in place, by a merge,
 * which VM_MIXEDMAP forbids: a difference from a plain mapping (design.rst).
 */
TEST_F(mapping, mremap_does_not_grow_in_place)
{
	char *room = mmap(NULL, 4 * self->len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *to;

	ASSERT_NE(room, MAP_FAILED);
	ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
	ASSERT_EQ(mremap(self->addr, self->len, self->len, MREMAP_MAYMOVE | MREMAP_FIXED, room),
		  room);
	ASSERT_EQ(munmap(room + self->len, 3 * self->len), 0);
	EXPECT_EQ(mremap(room, self->len, 2 * self->len, MREMAP_MAYMOVE), MAP_FAILED);
	EXPECT_EQ(errno, ENOMEM);
	EXPECT_EQ(zero_pages(room, self->page, FILE_PAGES, PAGES), PAGES - FILE_PAGES);

	/* To a given place it goes. */
	to = mmap(NULL, 2 * self->len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(to, MAP_FAILED);
	ASSERT_EQ(mremap(room, self->len, 2 * self->len, MREMAP_MAYMOVE | MREMAP_FIXED, to), to);
	EXPECT_EQ(zero_pages(to, self->page, FILE_PAGES, 2 * PAGES), 2 * PAGES - FILE_PAGES);
	munmap(to, 2 * self->len);
}

TEST_F(mapping, mremap_of_size_0_duplicates)
{
	char *copy;

	ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
	copy = mremap(self->addr, 0, self->len, MREMAP_MAYMOVE);
	if (IS_PRIVATE()) {
		/* As for any private mapping. */
		EXPECT_EQ(copy, MAP_FAILED);
		EXPECT_EQ(errno, EINVAL);
		return;
	}
	ASSERT_NE(copy, MAP_FAILED);
	EXPECT_EQ(zero_pages(copy, self->page, FILE_PAGES, PAGES), PAGES - FILE_PAGES);
	EXPECT_EQ(zero_pages(self->addr, self->page, FILE_PAGES, PAGES), PAGES - FILE_PAGES);
	ASSERT_EQ(munmap(copy, self->len), 0);
	EXPECT_EQ(zero_pages(self->addr, self->page, FILE_PAGES, PAGES), PAGES - FILE_PAGES);
}

/* A mapping of the same file right beside an opted-in one must stay plain. */
TEST_F(mapping, neighbours_are_not_opted_in)
{
	size_t len = 3 * self->page;
	char *area = mmap(NULL, 3 * len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int flags = variant->sharing | MAP_FIXED;

	ASSERT_NE(area, MAP_FAILED);
	ASSERT_EQ(ftruncate(self->fd, 0), 0);
	ASSERT_EQ(mmap(area + len, len, PROT_READ, flags, self->fd, len), area + len);
	ASSERT_EQ(enable(self->device, area + len, len), 0);
	ASSERT_EQ(mmap(area, len, PROT_READ, flags, self->fd, 0), area);
	ASSERT_EQ(mmap(area + 2 * len, len, PROT_READ, flags, self->fd, 2 * len), area + 2 * len);
	EXPECT_EQ(read_byte(area + len - 1), -SIGBUS);
	EXPECT_EQ(zero_pages(area + len, self->page, 0, 3), 3);
	EXPECT_EQ(read_byte(area + 2 * len), -SIGBUS);
	munmap(area, 3 * len);
}

#define SHRINK_ROUNDS	20
#define SHRINK_PAGES	64

struct shrinker {
	int fd;
	size_t page;
	atomic_bool done;
};

static void *shrink_to_nothing(void *arg)
{
	struct shrinker *s = arg;

	for (long pages = SHRINK_PAGES; pages >= 0; pages--)
		if (ftruncate(s->fd, pages * s->page))
			abort();
	atomic_store(&s->done, true);
	return NULL;
}

/* No access may raise a signal while the file shrinks under it, page by page. */
TEST_F(mapping, shrinks_while_it_is_read)
{
	size_t len = SHRINK_PAGES * self->page;
	long accesses = 0;

	for (int round = 0; round < SHRINK_ROUNDS; round++) {
		struct shrinker s = { .fd = self->fd, .page = self->page };
		pthread_t thread;
		char *addr;

		ASSERT_EQ(ftruncate(self->fd, len), 0);
		addr = mmap(NULL, len, variant->prot, variant->sharing, self->fd, 0);
		ASSERT_NE(addr, MAP_FAILED);
		ASSERT_EQ(enable(self->device, addr, len), 0);
		ASSERT_EQ(pthread_create(&thread, NULL, shrink_to_nothing, &s), 0);
		do {
			for (int i = SHRINK_PAGES - 1; i >= 0; i--, accesses++)
				ASSERT_GE(read_byte(addr + i * self->page), 0);
		} while (!atomic_load(&s.done));
		ASSERT_EQ(pthread_join(thread, NULL), 0);
		munmap(addr, len);
	}
	EXPECT_GE(accesses, SHRINK_ROUNDS * SHRINK_PAGES);
}

TEST_HARNESS_MAIN
