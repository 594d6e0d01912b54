/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Of the two implementations that the selftests are for, what makes a difference to them: how a
 * mapping opts in and out, and what it can and cannot do then. The module; with CORE_MM, the series
 * for linux-mm (Documentation/rfc).
 */
#ifndef _NOSIGBUS_IMPLEMENTATION_H
#define _NOSIGBUS_IMPLEMENTATION_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <linux/nosigbus.h>

#ifdef CORE_MM

#define MADV_NOSIGBUS		104
#define MADV_SIGBUS		105

/* A file descriptor, as the tests have one for the device. */
static inline int open_device(void)
{
	return open("/dev/null", O_RDWR | O_CLOEXEC);
}

/* 0, or minus errno. */
static inline int enable(int device, const void *addr, size_t len)
{
	(void)device;
	return madvise((void *)addr, len, MADV_NOSIGBUS) ? -errno : 0;
}

/* 0, or minus errno. */
static inline int disable(int device, const void *addr, size_t len)
{
	(void)device;
	return madvise((void *)addr, len, MADV_SIGBUS) ? -errno : 0;
}

#define OPTS_IN_SHARED_WRITE	false
/* Once it has opted out, a shared mapping can be made writable, and KSM may have what it might have. */
#define OPTING_OUT_IS_WHOLE	false
/* Has what VM_MIXEDMAP rules out: VMAs that merge, mlock, userfaultfd, huge pages, KSM. */
#define IS_ORDINARY_VMA		true
/* Growth by whatever has called i_size_write(). */
#define SEES_ALL_GROWTH		true
/* There is a device that tells of accesses past EOF, and a module that can be unloaded. */
#define IS_MODULE		false
/* Files whose size is right only with a lock of a cluster. */
#define OPTS_IN_CLUSTERS	false
/* What opting in says to what cannot, and to what has. */
#define REFUSED			(-EINVAL)
#define OPTED_IN_TWICE		0
#define OPTED_IN_SEALED		(-EPERM)
/* And opting out, to what has not opted in. */
#define OPTED_OUT_TWICE		0

#else

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

/* NOSIGBUS_DISABLE: 0, or minus errno. */
static inline int disable(int device, const void *addr, size_t len)
{
	struct nosigbus_disable request = {
		.addr = (unsigned long)addr,
		.len = len,
	};

	return ioctl(device, NOSIGBUS_DISABLE, &request) ? -errno : 0;
}

#define OPTS_IN_SHARED_WRITE	true
#define OPTING_OUT_IS_WHOLE	true
#define IS_ORDINARY_VMA		false
#define SEES_ALL_GROWTH		false
#define IS_MODULE		true
#define OPTS_IN_CLUSTERS	true
#define REFUSED			(-EOPNOTSUPP)
#define OPTED_IN_TWICE		(-EBUSY)
#define OPTED_IN_SEALED		0
#define OPTED_OUT_TWICE		(-ENOENT)

#endif

#endif /* _NOSIGBUS_IMPLEMENTATION_H */
