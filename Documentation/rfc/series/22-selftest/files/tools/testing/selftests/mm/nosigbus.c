// SPDX-License-Identifier: GPL-2.0-only
/* MADV_NOSIGBUS: what is past the end of a file that somebody else truncates. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/posix_types.h>
#include <linux/aio_abi.h>
#include <linux/falloc.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
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
	/* An ordinary mapping of the same pages, to store to the file without a system call. */
	char *pen;
};

FIXTURE_VARIANT(nosigbus) {
	bool memfd;
	int flags;
};

FIXTURE_VARIANT_ADD(nosigbus, memfd_private) { true, MAP_PRIVATE };
FIXTURE_VARIANT_ADD(nosigbus, memfd_shared) { true, MAP_SHARED };
FIXTURE_VARIANT_ADD(nosigbus, file_private) { false, MAP_PRIVATE };
FIXTURE_VARIANT_ADD(nosigbus, file_shared) { false, MAP_SHARED };

/* A file of one page, which begins with 'a', and an opted-in mapping of more. */
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
	ASSERT_EQ(madvise(self->addr, self->len, MADV_NOSIGBUS), 0) TH_LOG("%s", strerror(errno));
	self->pen = mmap(NULL, self->len, PROT_READ | PROT_WRITE, MAP_SHARED, self->fd, 0);
	ASSERT_NE(self->pen, MAP_FAILED);
}

FIXTURE_TEARDOWN(nosigbus)
{
	munmap(self->addr, self->len);
	munmap(self->pen, PAGES * page);
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
		/*
		 * write(2) would unmap the zeros, whatever the call above has done. A store
		 * does not, and the file has no other page there.
		 */
		ASSERT_EQ(write_byte(self->pen + 2 * page, 'b'), 0);
		EXPECT_EQ(read_byte(self->addr + 2 * page), 'b') TH_LOG("%zu", i);
		EXPECT_EQ(read_byte(self->addr + 4 * page), 0);
	}
}

/* userfaultfd on a range, or -1. */
static int registered(const char *addr, size_t len, int mode, int flags)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { { (unsigned long)addr, len }, .mode = mode };
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | flags);

	if (fd < 0)
		return -1;
	if (ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &reg)) {
		close(fd);
		return -1;
	}
	return fd;
}

/* The kind of the next event, or -1 if none comes for some seconds. */
static int next_event(int fd, struct uffd_msg *msg)
{
	struct pollfd event = { .fd = fd, .events = POLLIN };

	if (poll(&event, 1, 10000) != 1 || read(fd, msg, sizeof(*msg)) != sizeof(*msg))
		return -1;
	return msg->event;
}

struct sleeper {
	int fd;
	char *buf;
	ssize_t ret;
};

static void *write_two_pages(void *arg)
{
	struct sleeper *sleeper = arg;

	sleeper->ret = pwrite(sleeper->fd, sleeper->buf, 2 * page, page);
	return NULL;
}

/*
 * A write(2) has written one page, and waits for the next page of its buffer. Others see what
 * it has written, although it has not returned.
 */
TEST_F(nosigbus, growth_by_a_call_that_sleeps)
{
	struct sleeper sleeper = { .fd = self->fd };
	struct uffdio_zeropage zeropage = {};
	struct uffd_msg msg;
	struct stat st;
	pthread_t thread;
	int fd, byte = 0;

	sleeper.buf = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			   -1, 0);
	ASSERT_NE(sleeper.buf, MAP_FAILED);
	sleeper.buf[0] = 'g';
	/* For faults of the kernel, which takes a privilege. */
	fd = registered(sleeper.buf + page, page, UFFDIO_REGISTER_MODE_MISSING, 0);
	if (fd < 0)
		SKIP(return, "may not use userfaultfd for the kernel");
	EXPECT_EQ(read_byte(self->addr + page), 0);
	ASSERT_EQ(pthread_create(&thread, NULL, write_two_pages, &sleeper), 0);
	EXPECT_EQ(next_event(fd, &msg), UFFD_EVENT_PAGEFAULT);
	EXPECT_EQ(fstat(self->fd, &st), 0);
	/* The worker may take a moment. A file system may also wait before it writes anything. */
	for (int i = 0; i < 1000 && st.st_size > (off_t)page && byte != 'g'; i++) {
		byte = read_byte(self->addr + page);
		usleep(10000);
	}
	if (st.st_size > (off_t)page)
		EXPECT_EQ(byte, 'g');
	zeropage.range = (struct uffdio_range){ (unsigned long)sleeper.buf + page, page };
	EXPECT_EQ(ioctl(fd, UFFDIO_ZEROPAGE, &zeropage), 0);
	pthread_join(thread, NULL);
	EXPECT_EQ(sleeper.ret, 2 * (ssize_t)page);
	EXPECT_EQ(read_byte(self->addr + page), 'g');
	close(fd);
	munmap(sleeper.buf, 2 * page);
}

