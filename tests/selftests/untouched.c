// SPDX-License-Identifier: GPL-2.0-only
/*
 * A stand-in never changes the file, and does not keep other processes from anything. Inside EOF an
 * opted-in mapping writes to its file exactly as a plain one does.
 */

#include "mapped_file.h"

/* Two full pages and TAIL bytes of a third; three pages more are mapped. */
#define FILE_PAGES	3
#define PAGES		6
#define TAIL		100

FIXTURE(untouched) {
	MAPPED_FILE;
};

FIXTURE_VARIANT(untouched) {
	enum backing backing;
	enum class class;
};

FIXTURE_VARIANT_ADD(untouched, memfd_private) { MEMFD, PRIVATE };
FIXTURE_VARIANT_ADD(untouched, memfd_shared_read) { MEMFD, SHARED_READ };
FIXTURE_VARIANT_ADD(untouched, memfd_shared_write) { MEMFD, SHARED_WRITE };
FIXTURE_VARIANT_ADD(untouched, tmpfs_private) { TMPFS, PRIVATE };
FIXTURE_VARIANT_ADD(untouched, tmpfs_shared_read) { TMPFS, SHARED_READ };
FIXTURE_VARIANT_ADD(untouched, tmpfs_shared_write) { TMPFS, SHARED_WRITE };
FIXTURE_VARIANT_ADD(untouched, ext4_private) { EXT4, PRIVATE };
FIXTURE_VARIANT_ADD(untouched, ext4_shared_read) { EXT4, SHARED_READ };
FIXTURE_VARIANT_ADD(untouched, ext4_shared_write) { EXT4, SHARED_WRITE };
FIXTURE_VARIANT_ADD(untouched, xfs_private) { XFS, PRIVATE };
FIXTURE_VARIANT_ADD(untouched, xfs_shared_read) { XFS, SHARED_READ };
FIXTURE_VARIANT_ADD(untouched, xfs_shared_write) { XFS, SHARED_WRITE };
FIXTURE_VARIANT_ADD(untouched, btrfs_private) { BTRFS, PRIVATE };
FIXTURE_VARIANT_ADD(untouched, btrfs_shared_read) { BTRFS, SHARED_READ };
FIXTURE_VARIANT_ADD(untouched, btrfs_shared_write) { BTRFS, SHARED_WRITE };
FIXTURE_VARIANT_ADD(untouched, overlay_private) { OVERLAY, PRIVATE };
FIXTURE_VARIANT_ADD(untouched, overlay_shared_read) { OVERLAY, SHARED_READ };
FIXTURE_VARIANT_ADD(untouched, overlay_shared_write) { OVERLAY, SHARED_WRITE };
FIXTURE_VARIANT_ADD(untouched, p9_private) { P9, PRIVATE };
FIXTURE_VARIANT_ADD(untouched, p9_shared_read) { P9, SHARED_READ };
FIXTURE_VARIANT_ADD(untouched, p9_shared_write) { P9, SHARED_WRITE };

FIXTURE_SETUP(untouched)
{
	set_up_named_file(_metadata, &self->file, variant->backing,
			  (FILE_PAGES - 1) * page_size() + TAIL, PAGES);
	ASSERT_EQ(fsync(self->fd), 0);
	set_up_opted_in(_metadata, &self->file, variant->class);
}

FIXTURE_TEARDOWN(untouched)
{
	tear_down(&self->file);
}

#define IS_WRITABLE()	(variant->class != SHARED_READ)

/* Reads all stand-ins, and writes to them if the class allows it. */
#define USE_STAND_INS() do {							\
	EXPECT_EQ(pages_of(0, self->addr, FILE_PAGES, PAGES), PAGES - FILE_PAGES);	\
	for (int i = FILE_PAGES; i < PAGES; i++)				\
		EXPECT_EQ(write_byte(self->addr + i * self->page, 1),		\
			  IS_WRITABLE() ? 0 : -SIGSEGV);			\
} while (0)

static bool same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

#define EXPECT_SAME_STAT(a, b) do {				\
	EXPECT_EQ((a).st_size, (b).st_size);			\
	EXPECT_EQ((a).st_blocks, (b).st_blocks);		\
	EXPECT_TRUE(same_time((a).st_mtim, (b).st_mtim));	\
	EXPECT_TRUE(same_time((a).st_ctim, (b).st_ctim));	\
	EXPECT_TRUE(same_time((a).st_atim, (b).st_atim));	\
} while (0)

