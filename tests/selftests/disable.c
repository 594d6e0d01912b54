// SPDX-License-Identifier: GPL-2.0-only
/* NOSIGBUS_DISABLE makes a mapping plain again, in each respect. Also: its errors. */

#include "commands.h"
#include "mapped_file.h"

/* One page of content, then pages past EOF. */
#define FILE_PAGES	1
#define PAGES		4

FIXTURE(disable) {
	MAPPED_FILE;
};

FIXTURE_VARIANT(disable) {
	enum backing backing;
	enum class class;
};

FIXTURE_VARIANT_ADD(disable, memfd_private) { MEMFD, PRIVATE };
FIXTURE_VARIANT_ADD(disable, memfd_shared_read) { MEMFD, SHARED_READ };
FIXTURE_VARIANT_ADD(disable, memfd_shared_write) { MEMFD, SHARED_WRITE };
FIXTURE_VARIANT_ADD(disable, ext4_private) { EXT4, PRIVATE };
FIXTURE_VARIANT_ADD(disable, ext4_shared_read) { EXT4, SHARED_READ };
FIXTURE_VARIANT_ADD(disable, ext4_shared_write) { EXT4, SHARED_WRITE };
FIXTURE_VARIANT_ADD(disable, btrfs_shared_write) { BTRFS, SHARED_WRITE };
FIXTURE_VARIANT_ADD(disable, xfs_shared_write) { XFS, SHARED_WRITE };
FIXTURE_VARIANT_ADD(disable, p9_shared_write) { P9, SHARED_WRITE };

/* The mapping is opted in. It is in the middle of an area that the test keeps free. */
FIXTURE_SETUP(disable)
{
	char *area;

	need_class(_metadata, variant->class);
	set_up_file(_metadata, &self->file, variant->backing, FILE_PAGES * page_size(), PAGES);
	area = mmap(NULL, 4 * self->len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(area, MAP_FAILED);
	mapping_is_at(&self->file, mmap(area + self->len, self->len, class_prot(variant->class),
					class_flags(variant->class) | MAP_FIXED, self->fd, 0));
	ASSERT_EQ(self->addr, area + self->len);
	ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
}

FIXTURE_TEARDOWN(disable)
{
	munmap(self->addr - self->len, 4 * self->len);
	tear_down(&self->file);
}

#define IS_WRITABLE()	(variant->class != SHARED_READ)

#define EXPECT_PLAIN()	do {						\
	EXPECT_EQ(read_byte(self->addr), CONTENT);			\
	for (int p = FILE_PAGES; p < PAGES; p++)			\
		EXPECT_EQ(read_byte(self->addr + p * self->page), -SIGBUS);	\
} while (0)

#define EXPECT_OPTED_IN() \
	EXPECT_EQ(pages_of(0, self->addr, FILE_PAGES, PAGES), PAGES - FILE_PAGES)

TEST_F(disable, sigbus_is_back)
{
	EXPECT_OPTED_IN();
	ASSERT_EQ(disable(self->device, self->addr, self->len), 0);
	EXPECT_PLAIN();
	for (int i = FILE_PAGES; i < PAGES; i++)
		EXPECT_EQ(write_byte(self->addr + i * self->page, 1),
			  IS_WRITABLE() ? -SIGBUS : -SIGSEGV);
	/* Inside EOF the mapping works like a plain one. */
	if (IS_WRITABLE())
		EXPECT_EQ(write_byte(self->addr + 1, 1), 0);
	ASSERT_EQ(ftruncate(self->fd, self->len), 0);
	EXPECT_OPTED_IN();
}

TEST_F(disable, nothing_was_touched)
{
	ASSERT_EQ(disable(self->device, self->addr, self->len), 0);
	EXPECT_PLAIN();
}

/* Opting out keeps private pages and drops shadow pages. */
TEST_F(disable, what_was_written)
{
	if (!IS_WRITABLE()) {
		ASSERT_EQ(write_byte(self->past, 1), -SIGSEGV);
		return;
	}
	EXPECT_EQ(write_byte(self->addr + 7, 1), 0);
	EXPECT_EQ(write_byte(self->past + 7, 2), 0);
	EXPECT_EQ(read_byte(self->past + self->page), 0);
	ASSERT_EQ(disable(self->device, self->addr, self->len), 0);
	EXPECT_EQ(read_byte(self->addr + 7), 1);
	EXPECT_EQ(read_byte(self->past + 7), variant->class == PRIVATE ? 2 : -SIGBUS);
	EXPECT_EQ(read_byte(self->past + self->page), -SIGBUS);

	/* Opt in again: the pages that were dropped start as zeros. */
	ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
	EXPECT_EQ(read_byte(self->addr + 7), 1);
	EXPECT_EQ(read_byte(self->past + 7), variant->class == PRIVATE ? 2 : 0);
	EXPECT_EQ(read_byte(self->past + self->page), 0);
	EXPECT_EQ(disable(self->device, self->addr, self->len), 0);
}

