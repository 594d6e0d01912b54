/* SPDX-License-Identifier: GPL-2.0-only */
/* File systems that selftests.sh has made to fail: full, over quota, on a broken disk. */
#ifndef _NOSIGBUS_BROKEN_FILE_SYSTEMS_H
#define _NOSIGBUS_BROKEN_FILE_SYSTEMS_H

#include "nosigbus_test.h"

#include <linux/dm-ioctl.h>
#include <stddef.h>

/* The UID of an unprivileged user: root may exceed its quota. */
#define NOBODY		65534

/* Writes to a file until the file system refuses it: minus errno. */
static inline int fill_up(int fd)
{
	size_t len = 64 * page_size();
	int ret = 0;
	off_t pos = 0;

	for (; len >= 512; len /= 2)
		do {
			ret = fill(fd, 1, pos, len);
			if (!ret)
				pos += len;
		} while (!ret);
	/* Delayed allocation: write(2) may accept data for which fsync(2) finds no blocks. */
	return fsync(fd) ? -errno : ret == -EIO ? -ENOSPC : ret;
}

/* The file system whose disk the functions below act on. Tests may set another one. */
static enum backing on_disk = DM_EXT4;

/* Does something to its disk. */
static inline int device_mapper(unsigned long command, const char *target, const char *params,
				unsigned int flags)
{
	struct {
		struct dm_ioctl ioctl;
		struct dm_target_spec spec;
		char params[PATH_MAX + 64];
	} arg = {
		.ioctl = {
			.version = { DM_VERSION_MAJOR },
			.data_size = sizeof(arg),
			.data_start = offsetof(typeof(arg), spec),
			.target_count = 1,
			/* A suspend neither freezes the file system nor flushes queued I/O. */
			.flags = DM_SKIP_LOCKFS_FLAG | DM_NOFLUSH_FLAG | flags,
		},
		.spec = { .length = 65536 },
	};
	int control = open("/dev/mapper/control", O_RDWR | O_CLOEXEC), ret;

	if (control < 0)
		return -1;
	snprintf(arg.ioctl.name, sizeof(arg.ioctl.name), "nosigbus-%s", backing_name(on_disk));
	snprintf(arg.spec.target_type, sizeof(arg.spec.target_type), "%s", target);
	snprintf(arg.params, sizeof(arg.params), "%s", params);
	ret = ioctl(control, command, &arg);
	close(control);
	return ret;
}

/* true: the disk fails every read with an error. false: it reads normally again. */
static inline int disk_fails(bool fails)
{
	const char *disks = fs_path("disks");
	char params[PATH_MAX + 64];

	snprintf(params, sizeof(params), "%s/%s 0%s", disks ?: "", backing_name(on_disk),
		 fails ? " 0 60 1 error_reads" : "");
	/* DM_TABLE_LOAD loads the new table. The device starts to use it when it is resumed. */
	return device_mapper(DM_TABLE_LOAD, fails ? "flakey" : "linear", params, 0) ?:
		device_mapper(DM_DEV_SUSPEND, "", "", 0);
}

/* true: suspends the disk, so that reads from it block. false: resumes it. */
static inline int disk_waits(bool waits)
{
	return device_mapper(DM_DEV_SUSPEND, "", "", waits ? DM_SUSPEND_FLAG : 0);
}

/* Whether a page of the file, which is not empty, is in the page cache; -1 if that cannot be told. */
static inline int is_cached(int fd)
{
	unsigned char *resident;
	struct stat st;
	int cached = -1;
	size_t pages;
	void *p;

	if (fstat(fd, &st))
		return -1;
	pages = (st.st_size + page_size() - 1) / page_size();
	resident = calloc(pages, 1);
	p = mmap(NULL, st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (resident && p != MAP_FAILED && !mincore(p, st.st_size, resident)) {
		cached = 0;
		for (size_t i = 0; i < pages; i++)
			cached |= resident[i] & 1;
	}
	if (p != MAP_FAILED)
		munmap(p, st.st_size);
	free(resident);
	return cached;
}

/*
 * Drops the file's pages from the page cache: the next read comes from the disk. It retries,
 * because the kernel may hold references on some pages for a moment.
 */
static inline bool make_all_cold(int fd)
{
	int cached = 1;

	for (int i = 0; cached > 0 && i < 100; i++) {
		if (i)
			usleep(10000);
		if (fsync(fd) || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED))
			return false;
		cached = is_cached(fd);
	}
	return !cached;
}

/*
 * Poisons the page at addr. To be run in a child: the task that calls madvise(MADV_HWPOISON) is
 * the first to get SIGBUS.
 */
static inline int poison(void *addr)
{
	signal(SIGBUS, SIG_DFL);
	return madvise(addr, page_size(), MADV_HWPOISON) ? errno : 0;
}

#endif /* _NOSIGBUS_BROKEN_FILE_SYSTEMS_H */