TEST_F(untouched, stat_stays_the_same)
{
	struct stat before, used, synced, unmapped;

	ASSERT_EQ(fstat(self->fd, &before), 0);
	/* File times come from a coarse clock. Wait for its next tick. */
	usleep(20000);
	USE_STAND_INS();
	ASSERT_EQ(fstat(self->fd, &used), 0);
	EXPECT_SAME_STAT(before, used);
	ASSERT_EQ(msync(self->addr, self->len, MS_SYNC), 0);
	ASSERT_EQ(fsync(self->fd), 0);
	ASSERT_EQ(fstat(self->fd, &synced), 0);
	EXPECT_SAME_STAT(before, synced);
	ASSERT_EQ(munmap(self->addr, self->len), 0);
	ASSERT_EQ(fsync(self->fd), 0);
	ASSERT_EQ(fstat(self->fd, &unmapped), 0);
	EXPECT_SAME_STAT(before, unmapped);
}

TEST_F(untouched, content_stays_the_same)
{
	char *got = malloc(self->len), *plain = map_file(SHARED_READ, self->fd, self->len);
	int fd = open_again(variant->backing, self->fd, O_RDONLY);

	ASSERT_NE(got, NULL);
	ASSERT_NE(plain, MAP_FAILED);
	ASSERT_GE(fd, 0);
	USE_STAND_INS();
	ASSERT_EQ(pread(fd, got, self->len, 0), (ssize_t)self->size);
	EXPECT_EQ(differs(got, CONTENT, self->size), 0);
	EXPECT_EQ(differs(plain, CONTENT, self->size), 0);
	EXPECT_EQ(differs(plain + self->size, 0, FILE_PAGES * self->page - self->size), 0);
	EXPECT_EQ(read_byte(plain + FILE_PAGES * self->page), -SIGBUS);

	/* The content of stand-ins does not show up when the file grows. */
	ASSERT_EQ(ftruncate(self->fd, self->len), 0);
	ASSERT_EQ(pread(fd, got, self->len, 0), (ssize_t)self->len);
	EXPECT_EQ(differs(got, CONTENT, self->size), 0);
	EXPECT_EQ(differs(got + self->size, 0, self->len - self->size), 0);
	EXPECT_EQ(differs(plain + self->size, 0, self->len - self->size), 0);
	munmap(plain, self->len);
	close(fd);
	free(got);
}

/* Other opens can resize, rename and unlink the file as if it were not mapped. */
TEST_F(untouched, others_do_as_they_like)
{
	struct stat st;
	char *other;
	int fd;

	USE_STAND_INS();
	ASSERT_EQ(ftruncate(self->fd, self->page), 0);
	ASSERT_EQ(ftruncate(self->fd, 2 * self->page), 0);
	ASSERT_EQ(fill(self->fd, CONTENT, 0, self->size), 0);
	if (!self->path) {
		/* A memfd has no name, but can be opened once more. */
		fd = open_again(variant->backing, self->fd, O_RDWR | O_TRUNC);
		ASSERT_GE(fd, 0);
		close(fd);
		ASSERT_EQ(fstat(self->fd, &st), 0);
		EXPECT_EQ(st.st_size, 0);
		return;
	}
	ASSERT_GT(asprintf(&other, "%s-renamed", self->path), 0);
	EXPECT_EQ(rename(self->path, other), 0);
	EXPECT_EQ(truncate(other, 1), 0);
	fd = open(other, O_RDWR | O_TRUNC | O_CLOEXEC);
	EXPECT_GE(fd, 0);
	ASSERT_EQ(fstat(fd, &st), 0);
	EXPECT_EQ(st.st_size, 0);
	EXPECT_EQ(pages_of(0, self->addr + self->page, 0, 2), 2);
	EXPECT_EQ(unlink(other), 0);
	EXPECT_NE(access(other, F_OK), 0);
	close(fd);
	free(other);
}

/* Adds seals to a memfd that has such a mapping: 0, or minus errno. */
static int seal_mapped(struct __test_metadata *_metadata, enum class class, int seals, bool opt_in)
{
	int fd = new_file(MEMFD), device = open_device(), ret;
	size_t len = 2 * page_size();
	char *addr;

	ASSERT_GE(fd, 0);
	ASSERT_EQ(ftruncate(fd, page_size()), 0);
	addr = map_file(class, fd, len);
	ASSERT_NE(addr, MAP_FAILED);
	if (opt_in) {
		ASSERT_EQ(enable(device, addr, len), 0);
		EXPECT_EQ(pages_of(0, addr, 1, 2), 1);
		if (class != SHARED_READ)
			EXPECT_EQ(write_byte(addr + page_size(), 1), 0);
	}
	ret = fcntl(fd, F_ADD_SEALS, seals) ? -errno : 0;
	if (opt_in) {
		/* The seal does not apply to stand-ins, which are not part of the file. */
		EXPECT_EQ(read_byte(addr + page_size()), class != SHARED_READ);
		if (class != SHARED_READ)
			EXPECT_EQ(write_byte(addr + page_size(), 1), 0);
	}
	munmap(addr, len);
	if (ret == -EBUSY)
		EXPECT_EQ(fcntl(fd, F_ADD_SEALS, seals), 0);
	close(fd);
	close(device);
	return ret;
}

