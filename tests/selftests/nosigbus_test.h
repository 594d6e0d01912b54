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
#include <time.h>
#include <unistd.h>

#include "implementation.h"
#include "kselftest_harness.h"

static inline size_t page_size(void)
{
	return sysconf(_SC_PAGESIZE);
}

/* What a PMD maps, in bytes. A page table is one page, with 8 bytes for each PTE. */
#define HUGE_PAGE	((long)(page_size() / 8 * page_size()))

/* An environment variable as a number; if it is not set, or empty, otherwise. */
static inline long number_of(const char *variable, long otherwise)
{
	const char *value = getenv(variable);

	return value && *value ? strtol(value, NULL, 0) : otherwise;
}

/* The time by CLOCK_MONOTONIC, in seconds. */
static inline double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

/* What a system call has returned, or minus errno. */
static inline long result(long ret)
{
	return ret == -1 ? -errno : ret;
}

/* Where the handler jumps to after an access has raised a signal; the siginfo of that signal. */
static _Thread_local sigjmp_buf access_failed;
static _Thread_local siginfo_t last_signal;

static void on_signal(int sig, siginfo_t *info, void *context)
{
	(void)context;
	last_signal = *info;
	siglongjmp(access_failed, sig);
}

static inline void catch_signals(void)
{
	/* The handler leaves by siglongjmp(). With SA_NODEFER the signal is not left blocked. */
	struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_NODEFER };

	sigaction(SIGBUS, &sa, NULL);
	sigaction(SIGSEGV, &sa, NULL);
}

/* The byte at p, or minus the signal that reading it raised. */
static inline int read_byte(const volatile void *p)
{
	int sig = sigsetjmp(access_failed, 0);

	if (sig)
		return -sig;
	return *(const volatile unsigned char *)p;
}

/* 0, or minus the signal that writing the byte at p raised. */
static inline int write_byte(volatile void *p, unsigned char byte)
{
	int sig = sigsetjmp(access_failed, 0);

	if (sig)
		return -sig;
	*(volatile unsigned char *)p = byte;
	return 0;
}

/* 0 if all len bytes at p equal byte; otherwise the offset of the first that does not, plus 1. */
static inline size_t differs(const void *p, int byte, size_t len)
{
	const volatile unsigned char *bytes = p;
	volatile size_t i = 0;

	if (sigsetjmp(access_failed, 0))
		return i + 1;
	for (; i < len; i++)
		if (bytes[i] != byte)
			return i + 1;
	return 0;
}

/* How many of a mapping's pages, from first up to and without end, are byte all over. */
static inline int pages_of(int byte, const char *addr, int first, int end)
{
	size_t size = page_size();
	int pages = 0;

	for (int i = first; i < end; i++)
		pages += !differs(addr + i * size, byte, size);
	return pages;
}

/* The three classes of mappings that design.rst tells apart. */
enum class { PRIVATE, SHARED_READ, SHARED_WRITE };

/* The last class whose mappings can opt in. */
#define LAST_CLASS	(OPTS_IN_SHARED_WRITE ? SHARED_WRITE : SHARED_READ)

static inline int class_prot(enum class class)
{
	return class == SHARED_READ ? PROT_READ : PROT_READ | PROT_WRITE;
}

static inline int class_flags(enum class class)
{
	return class == PRIVATE ? MAP_PRIVATE : MAP_SHARED;
}

/* A mapping of a file from its start; MAP_FAILED if that fails. */
static inline char *map_file(enum class class, int fd, size_t len)
{
	return mmap(NULL, len, class_prot(class), class_flags(class), fd, 0);
}

/* What a file is on. selftests.sh has made the file systems. */
enum backing {
	MEMFD, TMPFS, TMPFS_HUGE, EXT4, XFS, BTRFS, P9,
	/* Created in the upper layer; in the lower layer, then copied up; in the lower layer. */
	OVERLAY, OVERLAY_COPIED_UP, OVERLAY_LOWER,
	/* Two small ones, to be filled; with user quotas; two on disks that can be made to fail. */
	SMALL_TMPFS, SMALL_EXT4, QUOTA_TMPFS, DM_EXT4, DM_GFS2,
};

#define BACKING_DIR_OVERLAY	"overlay"
#define BACKING_DIR_LOWER	"ext4/overlay/lower"

/* The name that selftests.sh uses for it. */
static inline const char *backing_name(enum backing backing)
{
	static const char * const names[] = {
		[MEMFD] = "memfd", [TMPFS] = "tmpfs", [TMPFS_HUGE] = "tmpfs-huge",
		[EXT4] = "ext4", [XFS] = "xfs", [BTRFS] = "btrfs", [P9] = "9p",
		[OVERLAY] = BACKING_DIR_OVERLAY, [OVERLAY_COPIED_UP] = BACKING_DIR_OVERLAY,
		[OVERLAY_LOWER] = BACKING_DIR_OVERLAY, [SMALL_TMPFS] = "tmpfs-small",
		[SMALL_EXT4] = "ext4-small", [QUOTA_TMPFS] = "tmpfs-quota", [DM_EXT4] = "ext4-dm",
		[DM_GFS2] = "gfs2-dm",
	};

	return names[backing];
}