TEST_F(disable, often)
{
	for (int i = 0; i < 50; i++) {
		EXPECT_OPTED_IN();
		ASSERT_EQ(disable(self->device, self->addr, self->len), 0);
		EXPECT_EQ(read_byte(self->past), -SIGBUS);
		ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
	}
}

/* mprotect() can make a read-only shared mapping of a writable file writable again. */
TEST_F(disable, mprotect_works_again)
{
	int expected = IS_WRITABLE() ? 0 : -1;

	EXPECT_EQ(mprotect(self->addr, self->len, PROT_READ | PROT_WRITE), expected);
	ASSERT_EQ(disable(self->device, self->addr, self->len), 0);
	EXPECT_EQ(mprotect(self->addr, self->len, PROT_READ | PROT_WRITE),
		  OPTING_OUT_IS_WHOLE ? 0 : expected);
	if (!OPTING_OUT_IS_WHOLE && expected)
		return;
	EXPECT_EQ(write_byte(self->addr, 1), 0);
	EXPECT_EQ(write_byte(self->past, 1), -SIGBUS);
	/* Opting in again takes it for a writable mapping. */
	ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
	EXPECT_EQ(write_byte(self->past, 1), 0);
	EXPECT_EQ(read_byte(self->past), 1);
}

/* The VMAs that the range from addr has. */
static int vmas(const char *addr, size_t len)
{
	unsigned long from = (unsigned long)addr, start, end;
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[PATH_MAX];
	int count = 0;

	while (maps && fgets(line, sizeof(line), maps))
		if (sscanf(line, "%lx-%lx", &start, &end) == 2 && start < from + len && end > from)
			count++;
	if (maps)
		fclose(maps);
	return count;
}

/* Core mm merges a plain mapping with a neighbour of the same file. */
TEST_F(disable, merges_again)
{
	char *behind = self->addr + self->len;
	int prot = class_prot(variant->class), flags = class_flags(variant->class) | MAP_FIXED;

	ASSERT_EQ(mmap(behind, self->page, prot, flags, self->fd, self->len), behind);
	EXPECT_EQ(vmas(self->addr, self->len + self->page), 2);
	ASSERT_EQ(disable(self->device, self->addr, self->len), 0);
	ASSERT_EQ(munmap(behind, self->page), 0);
	ASSERT_EQ(mmap(behind, self->page, prot, flags, self->fd, self->len), behind);
	EXPECT_EQ(vmas(self->addr, self->len + self->page),
		  OPTING_OUT_IS_WHOLE || variant->class == PRIVATE ? 1 : 2);
	ASSERT_EQ(enable(self->device, self->addr, self->len + self->page), 0);
	EXPECT_EQ(read_byte(behind), 0);
}

/* VM_MIXEDMAP prevents growing in place: see design.rst. */
TEST_F(disable, grows_in_place_again)
{
	ASSERT_EQ(munmap(self->addr + self->len, self->len), 0);
	if (!IS_ORDINARY_VMA)
		EXPECT_EQ(mremap(self->addr, self->len, 2 * self->len, 0), MAP_FAILED);
	ASSERT_EQ(disable(self->device, self->addr, self->len), 0);
	EXPECT_EQ(mremap(self->addr, self->len, 2 * self->len, 0), self->addr);
	EXPECT_EQ(read_byte(self->addr + self->len), -SIGBUS);
}

struct child_arg {
	char *addr, *past;
	int device, wait;
	size_t len;
	int expected;
};

/* The parent has opted out. The child's copy is still opted in, and has what was written. */
static int keeps_its_copy(void *arg)
{
	const struct child_arg *a = arg;
	size_t size = page_size();
	char byte;

	if (read(a->wait, &byte, 1) != 1)
		return 1;
	if (read_byte(a->past + 7) != a->expected)
		return 2;
	if (pages_of(0, a->addr, FILE_PAGES + 1, PAGES) != PAGES - FILE_PAGES - 1)
		return 3;
	if (disable(a->device, a->addr, a->len))
		return 4;
	return read_byte(a->past + size) != -SIGBUS ? 5 : 0;
}

