// SPDX-License-Identifier: GPL-2.0-only
/*
 * Faults inside EOF that fail: no space, over quota, an I/O error, poisoned memory. An opted-in
 * mapping gets the same signal as a plain one. Its pages past EOF still get stand-ins. Needs root,
 * and the setup of selftests.sh.
 */

#include "broken_file_systems.h"
#include "fuse_server.h"
#include "mapped_file.h"

/* FILE_PAGES of a file, PAGES of a mapping. */
#define FILE_PAGES	4
#define PAGES		8

/* The signal that an access has raised, or 0, and its si_code. */
struct outcome {
	int signal, code;
	long page;
};

static struct outcome outcome_of(int ret, const char *addr)
{
	struct outcome o = { .signal = ret < 0 ? -ret : 0 };

	if (o.signal) {
		o.code = last_signal.si_code;
		o.page = ((char *)last_signal.si_addr - addr) / (long)page_size();
	}
	return o;
}

FIXTURE(real_error) {
	MAPPED_FILE;
	char *plain, *opted;
};

FIXTURE_VARIANT(real_error) {
	enum class class;
};

FIXTURE_VARIANT_ADD(real_error, private) { PRIVATE };
FIXTURE_VARIANT_ADD(real_error, shared_read) { SHARED_READ };
FIXTURE_VARIANT_ADD(real_error, shared_write) { SHARED_WRITE };

FIXTURE_SETUP(real_error)
{
	if (geteuid())
		SKIP(return, "it takes root to break things");
	need_class(_metadata, variant->class);
	set_up_device(_metadata, &self->file);
	self->len = PAGES * self->page;
	self->plain = MAP_FAILED;
	self->opted = MAP_FAILED;
}

FIXTURE_TEARDOWN(real_error)
{
	munmap(self->plain, self->len);
	munmap(self->opted, self->len);
	tear_down(&self->file);
}

/* Maps self->fd twice, as it is, and opts one of them in. */
#define MAP_TWICE() do {							\
	self->plain = map_file(variant->class, self->fd, self->len);		\
	self->opted = map_file(variant->class, self->fd, self->len);		\
	ASSERT_NE(self->plain, MAP_FAILED);					\
	ASSERT_NE(self->opted, MAP_FAILED);					\
	ASSERT_EQ(enable(self->device, self->opted, self->len), 0);		\
	EXPECT_STAND_INS();							\
} while (0)

#define EXPECT_STAND_INS() do {							\
	EXPECT_EQ(read_byte(self->plain + self->len - 1), -SIGBUS);		\
	EXPECT_EQ(pages_of(0, self->opted, FILE_PAGES, PAGES), PAGES - FILE_PAGES);	\
} while (0)

/* One access to a page of both mappings, and what it has to raise. */
#define EXPECT_OUTCOME(access, index, sig, si_code) do {			\
	char *addr = self->plain;						\
	struct outcome plain = outcome_of(access(addr, index), addr), opted;	\
										\
	addr = self->opted;							\
	opted = outcome_of(access(addr, index), addr);				\
	EXPECT_EQ(plain.signal, sig);						\
	EXPECT_EQ(opted.signal, sig);						\
	EXPECT_EQ(plain.code, sig ? si_code : 0);				\
	EXPECT_EQ(opted.code, sig ? si_code : 0);				\
	EXPECT_EQ(plain.page, sig ? index : 0);					\
	EXPECT_EQ(opted.page, sig ? index : 0);					\
	EXPECT_STAND_INS();							\
} while (0)

static int read_of(char *addr, int index)
{
	return read_byte(addr + index * page_size());
}

static int write_of(char *addr, int index)
{
	return write_byte(addr + index * page_size(), 1);
}

#define IS_WRITABLE()	(variant->class != SHARED_READ)

