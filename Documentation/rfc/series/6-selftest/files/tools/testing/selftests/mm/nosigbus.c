// SPDX-License-Identifier: GPL-2.0-only
/* MADV_NOSIGBUS: what is past the end of a file that somebody else truncates. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"

#ifndef MADV_NOSIGBUS
#define MADV_NOSIGBUS	104
#define MADV_SIGBUS	105
#endif

#define PAGES	8

static size_t page;
static sigjmp_buf failed;

static void on_signal(int sig)
{
	siglongjmp(failed, sig);
}

/* The byte that is there, or minus the signal. */
static int read_byte(const char *addr)
{
	int sig = sigsetjmp(failed, 1);

	return sig ? -sig : *(volatile unsigned char *)addr;
}

static int write_byte(char *addr, char byte)
{
	int sig = sigsetjmp(failed, 1);

	if (!sig)
		*(volatile char *)addr = byte;
	return -sig;
}

FIXTURE(nosigbus) {
	int fd;
	char *addr;
	size_t len;
};

FIXTURE_VARIANT(nosigbus) {
	bool memfd;
	int flags;
};

FIXTURE_VARIANT_ADD(nosigbus, memfd_private) { true, MAP_PRIVATE };
FIXTURE_VARIANT_ADD(nosigbus, memfd_shared) { true, MAP_SHARED };
FIXTURE_VARIANT_ADD(nosigbus, file_private) { false, MAP_PRIVATE };
FIXTURE_VARIANT_ADD(nosigbus, file_shared) { false, MAP_SHARED };

/* A file of one page of 'a', and an opted-in mapping of more. */
FIXTURE_SETUP(nosigbus)
{
	char name[] = "nosigbus-XXXXXX";
	int prot = PROT_READ | (variant->flags == MAP_PRIVATE ? PROT_WRITE : 0);

	page = sysconf(_SC_PAGESIZE);
	signal(SIGBUS, on_signal);
	signal(SIGSEGV, on_signal);
	self->fd = variant->memfd ? memfd_create("nosigbus", MFD_CLOEXEC) : mkstemp(name);
	ASSERT_GE(self->fd, 0);
	if (!variant->memfd)
		unlink(name);
	self->len = PAGES * page;
	ASSERT_EQ(pwrite(self->fd, "a", 1, 0), 1);
	ASSERT_EQ(ftruncate(self->fd, page), 0);
	self->addr = mmap(NULL, self->len, prot, variant->flags, self->fd, 0);
	ASSERT_NE(self->addr, MAP_FAILED);
	if (madvise(self->addr, self->len, MADV_NOSIGBUS) && errno == EINVAL)
		SKIP(return, "this kernel has no MADV_NOSIGBUS");
}

FIXTURE_TEARDOWN(nosigbus)
{
	munmap(self->addr, self->len);
	close(self->fd);
}

TEST_F(nosigbus, reads_zeros)
{
	EXPECT_EQ(read_byte(self->addr), 'a');
	for (int i = 1; i < PAGES; i++)
		EXPECT_EQ(read_byte(self->addr + i * page), 0);
	EXPECT_EQ(read_byte(self->addr), 'a');
}

TEST_F(nosigbus, writes_are_private)
{
	char *addr = self->addr + 2 * page, byte = 0;

	if (variant->flags == MAP_SHARED) {
		EXPECT_EQ(write_byte(addr, 'w'), -SIGSEGV);
		EXPECT_EQ(mprotect(self->addr, self->len, PROT_READ | PROT_WRITE), -1);
		EXPECT_EQ(errno, EACCES);
		return;
	}
	EXPECT_EQ(write_byte(addr, 'w'), 0);
	EXPECT_EQ(read_byte(addr), 'w');
	EXPECT_EQ(read_byte(addr + 1), 0);
	/* After a read, too. */
	EXPECT_EQ(read_byte(addr + page), 0);
	EXPECT_EQ(write_byte(addr + page, 'w'), 0);
	EXPECT_EQ(read_byte(addr + page), 'w');
	EXPECT_EQ(pread(self->fd, &byte, 1, 2 * page), 0);
}

static int grow_by_ftruncate(int fd, off_t size)
{
	return ftruncate(fd, size);
}

