/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The selftests test two implementations: the module, and, with CORE_MM defined, the series for
 * linux-mm (Documentation/rfc). This header has the differences: how a mapping opts in and out,
 * and what it can and cannot do while it is opted in.
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

/* Any file descriptor: the tests expect one for the device. */
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
/* Opting out lets mprotect() make a shared mapping writable again, and KSM merge its pages. */
#define OPTING_OUT_IS_WHOLE	false
/* Supports what VM_MIXEDMAP prevents: merging of VMAs, mlock, userfaultfd, huge pages, KSM. */
#define IS_ORDINARY_VMA		true
/* Notices every growth of a file, whichever code calls i_size_write(). */
#define SEES_ALL_GROWTH		true
/* There is a device that reports accesses past EOF, and a module that can be unloaded. */
#define IS_MODULE		false
/* Files of cluster file systems, whose i_size is valid only under a cluster lock, can opt in. */
#define OPTS_IN_CLUSTERS	false
/* Results of opting in a mapping that cannot, one that is opted in, and one that is mseal()ed. */
#define REFUSED			(-EINVAL)
#define OPTED_IN_TWICE		0
#define OPTED_IN_SEALED		(-EPERM)
/* Result of opting out a mapping that is not opted in. */
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