/* On tmpfs an access to a hole allocates a page, even if it only reads. */
static void full_tmpfs(struct __test_metadata *_metadata, FIXTURE_DATA(real_error) * self,
		       const FIXTURE_VARIANT(real_error) * variant, enum backing on, int error)
{
	int rest;

	need_backing(_metadata, on);
	self->fd = new_file(on);
	ASSERT_GE(self->fd, 0);
	ASSERT_EQ(ftruncate(self->fd, FILE_PAGES * self->page), 0);
	ASSERT_EQ(fill(self->fd, CONTENT, 0, self->page), 0);
	rest = new_file(on);
	ASSERT_GE(rest, 0);
	ASSERT_EQ(fill_up(rest), error);
	MAP_TWICE();
	EXPECT_OUTCOME(read_of, 1, SIGBUS, BUS_ADRERR);
	if (IS_WRITABLE())
		EXPECT_OUTCOME(write_of, 2, SIGBUS, BUS_ADRERR);
	EXPECT_OUTCOME(read_of, 0, 0, 0);

	/* There is space again. */
	close(rest);
	EXPECT_OUTCOME(read_of, 1, 0, 0);
	if (IS_WRITABLE())
		EXPECT_OUTCOME(write_of, 2, 0, 0);
}

/* On a disk file system a write to a hole allocates a block, but only in a shared mapping. */
static void full_disk(struct __test_metadata *_metadata, FIXTURE_DATA(real_error) * self,
		      const FIXTURE_VARIANT(real_error) * variant, enum backing on, int error)
{
	int rest, expected = variant->class == SHARED_WRITE ? SIGBUS : 0;

	need_backing(_metadata, on);
	self->fd = new_file(on);
	ASSERT_GE(self->fd, 0);
	ASSERT_EQ(ftruncate(self->fd, FILE_PAGES * self->page), 0);
	ASSERT_EQ(fill(self->fd, CONTENT, 0, self->page), 0);
	ASSERT_EQ(fsync(self->fd), 0);
	rest = new_file(on);
	ASSERT_GE(rest, 0);
	ASSERT_EQ(fill_up(rest), error);
	MAP_TWICE();
	EXPECT_OUTCOME(read_of, 1, 0, 0);
	if (IS_WRITABLE()) {
		/* Read before, and not read before. */
		EXPECT_OUTCOME(write_of, 1, expected, BUS_ADRERR);
		EXPECT_OUTCOME(write_of, 2, expected, BUS_ADRERR);
		EXPECT_OUTCOME(write_of, 0, 0, 0);
	}

	ASSERT_EQ(ftruncate(rest, 0), 0);
	ASSERT_EQ(fsync(rest), 0);
	close(rest);
	if (IS_WRITABLE())
		EXPECT_OUTCOME(write_of, 2, 0, 0);
}

TEST_F(real_error, enospc_tmpfs)
{
	full_tmpfs(_metadata, self, variant, SMALL_TMPFS, -ENOSPC);
}

TEST_F(real_error, enospc_ext4)
{
	full_disk(_metadata, self, variant, SMALL_EXT4, -ENOSPC);
}

TEST_F(real_error, edquot_tmpfs)
{
	ASSERT_EQ(seteuid(NOBODY), 0);
	full_tmpfs(_metadata, self, variant, QUOTA_TMPFS, -EDQUOT);
	ASSERT_EQ(seteuid(0), 0);
}

TEST_F(real_error, edquot_xfs)
{
	need(_metadata, "xfs-quota");
	ASSERT_EQ(seteuid(NOBODY), 0);
	full_disk(_metadata, self, variant, XFS, -EDQUOT);
	ASSERT_EQ(seteuid(0), 0);
}

TEST_F(real_error, eio)
{
	need_backing(_metadata, DM_EXT4);
	self->fd = new_file(DM_EXT4);
	ASSERT_GE(self->fd, 0);
	ASSERT_EQ(fill(self->fd, CONTENT, 0, FILE_PAGES * self->page), 0);
	/* Drop the pages from the page cache now, before fault-around can map them. */
	ASSERT_TRUE(make_all_cold(self->fd));
	MAP_TWICE();
	ASSERT_EQ(disk_fails(true), 0);
	EXPECT_OUTCOME(read_of, 0, SIGBUS, BUS_ADRERR);
	EXPECT_OUTCOME(read_of, 2, SIGBUS, BUS_ADRERR);
	EXPECT_OUTCOME(read_of, 2, SIGBUS, BUS_ADRERR);
	if (IS_WRITABLE())
		EXPECT_OUTCOME(write_of, 3, SIGBUS, BUS_ADRERR);
	ASSERT_EQ(disk_fails(false), 0);
	EXPECT_OUTCOME(read_of, 2, 0, 0);
	EXPECT_EQ(read_of(self->opted, 2), CONTENT);
}