TEST_F(disable, a_child_keeps_its_copy)
{
	struct child_arg arg = {
		.addr = self->addr, .past = self->past, .device = self->device, .len = self->len,
		.expected = IS_WRITABLE() ? 2 : 0,
	};
	int go[2], status;
	pid_t pid;

	ASSERT_EQ(pipe(go), 0);
	arg.wait = go[0];
	if (IS_WRITABLE())
		EXPECT_EQ(write_byte(self->past + 7, 2), 0);
	EXPECT_EQ(read_byte(self->past + self->page), 0);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid)
		_exit(keeps_its_copy(&arg));
	ASSERT_EQ(disable(self->device, self->addr, self->len), 0);
	EXPECT_EQ(read_byte(self->past + self->page), -SIGBUS);
	ASSERT_EQ(write(go[1], "", 1), 1);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(WEXITSTATUS(status), 0);
}

/* After a split each part is a VMA of its own, which can opt out alone. */
TEST_F(disable, parts_of_a_split_mapping)
{
	ASSERT_EQ(munmap(self->past, self->page), 0);
	ASSERT_EQ(disable(self->device, self->addr, FILE_PAGES * self->page), 0);
	EXPECT_EQ(read_byte(self->addr), CONTENT);
	EXPECT_EQ(pages_of(0, self->addr, FILE_PAGES + 1, PAGES), PAGES - FILE_PAGES - 1);
	EXPECT_EQ(disable(self->device, self->addr, FILE_PAGES * self->page), OPTED_OUT_TWICE);
	ASSERT_EQ(disable(self->device, self->past + self->page, 2 * self->page), 0);
	EXPECT_EQ(read_byte(self->past + self->page), -SIGBUS);
	EXPECT_EQ(read_byte(self->past + 2 * self->page), -SIGBUS);
}

FIXTURE(seals) {
	MAPPED_FILE;
};

FIXTURE_SETUP(seals)
{
	set_up_file(_metadata, &self->file, MEMFD, 0, PAGES);
	set_up_opted_in(_metadata, &self->file, SHARED_READ);
}

FIXTURE_TEARDOWN(seals)
{
	tear_down(&self->file);
}

static int add_seals(int fd, int seals)
{
	return fcntl(fd, F_ADD_SEALS, seals) ? -errno : 0;
}

/* Opting out restores i_mmap_writable, so that F_SEAL_WRITE fails again. */
TEST_F(seals, are_prevented_again)
{
	for (int i = 0; i < 10; i++) {
		ASSERT_EQ(disable(self->device, self->addr, self->len), 0);
		EXPECT_EQ(add_seals(self->fd, F_SEAL_WRITE), OPTING_OUT_IS_WHOLE ? -EBUSY : 0);
		ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
	}
	ASSERT_EQ(disable(self->device, self->addr, self->len), 0);
	ASSERT_EQ(munmap(self->addr, self->len), 0);
	EXPECT_EQ(add_seals(self->fd, F_SEAL_WRITE), 0);
}

/* munmap() of an opted-in mapping does not lower i_mmap_writable a second time. */
TEST_F(seals, count_is_right_after_munmap)
{
	char *plain = map_file(SHARED_READ, self->fd, self->len);

	ASSERT_NE(plain, MAP_FAILED);
	ASSERT_EQ(munmap(self->addr, self->len), 0);
	EXPECT_EQ(add_seals(self->fd, F_SEAL_WRITE), -EBUSY);
	ASSERT_EQ(munmap(plain, self->len), 0);
	EXPECT_EQ(add_seals(self->fd, F_SEAL_WRITE), 0);
}

TEST_F(seals, added_while_opted_in)
{
	ASSERT_EQ(add_seals(self->fd, F_SEAL_WRITE), 0);
	EXPECT_EQ(read_byte(self->addr), 0);
	ASSERT_EQ(disable(self->device, self->addr, self->len), 0);
	EXPECT_EQ(read_byte(self->addr), -SIGBUS);
	EXPECT_EQ(mprotect(self->addr, self->len, PROT_READ | PROT_WRITE), -1);
	EXPECT_EQ(errno, EACCES);
	ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
	EXPECT_EQ(read_byte(self->addr), 0);
}

/* A mapping of a file opened O_RDONLY was never writable, and opting out does not make it so. */
TEST_F(seals, of_a_file_opened_read_only)
{
	int fd = open_again(MEMFD, self->fd, O_RDONLY);
	char *addr;

	ASSERT_GE(fd, 0);
	ASSERT_EQ(munmap(self->addr, self->len), 0);
	addr = map_file(SHARED_READ, fd, self->len);
	ASSERT_NE(addr, MAP_FAILED);
	ASSERT_EQ(enable(self->device, addr, self->len), 0);
	ASSERT_EQ(disable(self->device, addr, self->len), 0);
	EXPECT_EQ(mprotect(addr, self->len, PROT_READ | PROT_WRITE), -1);
	EXPECT_EQ(errno, EACCES);
	EXPECT_EQ(add_seals(self->fd, F_SEAL_WRITE), 0);
	munmap(addr, self->len);
	close(fd);
}