TEST(seals)
{
	const int seals[] = { F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE, F_SEAL_FUTURE_WRITE };

	catch_signals();
	for (size_t i = 0; i < ARRAY_SIZE(seals); i++)
		for (enum class class = PRIVATE; class <= LAST_CLASS; class++) {
			int plain = seal_mapped(_metadata, class, seals[i], false);
			int opted = seal_mapped(_metadata, class, seals[i], true);

			/* Opted in, it cannot become writable, and does not prevent the seal. */
			if (class == SHARED_READ && seals[i] == F_SEAL_WRITE) {
				EXPECT_EQ(plain, -EBUSY);
				EXPECT_EQ(opted, 0);
				continue;
			}
			EXPECT_EQ(opted, plain) TH_LOG("seal %#x class %d", seals[i], class);
			EXPECT_EQ(plain, class == SHARED_WRITE && seals[i] == F_SEAL_WRITE ?
				  -EBUSY : 0);
		}
}

static int execute(void *path)
{
	execl(path, path, NULL);
	return errno;
}

/* Maps a program file. The results of executing it, and of opening it for writing. */
static void run_mapped(struct __test_metadata *_metadata, enum class class, bool opt_in,
		       int results[3])
{
	int device = open_device(), fd;
	size_t len;
	struct stat st;
	char *path, *addr, *bytes;

	fd = open("/bin/true", O_RDONLY | O_CLOEXEC);
	ASSERT_GE(fd, 0);
	ASSERT_EQ(fstat(fd, &st), 0);
	bytes = malloc(st.st_size);
	ASSERT_NE(bytes, NULL);
	ASSERT_EQ(read(fd, bytes, st.st_size), st.st_size);
	close(fd);
	fd = new_named_file(EXT4, &path);
	ASSERT_GE(fd, 0);
	ASSERT_EQ(write(fd, bytes, st.st_size), st.st_size);
	ASSERT_EQ(fchmod(fd, 0755), 0);
	len = (st.st_size / page_size() + 3) * page_size();
	free(bytes);

	/* The file is opened for writing, mapped, and closed. */
	addr = map_file(class, fd, len);
	ASSERT_NE(addr, MAP_FAILED);
	close(fd);
	if (opt_in) {
		ASSERT_EQ(enable(device, addr, len), 0);
		EXPECT_EQ(pages_of(0, addr + len - page_size(), 0, 1), 1);
	}
	results[0] = in_child(execute, path);
	munmap(addr, len);

	/* The file is opened read-only and mapped: it can be executed, and opened for writing. */
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_GE(fd, 0);
	addr = map_file(class == SHARED_WRITE ? SHARED_READ : class, fd, len);
	ASSERT_NE(addr, MAP_FAILED);
	close(fd);
	if (opt_in) {
		ASSERT_EQ(enable(device, addr, len), 0);
		EXPECT_EQ(pages_of(0, addr + len - page_size(), 0, 1), 1);
	}
	results[1] = in_child(execute, path);
	fd = open(path, O_RDWR | O_CLOEXEC);
	results[2] = fd < 0 ? errno : 0;
	close(fd);
	munmap(addr, len);
	unlink(path);
	free(path);
	close(device);
}

TEST(programs_are_not_busy)
{
	catch_signals();
	for (enum class class = PRIVATE; class <= LAST_CLASS; class++) {
		int plain[3], opted[3];

		run_mapped(_metadata, class, false, plain);
		run_mapped(_metadata, class, true, opted);
		/* The mapping keeps the writable open file alive, which the kernel counts. */
		EXPECT_EQ(plain[0], ETXTBSY);
		EXPECT_EQ(plain[1], 0);
		EXPECT_EQ(plain[2], 0);
		EXPECT_EQ(memcmp(plain, opted, sizeof(plain)), 0);
	}
}

/*
 * Writes inside EOF. The test does the same steps on two files: one through a plain mapping, the
 * other through one that is opted in. It also uses the latter's stand-ins at each step. fstat(2) of
 * both files has to change at the same steps.
 */
FIXTURE(inside) {
	MAPPED_FILE;
};

FIXTURE_VARIANT(inside) {
	enum backing backing;
};

FIXTURE_VARIANT_ADD(inside, memfd) { MEMFD };
FIXTURE_VARIANT_ADD(inside, tmpfs) { TMPFS };
FIXTURE_VARIANT_ADD(inside, ext4) { EXT4 };
FIXTURE_VARIANT_ADD(inside, xfs) { XFS };
FIXTURE_VARIANT_ADD(inside, btrfs) { BTRFS };
FIXTURE_VARIANT_ADD(inside, overlay) { OVERLAY };
FIXTURE_VARIANT_ADD(inside, p9) { P9 };