TEST_F(real_error, memory_failure)
{
	need(_metadata, "hwpoison");
	self->fd = new_file(MEMFD);
	ASSERT_GE(self->fd, 0);
	ASSERT_EQ(fill(self->fd, CONTENT, 0, FILE_PAGES * self->page), 0);
	MAP_TWICE();
	for (int i = 0; i < FILE_PAGES; i++) {
		EXPECT_EQ(read_of(self->plain, i), CONTENT);
		EXPECT_EQ(read_of(self->opted, i), CONTENT);
	}
	/* Poison a page that both mappings have mapped, and one that neither has any more. */
	EXPECT_EQ(in_child(poison, self->opted + self->page), 128 + SIGBUS);
	EXPECT_EQ(in_child(poison, self->plain + 2 * self->page), 128 + SIGBUS);
	ASSERT_EQ(madvise(self->plain + 2 * self->page, self->page, MADV_DONTNEED), 0);
	ASSERT_EQ(madvise(self->opted + 2 * self->page, self->page, MADV_DONTNEED), 0);
	for (int i = 1; i <= 2; i++) {
		EXPECT_OUTCOME(read_of, i, SIGBUS, BUS_MCEERR_AR);
		if (IS_WRITABLE())
			EXPECT_OUTCOME(write_of, i, SIGBUS, BUS_MCEERR_AR);
	}
	EXPECT_OUTCOME(read_of, 0, 0, 0);
	EXPECT_OUTCOME(read_of, 3, 0, 0);
}

/*
 * However often somebody appends to the file, an access that fails is not tried again for ever. The
 * server takes its time, so that each read meets a growth.
 */
TEST(fails_while_somebody_appends)
{
	int device = open_device(), fd;
	size_t page = page_size(), len = 2 * page;
	char directory[] = "/tmp/signalled.XXXXXX", path[PATH_MAX], *addr;
	struct fuse_server *server;
	pid_t pid, other;
	struct stat st;
	int reads;

	if (geteuid())
		SKIP(return, "mounting takes root");
	catch_signals();
	ASSERT_GE(device, 0);
	server = set_up_fuse(_metadata, (struct fuse_server){
		.size = page, .refused = getpid(), .keeps_writes_back = true,
	}, directory, path, &pid);
	fd = open(path, O_RDWR | O_CLOEXEC);
	EXPECT_GE(fd, 0) TH_LOG("%s", strerror(errno));
	addr = map_file(SHARED_READ, fd, len);
	EXPECT_NE(addr, MAP_FAILED);
	EXPECT_EQ(read_byte(addr), -SIGBUS);
	reads = server->reads;
	EXPECT_GT(reads, 0);

	EXPECT_EQ(enable(device, addr, len), 0);
	other = fork();
	if (!other) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (off_t pos = page; pwrite(fd, "a", 1, pos) == 1; pos++)
			usleep(1000);
		_exit(1);
	}
	EXPECT_GT(other, 0);
	server->reads = 0;
	EXPECT_EQ(read_byte(addr), -SIGBUS);
	/* The module reads the page once. Each reading may take as many reads as a native access. */
	EXPECT_LE(server->reads, 2 * reads);
	EXPECT_EQ(fstat(fd, &st), 0);
	EXPECT_GT(st.st_size, (off_t)page);
	if (other > 0) {
		EXPECT_EQ(waitpid(other, NULL, WNOHANG), 0);
		kill(other, SIGKILL);
		EXPECT_EQ(waitpid(other, NULL, 0), other);
	}
	munmap(addr, len);
	EXPECT_EQ(kill(pid, SIGKILL), 0);
	EXPECT_EQ(waitpid(pid, NULL, 0), pid);
	close(fd);
	EXPECT_EQ(umount2(directory, MNT_DETACH), 0);
	rmdir(directory);
	close(device);
}

TEST_HARNESS_MAIN