static int grow_by_write(int fd, off_t size)
{
	return pwrite(fd, "g", 1, size - 1) == 1 ? 0 : -1;
}

static int grow_by_fallocate(int fd, off_t size)
{
	return fallocate(fd, 0, 0, size);
}

static int grow_by_direct_write(int fd, off_t size)
{
	char path[64], *bytes = mmap(NULL, page, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int direct, ret;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	direct = open(path, O_WRONLY | O_DIRECT);
	if (direct < 0)
		return grow_by_write(fd, size);
	ret = pwrite(direct, bytes, page, size - page) == (ssize_t)page ? 0 : -1;
	close(direct);
	munmap(bytes, page);
	return ret;
}

static int grow_by_aio(int fd, off_t size)
{
	struct iocb iocb = {
		.aio_fildes = fd, .aio_lio_opcode = IOCB_CMD_PWRITE,
		.aio_buf = (unsigned long)"g", .aio_nbytes = 1, .aio_offset = size - 1,
	}, *list = &iocb;
	aio_context_t context = 0;
	struct io_event event;
	int ret;

	if (syscall(SYS_io_setup, 1, &context))
		return -1;
	ret = syscall(SYS_io_submit, context, 1, &list) == 1 &&
		syscall(SYS_io_getevents, context, 1, 1, &event, NULL) == 1 && event.res == 1;
	syscall(SYS_io_destroy, context);
	return ret ? 0 : -1;
}

static int grow_by_another(int fd, off_t size)
{
	int status;
	pid_t pid = fork();

	if (!pid)
		_exit(ftruncate(fd, size) != 0);
	return pid > 0 && waitpid(pid, &status, 0) == pid ? status : -1;
}

/* What the file grows over is the file, at once. */
TEST_F(nosigbus, growth_is_seen)
{
	int (*const grow[])(int fd, off_t size) = {
		grow_by_ftruncate, grow_by_write, grow_by_fallocate, grow_by_direct_write,
		grow_by_aio, grow_by_another,
	};

	for (size_t i = 0; i < sizeof(grow) / sizeof(*grow); i++) {
		ASSERT_EQ(ftruncate(self->fd, 0), 0);
		for (int j = 0; j < PAGES; j++)
			ASSERT_EQ(read_byte(self->addr + j * page), 0);
		ASSERT_EQ(grow[i](self->fd, 4 * page), 0) TH_LOG("%zu: %s", i, strerror(errno));
		/* A store by another mapping: no write(2), and nothing that is told of. */
		ASSERT_EQ(pwrite(self->fd, "b", 1, 2 * page), 1);
		EXPECT_EQ(read_byte(self->addr + 2 * page), 'b') TH_LOG("%zu", i);
		EXPECT_EQ(read_byte(self->addr + 4 * page), 0);
	}
}

/* A private page that was written to stays, whatever the file does. */
TEST_F(nosigbus, copies_stay)
{
	if (variant->flags == MAP_SHARED)
		SKIP(return, "has no copies");
	ASSERT_EQ(write_byte(self->addr + 2 * page, 'w'), 0);
	ASSERT_EQ(ftruncate(self->fd, 4 * page), 0);
	ASSERT_EQ(pwrite(self->fd, "b", 1, 2 * page), 1);
	EXPECT_EQ(read_byte(self->addr + 2 * page), 'w');
	/* As truncation has it. */
	ASSERT_EQ(ftruncate(self->fd, page), 0);
	EXPECT_EQ(read_byte(self->addr + 2 * page), 0);
}

TEST_F(nosigbus, opts_out)
{
	EXPECT_EQ(read_byte(self->addr + page), 0);
	ASSERT_EQ(madvise(self->addr, self->len, MADV_SIGBUS), 0);
	EXPECT_EQ(read_byte(self->addr + page), -SIGBUS);
	EXPECT_EQ(read_byte(self->addr), 'a');
	if (variant->flags == MAP_SHARED) {
		EXPECT_EQ(mprotect(self->addr, self->len, PROT_READ | PROT_WRITE), -1);
		EXPECT_EQ(errno, EACCES);
	}
}

/* In a part of the mapping, which is a VMA of its own then. */
TEST_F(nosigbus, splits_and_merges)
{
	ASSERT_EQ(madvise(self->addr + 2 * page, 2 * page, MADV_SIGBUS), 0);
	for (int i = 1; i < PAGES; i++)
		EXPECT_EQ(read_byte(self->addr + i * page), i == 2 || i == 3 ? -SIGBUS : 0);
	ASSERT_EQ(madvise(self->addr + 2 * page, 2 * page, MADV_NOSIGBUS), 0);
	for (int i = 1; i < PAGES; i++)
		EXPECT_EQ(read_byte(self->addr + i * page), 0);
}

TEST_F(nosigbus, is_inherited)
{
	int status;
	pid_t pid = fork();

	ASSERT_GE(pid, 0);
	if (!pid)
		_exit(read_byte(self->addr + page) != 0);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
}

TEST_F(nosigbus, moves_and_grows)
{
	char *moved;

	EXPECT_EQ(read_byte(self->addr + page), 0);
	moved = mremap(self->addr, self->len, 2 * self->len, MREMAP_MAYMOVE);
	ASSERT_NE(moved, MAP_FAILED);
	self->addr = moved;
	self->len *= 2;
	EXPECT_EQ(read_byte(moved + page), 0);
	EXPECT_EQ(read_byte(moved + self->len - page), 0);
}

TEST_F(nosigbus, is_locked)
{
	if (mlock(self->addr, self->len))
		SKIP(return, "may not lock so much");
	ASSERT_EQ(ftruncate(self->fd, 0), 0);
	EXPECT_EQ(read_byte(self->addr), 0);
	EXPECT_EQ(munlock(self->addr, self->len), 0);
}

TEST_F(nosigbus, the_kernel_reads_zeros)
{
	int pipes[2];
	char byte = 'x';

	ASSERT_EQ(pipe(pipes), 0);
	ASSERT_EQ(write(pipes[1], self->addr + 2 * page, 1), 1);
	ASSERT_EQ(read(pipes[0], &byte, 1), 1);
	EXPECT_EQ(byte, 0);
	if (variant->flags == MAP_PRIVATE) {
		ASSERT_EQ(write(pipes[1], "w", 1), 1);
		ASSERT_EQ(read(pipes[0], self->addr + 3 * page, 1), 1);
		EXPECT_EQ(read_byte(self->addr + 3 * page), 'w');
	}
	close(pipes[0]);
	close(pipes[1]);
}

static bool smaps_has(const char *addr, const char *flag)
{
	FILE *smaps = fopen("/proc/self/smaps", "r");
	char line[512], start[32];
	bool here = false, has = false;

	snprintf(start, sizeof(start), "%lx-", (unsigned long)addr);
	while (smaps && fgets(line, sizeof(line), smaps)) {
		if (strchr(line, '-') && strspn(line, "0123456789abcdef") > 4)
			here = !strncmp(line, start, strlen(start));
		if (here && !strncmp(line, "VmFlags:", 8))
			has = strstr(line, flag);
	}
	if (smaps)
		fclose(smaps);
	return has;
}

TEST_F(nosigbus, is_shown)
{
	EXPECT_TRUE(smaps_has(self->addr, " ns"));
	ASSERT_EQ(madvise(self->addr, self->len, MADV_SIGBUS), 0);
	EXPECT_FALSE(smaps_has(self->addr, " ns"));
}

TEST(what_has_no_size_is_refused)
{
	char *addr;
	int fd;

	page = sysconf(_SC_PAGESIZE);
	addr = mmap(NULL, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(addr, MAP_FAILED);
	EXPECT_EQ(madvise(addr, page, MADV_NOSIGBUS), -1);
	EXPECT_EQ(errno, EINVAL);
	munmap(addr, page);

	fd = memfd_create("nosigbus", MFD_CLOEXEC);
	ASSERT_GE(fd, 0);
	addr = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(addr, MAP_FAILED);
	EXPECT_EQ(madvise(addr, page, MADV_NOSIGBUS), -1);
	EXPECT_EQ(errno, EINVAL);
	munmap(addr, page);
	close(fd);
}

TEST_HARNESS_MAIN
