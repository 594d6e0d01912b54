/* SPDX-License-Identifier: GPL-2.0-only */
/* What the selftests share: the device, and accesses that report their signal. */
#ifndef _NOSIGBUS_TEST_H
#define _NOSIGBUS_TEST_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/nosigbus.h>

#include "kselftest_harness.h"

static inline size_t page_size(void)
{
	return sysconf(_SC_PAGESIZE);
}

static sigjmp_buf access_failed;

static void on_signal(int sig)
{
	siglongjmp(access_failed, sig);
}

static inline void catch_signals(void)
{
	struct sigaction sa = { .sa_handler = on_signal };

	sigaction(SIGBUS, &sa, NULL);
	sigaction(SIGSEGV, &sa, NULL);
}

/* The byte at p, or minus the signal that reading it raised. */
static inline int read_byte(const volatile void *p)
{
	int sig = sigsetjmp(access_failed, 1);

	if (sig)
		return -sig;
	return *(const volatile unsigned char *)p;
}

/* 0, or minus the signal that writing the byte at p raised. */
static inline int write_byte(volatile void *p, unsigned char byte)
{
	int sig = sigsetjmp(access_failed, 1);

	if (sig)
		return -sig;
	*(volatile unsigned char *)p = byte;
	return 0;
}

/* 0 if all len bytes at p equal byte; otherwise the offset of the first that does not, plus 1. */
static inline size_t differs(const void *p, int byte, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (read_byte((const char *)p + i) != byte)
			return i + 1;
	return 0;
}

static inline int open_device(void)
{
	return open("/dev/nosigbus", O_RDWR | O_CLOEXEC);
}

/* NOSIGBUS_ENABLE: 0, or minus errno. */
static inline int enable(int device, const void *addr, size_t len)
{
	struct nosigbus_enable request = {
		.addr = (unsigned long)addr,
		.len = len,
	};

	return ioctl(device, NOSIGBUS_ENABLE, &request) ? -errno : 0;
}

enum backing { MEMFD, TMPFS, EXT4 };

/* A new, empty, unlinked file; -1 if that fails. run.sh has made the directories. */
static inline int new_file(enum backing backing)
{
	const char *dir = getenv(backing == TMPFS ? "NOSIGBUS_TMPFS" : "NOSIGBUS_EXT4");
	char path[PATH_MAX];
	int fd;

	if (backing == MEMFD)
		return memfd_create("nosigbus", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (!dir) {
		fprintf(stderr, "# no directory to test in: run tests/selftests/run.sh\n");
		return -1;
	}
	snprintf(path, sizeof(path), "%s/selftest-XXXXXX", dir);
	fd = mkostemp(path, O_CLOEXEC);
	if (fd >= 0)
		unlink(path);
	return fd;
}

/* The exit status of a child that has run fn(arg); 128 plus the signal if one killed it. */
static inline int in_child(int (*fn)(void *arg), void *arg)
{
	int status;
	pid_t pid = fork();

	if (pid < 0)
		return -1;
	if (!pid)
		_exit(fn(arg));
	if (waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

#endif /* _NOSIGBUS_TEST_H */
