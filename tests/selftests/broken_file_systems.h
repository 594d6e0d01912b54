/* SPDX-License-Identifier: GPL-2.0-only */
/* File systems that selftests.sh has made to fail: full, over quota, on a broken disk. */
#ifndef _NOSIGBUS_BROKEN_FILE_SYSTEMS_H
#define _NOSIGBUS_BROKEN_FILE_SYSTEMS_H

#include "nosigbus_test.h"

#include <linux/dm-ioctl.h>
#include <stddef.h>

/* Quotas do not bind root. */
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
	/* Blocks may have been promised and turn out not to be there. */
	return fsync(fd) ? -errno : ret == -EIO ? -ENOSPC : ret;
}

/* Of which file system it is that the functions below are about, if it is not this one. */
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
			/* What is under way need not be waited for. */
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

/* Has the disk answer reads with an error, or again with what is on it. */
static inline int disk_fails(bool fails)
{
	const char *disks = fs_path("disks");
	char params[PATH_MAX + 64];

	snprintf(params, sizeof(params), "%s/%s 0%s", disks ?: "", backing_name(on_disk),
		 fails ? " 0 60 1 error_reads" : "");
	/* A table is loaded, and taken on when the device goes on. */
	return device_mapper(DM_TABLE_LOAD, fails ? "flakey" : "linear", params, 0) ?:
		device_mapper(DM_DEV_SUSPEND, "", "", 0);
}

/* Has who reads from the disk wait for it, or go on. */
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

/* What is read of the file next comes from the disk. The kernel may hold on to pages for a moment. */
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

/* Breaks the page at addr, in a child: whoever does that is the first to get the signal. */
static inline int poison(void *addr)
{
	signal(SIGBUS, SIG_DFL);
	return madvise(addr, page_size(), MADV_HWPOISON) ? errno : 0;
}

#endif /* _NOSIGBUS_BROKEN_FILE_SYSTEMS_H */