/* A private page that was written to stays, whatever the file does. */
TEST_F(nosigbus, copies_stay)
{
	if (variant->flags == MAP_SHARED)
		SKIP(return, "has no copies");
	ASSERT_EQ(write_byte(self->addr + 2 * page, 'w'), 0);
	/* A page of zeros before it, so that growth has something to unmap. */
	ASSERT_EQ(read_byte(self->addr + page), 0);
	ASSERT_EQ(ftruncate(self->fd, 4 * page), 0);
	ASSERT_EQ(write_byte(self->pen + 2 * page, 'b'), 0);
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

TEST_F(nosigbus, holes_are_punched)
{
	ASSERT_EQ(ftruncate(self->fd, 4 * page), 0);
	ASSERT_EQ(write_byte(self->pen + 3 * page, 'd'), 0);
	EXPECT_EQ(read_byte(self->addr + 3 * page), 'd');
	EXPECT_EQ(read_byte(self->addr + 4 * page), 0);
	if (fallocate(self->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, page)) {
		/* No SKIP(), which would hide what has failed above. */
		EXPECT_EQ(errno, EOPNOTSUPP);
		return;
	}
	EXPECT_EQ(read_byte(self->addr), 0);
	EXPECT_EQ(read_byte(self->addr + 3 * page), 'd');
}

TEST_F(nosigbus, ranges_move)
{
	ASSERT_EQ(ftruncate(self->fd, 4 * page), 0);
	ASSERT_EQ(write_byte(self->pen + 3 * page, 'd'), 0);
	ASSERT_EQ(read_byte(self->addr + 4 * page), 0);
	if (fallocate(self->fd, FALLOC_FL_INSERT_RANGE, page, 2 * page))
		SKIP(return, "this file system has no FALLOC_FL_INSERT_RANGE");
	EXPECT_EQ(read_byte(self->addr + 5 * page), 'd');
	EXPECT_EQ(read_byte(self->addr + 6 * page), 0);
	ASSERT_EQ(fallocate(self->fd, FALLOC_FL_COLLAPSE_RANGE, page, 3 * page), 0);
	EXPECT_EQ(read_byte(self->addr + 2 * page), 'd');
	EXPECT_EQ(read_byte(self->addr + 3 * page), 0);
	EXPECT_EQ(read_byte(self->addr + 5 * page), 0);
}

/* What comes by process_vm_readv(2) is answered, and the advice may come by a pidfd. */
TEST_F(nosigbus, others_are_answered)
{
	char byte = 'x';
	struct iovec local = { &byte, 1 }, remote = { self->addr + 2 * page, 1 };
	struct iovec range = { self->addr, self->len };
	int pidfd = syscall(SYS_pidfd_open, getpid(), 0);

	ASSERT_GE(pidfd, 0);
	EXPECT_EQ(process_vm_readv(getpid(), &local, 1, &remote, 1, 0), 1);
	EXPECT_EQ(byte, 0);
	EXPECT_EQ(syscall(SYS_process_madvise, pidfd, &range, 1, MADV_SIGBUS, 0),
		  (long)self->len);
	EXPECT_EQ(read_byte(self->addr + page), -SIGBUS);
	EXPECT_EQ(syscall(SYS_process_madvise, pidfd, &range, 1, MADV_NOSIGBUS, 0),
		  (long)self->len);
	EXPECT_EQ(read_byte(self->addr + page), 0);
	close(pidfd);
}

/* The flag may not be changed, since it changes what the mapping may become. */
TEST_F(nosigbus, is_sealed)
{
	if (syscall(SYS_mseal, self->addr, self->len, 0))
		SKIP(return, "this kernel has no mseal(2)");
	EXPECT_EQ(madvise(self->addr, self->len, MADV_SIGBUS), -1);
	EXPECT_EQ(errno, EPERM);
	EXPECT_EQ(madvise(self->addr, self->len, MADV_NOSIGBUS), -1);
	EXPECT_EQ(errno, EPERM);
	EXPECT_EQ(read_byte(self->addr + page), 0);
	/* Nothing of it can be unmapped any more. */
	self->len = 0;
}

/* Past EOF nobody is asked for a missing page: these are zeros. */
TEST_F(nosigbus, userfaultfd_missing)
{
	char *addr;
	int fd;

	fd = registered(self->addr, self->len, UFFDIO_REGISTER_MODE_MISSING, UFFD_USER_MODE_ONLY);
	if (variant->flags == MAP_SHARED) {
		/* It has lost VM_MAYWRITE. */
		EXPECT_EQ(fd, -1);
	} else {
		if (fd < 0)
			SKIP(return, "no userfaultfd, or not for this file system");
		EXPECT_EQ(read_byte(self->addr + 2 * page), 0);
		close(fd);
	}

	addr = mmap(NULL, self->len, PROT_READ, MAP_SHARED, self->fd, 0);
	ASSERT_NE(addr, MAP_FAILED);
	fd = registered(addr, self->len, UFFDIO_REGISTER_MODE_MISSING, UFFD_USER_MODE_ONLY);
	if (fd >= 0) {
		EXPECT_EQ(madvise(addr, self->len, MADV_NOSIGBUS), -1);
		EXPECT_EQ(errno, EINVAL);
		close(fd);
	}
	munmap(addr, self->len);
}

/* The entry of /proc/self/pagemap. */
static uint64_t pagemap_of(const char *addr)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entry = 0;

	if (pread(fd, &entry, sizeof(entry), (uintptr_t)addr / page * sizeof(entry)) < 0)
		entry = 0;
	close(fd);
	return entry;
}