/* Each error, and that the mapping is opted in as before. */
#define EXPECT_REFUSED(result, error) do {	\
	EXPECT_EQ(result, error);		\
	EXPECT_OPTED_IN();			\
} while (0)

TEST_F(disable, einval_reserved_fields)
{
	for (int i = 0; i < 2; i++) {
		struct nosigbus_disable request = {
			.addr = (unsigned long)self->addr, .len = self->len,
		};

		request.reserved[i] = 1ULL << (63 * i);
		EXPECT_EQ(ioctl(self->device, NOSIGBUS_DISABLE, &request), -1);
		EXPECT_EQ(errno, EINVAL);
		EXPECT_OPTED_IN();
	}
}

TEST_F(disable, einval_bad_range)
{
	u64 addr = (unsigned long)self->addr, page = self->page, len = self->len;
	const struct { u64 addr, len; } bad[] = {
		{ addr, 0 }, { 0, 0 }, { addr + 1, len }, { addr, len - 1 }, { addr, -page },
		{ -page, page }, { -page, 2 * page },
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		EXPECT_REFUSED(call_range(self->device, DISABLE, bad[i].addr, bad[i].len),
			       -EINVAL);
}

TEST_F(disable, einval_part_of_a_vma)
{
	EXPECT_REFUSED(disable(self->device, self->addr, self->page), -EINVAL);
	EXPECT_REFUSED(disable(self->device, self->past, self->len - self->page), -EINVAL);
	EXPECT_REFUSED(disable(self->device, self->past, self->page), -EINVAL);
}

TEST_F(disable, enomem_hole)
{
	ASSERT_EQ(munmap(self->addr + self->len, self->len), 0);
	EXPECT_REFUSED(disable(self->device, self->addr, 2 * self->len), -ENOMEM);
	ASSERT_EQ(munmap(self->addr - self->len, self->len), 0);
	EXPECT_REFUSED(disable(self->device, self->addr - self->page, self->len + self->page),
		       -ENOMEM);
	EXPECT_REFUSED(disable(self->device, self->addr + self->len, self->page), -ENOMEM);
	EXPECT_REFUSED(disable(self->device, NULL, self->page), -ENOMEM);
}

TEST_F(disable, efault_bad_pointer)
{
	EXPECT_EQ(ioctl(self->device, NOSIGBUS_DISABLE, NULL), -1);
	EXPECT_EQ(errno, EFAULT);
	EXPECT_EQ(ioctl(self->device, NOSIGBUS_DISABLE, (void *)(~0UL - 4095)), -1);
	EXPECT_EQ(errno, EFAULT);
	EXPECT_OPTED_IN();
}

TEST_F(disable, not_opted_in)
{
	ASSERT_EQ(disable(self->device, self->addr, self->len), 0);
	EXPECT_EQ(disable(self->device, self->addr, self->len), OPTED_OUT_TWICE);
	/* Nor is the anonymous memory after it. */
	EXPECT_EQ(disable(self->device, self->addr + self->len, 2 * self->len), OPTED_OUT_TWICE);
	EXPECT_PLAIN();
}

/* An error in the last of several VMAs leaves the first as they are. */
TEST_F(disable, several_vmas_all_or_nothing)
{
	char *second = self->addr + self->len;
	int prot = class_prot(variant->class), flags = class_flags(variant->class) | MAP_FIXED;

	EXPECT_OPTED_IN();
	/* A plain one. */
	ASSERT_EQ(mmap(second, self->len, prot, flags, self->fd, 0), second);
	EXPECT_REFUSED(disable(self->device, self->addr, 2 * self->len), -ENOENT);
	EXPECT_EQ(read_byte(second + self->len - 1), -SIGBUS);
	/* Part of one. */
	ASSERT_EQ(enable(self->device, second, self->len), 0);
	EXPECT_REFUSED(disable(self->device, self->addr, 2 * self->len - self->page), -EINVAL);
	EXPECT_EQ(read_byte(second + self->len - 1), 0);
	/* A hole behind it. */
	ASSERT_EQ(munmap(second + self->len, self->len), 0);
	EXPECT_REFUSED(disable(self->device, self->addr, 3 * self->len), -ENOMEM);
	EXPECT_EQ(read_byte(second + self->len - 1), 0);
	if (variant->class == SHARED_READ) {
		EXPECT_EQ(mprotect(self->addr, self->len, PROT_READ | PROT_WRITE), -1);
		EXPECT_EQ(errno, EACCES);
	}

	ASSERT_EQ(disable(self->device, self->addr, 2 * self->len), 0);
	EXPECT_PLAIN();
	EXPECT_EQ(read_byte(second + self->len - 1), -SIGBUS);
}

TEST_HARNESS_MAIN