FIXTURE_SETUP(inside)
{
	need_backing(_metadata, variant->backing);
	need_class(_metadata, SHARED_WRITE);
	set_up_device(_metadata, &self->file);
}

FIXTURE_TEARDOWN(inside)
{
	tear_down(&self->file);
}

/* Page 0 has content. Pages 1 to 4 are holes, and EOF is in page 4. */
#define HOLE_PAGES	5
#define MAPPED_PAGES	8

struct observed {
	char steps[128];
	blkcnt_t blocks;
	off_t size;
	char *content;
};

/* Appends what this step has changed in fstat(): m(time), c(time), a(time), s(ize). */
static void observe(struct observed *o, const char *step, int fd, struct stat *last)
{
	size_t end = strlen(o->steps);
	struct stat now;

	if (fstat(fd, &now))
		return;
	snprintf(o->steps + end, sizeof(o->steps) - end, "%s:%s%s%s%s ", step,
		 same_time(now.st_mtim, last->st_mtim) ? "" : "m",
		 same_time(now.st_ctim, last->st_ctim) ? "" : "c",
		 same_time(now.st_atim, last->st_atim) ? "" : "a",
		 now.st_size == last->st_size ? "" : "s");
	*last = now;
	/* Longer than a tick of the clock that file times are taken from. */
	usleep(20000);
}

static void take_steps(struct __test_metadata *_metadata, enum backing backing, int device,
		       struct observed *o)
{
	size_t page = page_size(), size = (HOLE_PAGES - 1) * page + TAIL, len = MAPPED_PAGES * page;
	int fd = new_file(backing);
	struct stat last;
	char *addr;

	memset(o, 0, sizeof(*o));
	ASSERT_GE(fd, 0);
	ASSERT_EQ(ftruncate(fd, size), 0);
	ASSERT_EQ(fill(fd, CONTENT, 0, page), 0);
	ASSERT_EQ(fsync(fd), 0);
	addr = map_file(SHARED_WRITE, fd, len);
	ASSERT_NE(addr, MAP_FAILED);
	ASSERT_EQ(fstat(fd, &last), 0);
	usleep(20000);

#define STEP(name, access) do {							\
	EXPECT_GE(access, 0) TH_LOG("%s", name);				\
	if (device >= 0)							\
		for (int i = HOLE_PAGES; i < MAPPED_PAGES; i++)			\
			EXPECT_EQ(write_byte(addr + i * page, name[0]), 0);	\
	observe(o, name, fd, &last);						\
} while (0)

	STEP("enable", device < 0 ? 0 : enable(device, addr, len));
	STEP("read", read_byte(addr));
	STEP("write-after-read", write_byte(addr, 1));
	STEP("again", write_byte(addr + 1, 1));
	STEP("hole", write_byte(addr + page, 2));
	STEP("read-hole", read_byte(addr + 2 * page));
	STEP("write-it", write_byte(addr + 2 * page, 3));
	STEP("eof", write_byte(addr + 4 * page + 1, 4));
	STEP("msync", msync(addr, len, MS_SYNC));
	STEP("rewrite", write_byte(addr, 5));
	ASSERT_EQ(munmap(addr, len), 0);
	observe(o, "munmap", fd, &last);
	ASSERT_EQ(fsync(fd), 0);
	observe(o, "fsync", fd, &last);
	o->blocks = last.st_blocks;
	o->size = last.st_size;
	o->content = malloc(size);
	ASSERT_NE(o->content, NULL);
	ASSERT_EQ(pread(fd, o->content, size, 0), (ssize_t)size);
	close(fd);
}

TEST_F(inside, writes_change_the_file_as_ever)
{
	size_t page = page_size(), size = (HOLE_PAGES - 1) * page + TAIL;
	struct observed plain, opted;

	take_steps(_metadata, variant->backing, -1, &plain);
	take_steps(_metadata, variant->backing, self->device, &opted);
	EXPECT_STREQ(plain.steps, opted.steps);
	EXPECT_EQ(plain.blocks, opted.blocks);
	EXPECT_EQ(plain.size, opted.size);
	EXPECT_EQ(plain.size, (off_t)size);
	EXPECT_EQ(memcmp(plain.content, opted.content, size), 0);
	/* The steps have done what their names say. */
	EXPECT_EQ(plain.content[0], 5);
	EXPECT_EQ(plain.content[page], 2);
	EXPECT_EQ(plain.content[2 * page], 3);
	EXPECT_EQ(plain.content[4 * page + 1], 4);
	EXPECT_NE(strstr(plain.steps, " hole:m"), NULL) TH_LOG("%s", plain.steps);
	free(plain.content);
	free(opted.content);
}

TEST_HARNESS_MAIN