#define PAGEMAP_PRESENT	0x8000000000000000ULL
#define PAGEMAP_UFFD_WP	0x0200000000000000ULL

static void *store(void *addr)
{
	*(volatile char *)addr = 'w';
	return NULL;
}

/* The zero page is write-protected, and a write to it raises an event. */
TEST_F(nosigbus, userfaultfd_wp)
{
	struct uffdio_writeprotect wp = {
		{ (unsigned long)self->addr, self->len }, UFFDIO_WRITEPROTECT_MODE_WP,
	};
	char *addr = self->addr + 4 * page;
	struct uffd_msg msg;
	pthread_t thread;
	int fd;

	if (variant->flags == MAP_SHARED)
		SKIP(return, "userfaultfd refuses it");
	fd = registered(self->addr, self->len, UFFDIO_REGISTER_MODE_WP, UFFD_USER_MODE_ONLY);
	if (fd < 0)
		SKIP(return, "no userfaultfd, or not for this file system");
	ASSERT_EQ(ioctl(fd, UFFDIO_WRITEPROTECT, &wp), 0);
	/* One page after the other: no page ahead may lose the protection. */
	for (int i = 1; i < PAGES; i++) {
		uint64_t entry;

		EXPECT_EQ(read_byte(self->addr + i * page), 0);
		entry = pagemap_of(self->addr + i * page);
		EXPECT_NE(entry & PAGEMAP_PRESENT, 0) TH_LOG("page %d", i);
		EXPECT_NE(entry & PAGEMAP_UFFD_WP, 0) TH_LOG("page %d", i);
	}
	ASSERT_EQ(pthread_create(&thread, NULL, store, addr), 0);
	EXPECT_EQ(next_event(fd, &msg), UFFD_EVENT_PAGEFAULT);
	EXPECT_TRUE(msg.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP);
	EXPECT_EQ(msg.arg.pagefault.address & -page, (unsigned long)addr);
	wp = (struct uffdio_writeprotect){ { (unsigned long)addr, page } };
	EXPECT_EQ(ioctl(fd, UFFDIO_WRITEPROTECT, &wp), 0);
	pthread_join(thread, NULL);
	EXPECT_EQ(read_byte(addr), 'w');
	/* Growth keeps the protection. */
	ASSERT_EQ(ftruncate(self->fd, 4 * page), 0);
	EXPECT_NE(pagemap_of(self->addr + 2 * page) & PAGEMAP_UFFD_WP, 0);
	close(fd);
}