/* The file system of this name, below the directory that selftests.sh has made; NULL without it. */
static inline const char *fs_path(const char *name)
{
	static char path[PATH_MAX];
	const char *dir = getenv("NOSIGBUS_FS");

	if (!dir) {
		fprintf(stderr, "# no file systems to test on: run tests/guest/selftests.sh\n");
		return NULL;
	}
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

/*
 * The reason why the kernel or the machine lacks the feature of this name, as selftests.sh has
 * recorded it. NULL: the feature has to be there.
 */
static inline const char *why_no(const char *name)
{
	static char reason[128];
	char path[PATH_MAX];
	FILE *file;

	snprintf(path, sizeof(path), "%s/lacks/%s", getenv("NOSIGBUS_FS") ?: "", name);
	file = fopen(path, "re");
	if (!file)
		return NULL;
	if (!fgets(reason, sizeof(reason), file))
		snprintf(reason, sizeof(reason), "%s is lacking", name);
	reason[strcspn(reason, "\n")] = 0;
	fclose(file);
	return reason;
}

/* Skips the test if there is a reason, and then does not return. FIXTURE_SETUP may call it, too. */
static inline void skip_if(struct __test_metadata *_metadata, const char *reason)
{
	if (!reason)
		return;
	SKIP(, "%s", reason);
	/* This does nothing if the setup is not complete. */
	if (_metadata->teardown_fn)
		_metadata->teardown_fn(false, _metadata, _metadata->self, _metadata->variant);
	_exit(KSFT_SKIP);
}

/* Skips the test if the kernel or the machine lacks the feature of this name. */
static inline void need(struct __test_metadata *_metadata, const char *name)
{
	skip_if(_metadata, why_no(name));
}

/* Skips the test if mappings of this class cannot opt in. */
static inline void need_class(struct __test_metadata *_metadata, enum class class)
{
	skip_if(_metadata, class > LAST_CLASS ? "writable shared mappings do not opt in" : NULL);
}

static inline void need_backing(struct __test_metadata *_metadata, enum backing backing)
{
	need(_metadata, backing_name(backing));
}

/*
 * Opens a file of new_file() again, like a program that maps it: a file in the lower layer is
 * opened through the overlay.
 */
static inline int open_again(enum backing backing, int fd, int flags)
{
	char path[PATH_MAX], *lower;
	ssize_t len;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (backing == OVERLAY_LOWER || backing == OVERLAY_COPIED_UP) {
		char name[PATH_MAX];

		len = readlink(path, name, sizeof(name) - 1);
		if (len < 0)
			return -1;
		name[len] = 0;
		lower = strstr(name, BACKING_DIR_LOWER);
		if (lower)
			snprintf(path, sizeof(path), "%.*s" BACKING_DIR_OVERLAY "%s",
				 (int)(lower - name), name, lower + strlen(BACKING_DIR_LOWER));
	}
	return open(path, flags | O_CLOEXEC);
}

/*
 * Seals a memfd against writing: 0, or minus errno. Retries on EBUSY for 30 seconds, because the
 * seal also fails with EBUSY while memory reclaim holds a reference on one of the pages.
 */
static inline int seal_writing(int fd)
{
	int ret = -EBUSY;

	for (int try = 0; ret == -EBUSY && try < 300; try++) {
		if (try)
			usleep(100000);
		ret = fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) ? -errno : 0;
	}
	return ret;
}

/*
 * A new, empty file, open for reading and writing; -1 if that fails. *path is its
 * name, to be freed; NULL for a memfd.
 */
static inline int new_named_file(enum backing backing, char **path)
{
	const char *dir;
	int fd, up;

	*path = NULL;
	if (backing == MEMFD)
		return memfd_create("nosigbus", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	dir = fs_path(backing == OVERLAY_COPIED_UP || backing == OVERLAY_LOWER ?
		      BACKING_DIR_LOWER : backing_name(backing));
	if (!dir || asprintf(path, "%s/selftest-XXXXXX", dir) < 0)
		return -1;
	fd = mkostemp(*path, O_CLOEXEC);
	if (fd >= 0 && backing == OVERLAY_COPIED_UP) {
		up = open_again(backing, fd, O_RDWR);
		close(fd);
		fd = up;
	}
	return fd;
}

/*
 * Whether a file can be unlinked while it is open. It cannot on 9p, whose server finds files by
 * name, nor in the lower layer of an overlay.
 */
static inline bool may_be_unnamed(enum backing backing)
{
	return backing != P9 && backing != OVERLAY_LOWER;
}

/* The same. The file is unlinked, if may_be_unnamed(). */
static inline int new_file(enum backing backing)
{
	char *path;
	int fd = new_named_file(backing, &path);

	if (fd >= 0 && path && may_be_unnamed(backing))
		unlink(path);
	free(path);
	return fd;
}

/* Writes len times byte at pos: 0, or minus errno. */
static inline int fill(int fd, int byte, off_t pos, size_t len)
{
	char *bytes = malloc(len);
	ssize_t ret;

	if (!bytes)
		return -ENOMEM;
	memset(bytes, byte, len);
	ret = pwrite(fd, bytes, len, pos);
	free(bytes);
	return ret < 0 ? -errno : (size_t)ret == len ? 0 : -EIO;
}

/* The state of a thread, as /proc has it: 'D' if only a fatal signal or nothing interrupts it. */
static inline char thread_state(pid_t tid)
{
	char path[64], line[256] = "", *paren;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	if (read(fd, line, sizeof(line) - 1) < 0)
		line[0] = 0;
	close(fd);
	paren = strrchr(line, ')');
	return paren && paren[1] ? paren[2] : 0;
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