/* KSM must not replace a private page of zeros by the zero page, which growth unmaps. */
TEST_F(nosigbus, is_not_merged)
{
	if (variant->flags == MAP_SHARED)
		SKIP(return, "has no copies");
	if (madvise(self->addr, self->len, MADV_MERGEABLE))
		SKIP(return, "this kernel has no KSM");
	EXPECT_FALSE(smaps_has(self->addr, " mg"));
	ASSERT_EQ(madvise(self->addr, self->len, MADV_SIGBUS), 0);
	ASSERT_EQ(madvise(self->addr, self->len, MADV_MERGEABLE), 0);
	EXPECT_TRUE(smaps_has(self->addr, " mg"));
	ASSERT_EQ(madvise(self->addr, self->len, MADV_NOSIGBUS), 0);
	EXPECT_FALSE(smaps_has(self->addr, " mg"));
}

static void expect_refused(struct __test_metadata *_metadata, int fd, size_t len, int flags)
{
	char *addr = mmap(NULL, len, PROT_READ, flags, fd, 0);

	if (addr == MAP_FAILED)
		return;
	EXPECT_EQ(madvise(addr, len, MADV_NOSIGBUS), -1);
	EXPECT_EQ(errno, EINVAL);
	munmap(addr, len);
}

TEST(what_has_no_size_is_refused)
{
	char *addr;
	int fd;

	page = sysconf(_SC_PAGESIZE);
	/* Where there is such a thing, and memory for it. */
	fd = memfd_create("nosigbus", MFD_CLOEXEC | MFD_HUGETLB);
	if (fd >= 0) {
		expect_refused(_metadata, fd, 2UL << 20, MAP_SHARED | MAP_NORESERVE);
		close(fd);
	}
	fd = open("/dev/zero", O_RDWR | O_CLOEXEC);
	ASSERT_GE(fd, 0);
	expect_refused(_metadata, fd, page, MAP_PRIVATE);
	close(fd);
	expect_refused(_metadata, -1, page, MAP_PRIVATE | MAP_ANONYMOUS);
	expect_refused(_metadata, -1, page, MAP_SHARED | MAP_ANONYMOUS);

	fd = memfd_create("nosigbus", MFD_CLOEXEC);
	ASSERT_GE(fd, 0);
	addr = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(addr, MAP_FAILED);
	EXPECT_EQ(madvise(addr, page, MADV_NOSIGBUS), -1);
	EXPECT_EQ(errno, EINVAL);
	munmap(addr, page);
	close(fd);
}

/* The advice fails before it changes anything if one of several mappings cannot have it. */
TEST(all_or_nothing)
{
	int fd = memfd_create("nosigbus", MFD_CLOEXEC);
	char *addr;

	page = sysconf(_SC_PAGESIZE);
	ASSERT_GE(fd, 0);
	addr = mmap(NULL, 2 * page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(addr, MAP_FAILED);
	ASSERT_EQ(mmap(addr, page, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0), addr);
	EXPECT_EQ(madvise(addr, 2 * page, MADV_NOSIGBUS), -1);
	EXPECT_EQ(errno, EINVAL);
	EXPECT_FALSE(smaps_has(addr, " ns"));
	EXPECT_EQ(mprotect(addr, page, PROT_READ | PROT_WRITE), 0);
	munmap(addr, 2 * page);
	close(fd);
}

/* Whether this kernel has the advice, by a mapping that all such kernels accept. */
static bool is_supported(void)
{
	size_t len = sysconf(_SC_PAGESIZE);
	int fd = memfd_create("nosigbus", MFD_CLOEXEC);
	char *addr = mmap(NULL, len, PROT_READ, MAP_PRIVATE, fd, 0);
	bool supported = addr != MAP_FAILED && !madvise(addr, len, MADV_NOSIGBUS);

	if (addr != MAP_FAILED)
		munmap(addr, len);
	close(fd);
	return supported;
}

int main(int argc, char **argv)
{
	if (!is_supported()) {
		ksft_print_header();
		ksft_exit_skip("this kernel has no MADV_NOSIGBUS\n");
	}
	return test_harness_run(argc, argv);
}
